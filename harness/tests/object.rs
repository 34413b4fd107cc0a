//! The object that ships stays within Linux 5.10: no fetching atomics.

use object::{Object as _, ObjectSection as _, SectionKind};

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

#[test]
fn the_scan_knows_what_it_looks_for() {
    let xadd = [0xdb, 0x21, 0, 0, 0, 0, 0, 0];
    let fetch_add = [0xdb, 0x21, 0, 0, 1, 0, 0, 0];
    let exchange = [0xc3, 0x21, 0, 0, 0xe1, 0, 0, 0];
    let compare = [0xdb, 0x21, 0, 0, 0xf1, 0, 0, 0];
    let load = [LOAD_64, 1, 0, 0, 0, 0, 0, 0];
    assert_eq!(fetching(&xadd), Vec::<usize>::new());
    assert_eq!(fetching(&[fetch_add, exchange, compare].concat()), [0, 8, 16]);
    // The second slot of a 64-bit load is data, whatever it looks like.
    assert_eq!(fetching(&[load, fetch_add, xadd].concat()), Vec::<usize>::new());
}
