//! The object that ships stays within Linux 5.10: no fetching atomics, no helper that is newer, and no question
//! for the calling process where none can be asked.

use object::{Object as _, ObjectSection as _, SectionKind};

/// `BPF_JMP | BPF_CALL`; with source register 0, of the helper whose number follows.
const CALL: u8 = 0x85;
/// The last helper of Linux 5.10, `bpf_redirect_peer` (its `include/uapi/linux/bpf.h`); timers came in 5.15.
const LAST_HELPER: i32 = 155;
/// Helpers that ask for the caller: `bpf_get_current_pid_tgid`, `_uid_gid`, `_comm`, `_task`, `_cgroup_id` and
/// `_ancestor_cgroup_id`.
const CALLER: [i32; 6] = [14, 15, 16, 35, 80, 123];
/// Sections of what runs for packets, whoever is current then, and of what all programs share.
const FOR_PACKETS: [&str; 3] = ["sockops", "cgroup/skb", ".text"];

/// `BPF_STX | BPF_ATOMIC`, double word and word.
const ATOMIC: [u8; 2] = [0xdb, 0xc3];
/// `BPF_LD | BPF_IMM | BPF_DW`: takes two slots.
const LOAD_64: u8 = 0x18;
/// Bit of an atomic's operation that returns the old value; also part of xchg and cmpxchg.
const FETCH: i32 = 0x01;

/// Offsets of fetching atomics in a section's instructions.
fn fetching(code: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut slots = code.chunks_exact(8).enumerate();
    while let Some((index, slot)) = slots.next() {
        let operation = i32::from_le_bytes([slot[4], slot[5], slot[6], slot[7]]);
        if ATOMIC.contains(&slot[0]) && operation & FETCH != 0 {
            found.push(index * 8);
        }
        if slot[0] == LOAD_64 {
            slots.next();
        }
    }
    found
}

#[test]
fn the_object_has_no_fetching_atomics() {
    let file = object::File::parse(manager::OBJECT).expect("an ELF object");
    let (mut sections, mut atomics) = (0, 0);
    for section in file.sections().filter(|section| section.kind() == SectionKind::Text) {
        let code = section.data().expect("section data");
        let name = section.name().unwrap_or("?").to_owned();
        assert_eq!(fetching(code), Vec::<usize>::new(), "section {name}: these need Linux 5.12");
        sections += 1;
        atomics += code.chunks_exact(8).filter(|slot| ATOMIC.contains(&slot[0])).count();
    }
    // The counters are atomics, so a scan that meets none looked at the wrong thing.
    assert!(sections > 0 && atomics > 0, "{sections} sections, {atomics} atomics");
}

/// Numbers of the helpers that a section's instructions call.
fn helpers(code: &[u8]) -> Vec<i32> {
    let mut found = Vec::new();
    let mut slots = code.chunks_exact(8);
    while let Some(slot) = slots.next() {
        if slot[0] == CALL && slot[1] >> 4 == 0 {
            found.push(i32::from_le_bytes([slot[4], slot[5], slot[6], slot[7]]));
        }
        if slot[0] == LOAD_64 {
            slots.next();
        }
    }
    found
}

#[test]
fn the_object_asks_for_nothing_that_the_floor_lacks() {
    let file = object::File::parse(manager::OBJECT).expect("an ELF object");
    let (mut for_packets, mut of_callers) = (0, 0);
    for section in file.sections().filter(|section| section.kind() == SectionKind::Text) {
        let name = section.name().unwrap_or("?");
        let helpers = helpers(section.data().expect("section data"));
        let newer: Vec<_> = helpers.iter().filter(|helper| **helper > LAST_HELPER).collect();
        assert!(newer.is_empty(), "section {name}: helpers {newer:?} are not in Linux 5.10");
        let of_caller: Vec<_> = helpers.iter().filter(|helper| CALLER.contains(helper)).collect();
        let may_ask = !FOR_PACKETS.contains(&name);
        assert!(may_ask || of_caller.is_empty(), "section {name}: helpers {of_caller:?} ask for the caller");
        for_packets += usize::from(!may_ask);
        of_callers += of_caller.len();
    }
    // Calls do ask for their caller, so a scan that meets none looked at the wrong thing.
    assert_eq!((for_packets, of_callers > 0), (FOR_PACKETS.len(), true));
}

#[test]
fn the_scan_knows_what_it_looks_for() {
    let xadd = [0xdb, 0x21, 0, 0, 0, 0, 0, 0];
    let fetch_add = [0xdb, 0x21, 0, 0, 1, 0, 0, 0];
    let exchange = [0xc3, 0x21, 0, 0, 0xe1, 0, 0, 0];
    let compare = [0xdb, 0x21, 0, 0, 0xf1, 0, 0, 0];
    let load = [LOAD_64, 1, 0, 0, 0, 0, 0, 0];
    assert_eq!(fetching(&xadd), Vec::<usize>::new());
    assert_eq!(fetching(&[fetch_add, exchange, compare].concat()), [0, 8, 16]);
    let helper = [CALL, 0, 0, 0, 14, 0, 0, 0];
    let subprogram = [CALL, 0x10, 0, 0, 14, 0, 0, 0];
    assert_eq!(helpers(&[helper, subprogram, load, helper].concat()), [14]);
    // The second slot of a 64-bit load is data, whatever it looks like.
    assert_eq!(fetching(&[load, fetch_add, xadd].concat()), Vec::<usize>::new());
}
