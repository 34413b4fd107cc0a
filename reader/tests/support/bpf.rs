//! A real ring with a real producer: maps made and pinned by system call, and a small program that
//! copies its input into the ring when it is run. What the kernel side does, without the kernel side.

use std::{
    ffi::CString,
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use abi::{DomainName, Fold, FoldKey, Ledger, Noted, Record};

/// `enum bpf_cmd`.
#[derive(Clone, Copy)]
enum Command {
    MapCreate = 0,
    MapUpdate = 2,
    ProgLoad = 5,
    ObjPin = 6,
    ProgTestRun = 10,
}

/// `enum bpf_map_type`.
#[derive(Clone, Copy)]
enum MapType {
    Hash = 1,
    Array = 2,
    Ring = 27,
}

/// `BPF_PROG_TYPE_SOCKET_FILTER`.
const SOCKET_FILTER: u32 = 1;
/// `BPF_RB_NO_WAKEUP`: how the kernel side submits most records.
const NO_WAKEUP: i32 = 1;
/// A test run takes an Ethernet frame, and hides its header from a socket filter.
const ETHERNET: usize = 14;

/// `bpf(2)`; the attribute is a list of 32-bit words, as the kernel lays its unions out.
fn bpf(command: Command, mut attribute: Vec<u32>) -> io::Result<i64> {
    attribute.resize(36, 0);
    // SAFETY: the pointer is valid for the length given, and every address inside comes from a
    // buffer that lives until the caller has returned.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command as i64, attribute.as_mut_ptr(), attribute.len() * 4) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn address<T>(of: *const T) -> [u32; 2] {
    let address = of as u64;
    [address as u32, (address >> 32) as u32]
}

fn words(parts: &[&[u32]]) -> Vec<u32> {
    parts.concat()
}

fn descriptor(number: i64) -> OwnedFd {
    // SAFETY: `bpf` just returned it, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(number).unwrap()) }
}

fn number(of: &OwnedFd) -> u32 {
    of.as_raw_fd().cast_unsigned()
}

fn create(kind: MapType, key: usize, value: usize, entries: u32) -> OwnedFd {
    let made = bpf(Command::MapCreate, vec![kind as u32, key as u32, value as u32, entries]);
    descriptor(made.unwrap_or_else(|error| panic!("cannot make a map: {error}")))
}

fn update<K, V>(map: &OwnedFd, key: &K, value: &V) {
    bpf(Command::MapUpdate, words(&[&[number(map), 0], &address(key), &address(value)])).unwrap();
}

fn pin(map: &OwnedFd, path: &Path) {
    let text = CString::new(path.to_str().unwrap()).unwrap();
    bpf(Command::ObjPin, words(&[&address(text.as_ptr()), &[number(map)]])).unwrap();
}

/// A pin directory of its own; its pins are removed on drop.
pub struct Pins {
    pub dir: PathBuf,
}

impl Pins {
    /// A directory without pins.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("reader-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let dir = Path::new("/sys/fs/bpf").join(name);
        fs::create_dir(&dir).unwrap();
        Self { dir }
    }

    /// Pins an ABI version and an empty ring of `bytes`; returns what writes to it.
    pub fn ring(&self, version: u32, bytes: u32) -> Ring {
        let array = create(MapType::Array, 4, 4, 1);
        update(&array, &0_u32, &version);
        pin(&array, &self.dir.join(abi::pin::ABI_VERSION));
        let ring = create(MapType::Ring, 0, 0, bytes);
        for (name, key, value) in [
            (abi::pin::FOLDS, size_of::<FoldKey>(), size_of::<Fold>()),
            (abi::pin::FOLD_READINGS, size_of::<FoldKey>(), size_of::<Noted>()),
            (abi::pin::LEDGER, size_of::<u64>(), size_of::<Ledger>()),
        ] {
            pin(&create(MapType::Hash, key, value, 8), &self.dir.join(name));
        }
        // Last, because its reader opens all of them.
        pin(&ring, &self.dir.join(abi::pin::EVENTS));
        Ring { ring }
    }

    /// Pins a table of one name.
    pub fn name(&self, domain: u32, text: &str) {
        let mut name =
            DomainName { cgroup_id: 4242, len: text.len() as u32, pad: 0, name: [0; abi::NAME_LEN] };
        name.name[..text.len()].copy_from_slice(text.as_bytes());
        let table = create(MapType::Hash, 4, size_of::<DomainName>(), 8);
        update(&table, &domain, &name);
        pin(&table, &self.dir.join(abi::pin::DOMAIN_NAMES));
    }

    /// Removes every pin.
    pub fn clear(&self) {
        for entry in fs::read_dir(&self.dir).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        self.clear();
        fs::remove_dir(&self.dir).unwrap();
    }
}

/// The producer's end of a ring.
pub struct Ring {
    ring: OwnedFd,
}

impl Ring {
    /// Submits records, in order; the reader is not woken for them.
    pub fn submit(&self, records: impl IntoIterator<Item = Record>) {
        let records: Vec<Record> = records.into_iter().collect();
        let taken = self.try_submit(&mut records.iter().copied());
        assert_eq!(taken as usize, records.len(), "the ring refused an item");
    }

    /// Submits records, in order, until the ring refuses one; returns how many it took.
    pub fn try_submit(&self, records: &mut dyn Iterator<Item = Record>) -> u32 {
        let program = self.program(size_of::<Record>());
        let taken = records.map_while(|record| {
            // SAFETY: `Record` has no padding, so each of its bytes is initialised.
            let bytes: [u8; size_of::<Record>()] = unsafe { std::mem::transmute(record) };
            run(&program, &bytes).then_some(())
        });
        taken.count().try_into().unwrap()
    }

    /// Submits bytes that need not be a record.
    pub fn submit_bytes(&self, bytes: &[u8]) {
        assert!(run(&self.program(bytes.len()), bytes), "the ring refused the item");
    }

    /// `bpf_skb_load_bytes(skb, 0, stack, len)`, then
    /// `return bpf_ringbuf_output(ring, stack, len, NO_WAKEUP)`.
    fn program(&self, len: usize) -> OwnedFd {
        let len = i32::try_from(len).unwrap();
        let stack = -((len + 7) / 8 * 8);
        let program = [
            insn(0xb7, 2, 0, 0),                     // r2 = 0
            insn(0xbf, 3, 10, 0),                    // r3 = r10
            insn(0x07, 3, 0, stack),                 // r3 += stack
            insn(0xb7, 4, 0, len),                   // r4 = len
            insn(0x85, 0, 0, 26),                    // call skb_load_bytes
            insn(0x15, 0, 0, 0) | (1 << 16),         // if r0 == 0 skip the next
            insn(0x95, 0, 0, 0),                     // exit
            insn(0x18, 1, 1, self.ring.as_raw_fd()), // r1 = ring, first half
            0,                                       // second half
            insn(0xbf, 2, 10, 0),                    // r2 = r10
            insn(0x07, 2, 0, stack),                 // r2 += stack
            insn(0xb7, 3, 0, len),                   // r3 = len
            insn(0xb7, 4, 0, NO_WAKEUP),             // r4 = flags
            insn(0x85, 0, 0, 130),                   // call ringbuf_output
            insn(0x95, 0, 0, 0),                     // exit
        ];
        let mut log = vec![0_u8; 65_536];
        let attribute = words(&[
            &[SOCKET_FILTER, program.len() as u32],
            &address(program.as_ptr()),
            &address(c"GPL".as_ptr()),
            &[1, log.len() as u32],
            &address(log.as_mut_ptr().cast_const()),
        ]);
        match bpf(Command::ProgLoad, attribute) {
            Ok(number) => descriptor(number),
            Err(error) => panic!("{error}: {}", String::from_utf8_lossy(&log)),
        }
    }
}

/// `struct bpf_insn` as one number: opcode, registers, offset (none), immediate.
fn insn(code: u8, dst: u8, src: u8, immediate: i32) -> u64 {
    u64::from(code) | u64::from(dst) << 8 | u64::from(src) << 12 | u64::from(immediate.cast_unsigned()) << 32
}

/// One test run over `input`; whether it says that the ring took it.
fn run(program: &OwnedFd, input: &[u8]) -> bool {
    let mut frame = vec![0; ETHERNET];
    frame.extend_from_slice(input);
    let mut attribute = words(&[&[number(program), 0, frame.len() as u32, 0], &address(frame.as_ptr())]);
    attribute.resize(36, 0);
    // SAFETY: as in `bpf`; called here itself because the kernel writes the result into the attribute.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, Command::ProgTestRun as i64, attribute.as_mut_ptr(), attribute.len() * 4)
    };
    assert_eq!(result, 0, "test run: {}", io::Error::last_os_error());
    attribute[1] == 0
}
