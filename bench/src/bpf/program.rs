//! Programs of a few instructions.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
};

use abi::Record;

use super::{Command, Counter, WORDS, address, attribute, bpf, descriptor, number};

/// `BPF_PROG_TYPE_SOCKET_FILTER`.
const SOCKET_FILTER: u32 = 1;
/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR`.
const SOCK_ADDR: u32 = 18;
/// A test run takes an Ethernet frame, and hides its header from a socket filter.
const ETHERNET: usize = 14;

/// `struct bpf_insn` as one number: opcode, registers, offset, immediate.
const fn insn(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> u64 {
    code as u64
        | (dst as u64) << 8
        | (src as u64) << 12
        | (offset.cast_unsigned() as u64) << 16
        | (immediate.cast_unsigned() as u64) << 32
}

fn load(kind: u32, attach: u32, program: &[u64]) -> io::Result<OwnedFd> {
    let mut log = vec![0_u8; 65_536];
    let name = [0_u32; 4];
    let words = attribute(&[
        &[kind, program.len() as u32],
        &address(program.as_ptr()),
        &address(c"GPL".as_ptr()),
        &[1, log.len() as u32],
        &address(log.as_mut_ptr().cast_const()),
        &[0, 0],
        &name,
        &[0, attach],
    ]);
    bpf(Command::ProgLoad, &mut { words }).and_then(descriptor).map_err(|error| {
        let told = String::from_utf8_lossy(&log);
        io::Error::new(error.kind(), format!("{error}: {}", told.trim_end_matches('\0')))
    })
}

/// A program at a hook that permits everything: what the hook costs by itself.
pub struct Null {
    program: OwnedFd,
    cgroup: File,
    attach: u32,
}

impl Null {
    /// Attaches one to `connect()` over IPv4 of a cgroup.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn connect4(cgroup: &Path) -> io::Result<Self> {
        Self::attach(cgroup, 10)
    }

    /// Attaches one to `sendto()` over IPv4 of a cgroup.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn sendmsg4(cgroup: &Path) -> io::Result<Self> {
        Self::attach(cgroup, 14)
    }

    fn attach(cgroup: &Path, attach: u32) -> io::Result<Self> {
        let program = load(SOCK_ADDR, attach, &[insn(0xb7, 0, 0, 0, 1), insn(0x95, 0, 0, 0, 0)])?;
        let null = Self { program, cgroup: File::open(cgroup)?, attach };
        bpf(Command::ProgAttach, &mut null.place())?;
        Ok(null)
    }

    /// The program.
    pub const fn program(&self) -> &OwnedFd {
        &self.program
    }

    fn place(&self) -> [u32; WORDS] {
        attribute(&[&[self.cgroup.as_raw_fd().cast_unsigned(), number(&self.program), self.attach]])
    }
}

impl Drop for Null {
    fn drop(&mut self) {
        // It goes with its cgroup at the latest.
        let _ = bpf(Command::ProgDetach, &mut self.place());
    }
}

/// A program that copies its input into a ring when it is run, and wakes the consumer as the shipped programs do:
/// when a quarter of the ring is waiting.
pub struct Producer {
    program: OwnedFd,
    taken: Counter,
    _ring: OwnedFd,
}

impl Producer {
    /// A producer of records for a ring of `bytes`.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn new(ring: OwnedFd, bytes: u32) -> io::Result<Self> {
        let len = size_of::<Record>() as i32;
        let stack = -((len + 7) / 8 * 8);
        let (map, taken) = (ring.as_raw_fd(), Counter::new()?);
        let program = [
            insn(0xb7, 2, 0, 0, 0),                     // r2 = 0
            insn(0xbf, 3, 10, 0, 0),                    // r3 = r10
            insn(0x07, 3, 0, 0, stack),                 // r3 += stack
            insn(0xb7, 4, 0, 0, len),                   // r4 = len
            insn(0x85, 0, 0, 0, 26),                    // call skb_load_bytes
            insn(0x15, 0, 0, 1, 0),                     // if r0 == 0 skip the next
            insn(0x95, 0, 0, 0, 0),                     // exit
            insn(0x18, 1, 1, 0, map),                   // r1 = ring
            0,                                          //
            insn(0xb7, 2, 0, 0, 0),                     // r2 = AVAIL_DATA
            insn(0x85, 0, 0, 0, 134),                   // call ringbuf_query
            insn(0xb7, 4, 0, 0, 1),                     // r4 = NO_WAKEUP
            insn(0xa5, 0, 0, 1, (bytes / 4) as i32),    // if r0 < a quarter skip the next
            insn(0xb7, 4, 0, 0, 2),                     // r4 = FORCE_WAKEUP
            insn(0x18, 1, 1, 0, map),                   // r1 = ring
            0,                                          //
            insn(0xbf, 2, 10, 0, 0),                    // r2 = r10
            insn(0x07, 2, 0, 0, stack),                 // r2 += stack
            insn(0xb7, 3, 0, 0, len),                   // r3 = len
            insn(0x85, 0, 0, 0, 130),                   // call ringbuf_output
            insn(0x55, 0, 0, 4, 0),                     // if r0 != 0 skip the count
            insn(0x18, 1, 2, 0, taken.map.as_raw_fd()), // r1 = &taken
            0,                                          //
            insn(0xb7, 2, 0, 0, 1),                     // r2 = 1
            insn(0xdb, 1, 2, 0, 0),                     // lock *r1 += r2
            insn(0x95, 0, 0, 0, 0),                     // exit
        ];
        Ok(Self { program: load(SOCKET_FILTER, 0, &program)?, taken, _ring: ring })
    }

    /// Runs it `times` over `record`; returns how many of them the ring took since the producer was made.
    ///
    /// # Errors
    /// If the kernel refuses the test run.
    pub fn run(&self, record: &Record, times: u32) -> io::Result<u64> {
        let mut frame = [0; ETHERNET + size_of::<Record>()];
        // SAFETY: `Record` has no padding (`abi`'s test `no_padding`), so each of its bytes is initialised.
        let bytes: [u8; size_of::<Record>()] = unsafe { std::mem::transmute(*record) };
        frame[ETHERNET..].copy_from_slice(&bytes);
        let input = address(frame.as_ptr());
        bpf(
            Command::ProgTestRun,
            &mut attribute(&[&[number(&self.program), 0, frame.len() as u32, 0], &input, &[0, 0, times]]),
        )?;
        Ok(self.taken())
    }

    /// How many records the ring took since the producer was made.
    pub fn taken(&self) -> u64 {
        self.taken.get()
    }
}
