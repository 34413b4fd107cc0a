//! `bpf(2)` as far as measuring needs it: small programs written by hand, test runs, and the kernel's own
//! statistics of run time.

mod program;

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
    ptr,
};

pub use program::{Null, Producer};

/// `enum bpf_cmd`.
#[derive(Clone, Copy)]
enum Command {
    MapCreate = 0,
    ProgLoad = 5,
    ObjGet = 7,
    ProgAttach = 8,
    ProgDetach = 9,
    ProgTestRun = 10,
    ObjInfo = 15,
    EnableStats = 32,
}

/// The largest attribute that is used here, in 32-bit words.
const WORDS: usize = 36;

/// `bpf(2)`; the attribute is a list of 32-bit words, as the kernel lays its unions out. What the kernel writes into
/// it is there afterwards.
fn bpf(command: Command, attribute: &mut [u32; WORDS]) -> io::Result<i64> {
    // SAFETY: the pointer is valid for the length given, and every address inside comes from a buffer that lives
    // until the caller has returned.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as i64, attribute.as_mut_ptr(), size_of_val(attribute))
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn attribute(parts: &[&[u32]]) -> [u32; WORDS] {
    let mut words = parts.iter().flat_map(|part| part.iter().copied());
    std::array::from_fn(|_| words.next().unwrap_or(0))
}

fn address<T>(of: *const T) -> [u32; 2] {
    let address = of as u64;
    [address as u32, (address >> 32) as u32]
}

fn number(of: &OwnedFd) -> u32 {
    of.as_raw_fd().cast_unsigned()
}

fn descriptor(result: i64) -> io::Result<OwnedFd> {
    let number = i32::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the kernel just returned it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Opens a pinned map or program.
///
/// # Errors
/// If nothing is pinned there.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_encoded_bytes())?;
    bpf(Command::ObjGet, &mut attribute(&[&address(path.as_ptr())])).and_then(descriptor)
}

/// While this lives the kernel takes the time of every program run, which itself costs each run some nanoseconds.
#[expect(dead_code, reason = "a guard")]
pub struct Statistics(OwnedFd);

impl Statistics {
    /// Switches them on.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn enable() -> io::Result<Self> {
        bpf(Command::EnableStats, &mut attribute(&[])).and_then(descriptor).map(Self)
    }
}

/// What the kernel counted of a program since it was loaded, while [`Statistics`] lived.
#[derive(Clone, Copy, Debug, Default)]
pub struct Runs {
    /// Time in it, nanoseconds.
    pub time_ns: u64,
    /// How often it ran.
    pub count: u64,
}

impl Runs {
    /// Reads them.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn of(program: &OwnedFd) -> io::Result<Self> {
        // `struct bpf_prog_info`: `run_time_ns` is at 192, `run_cnt` at 200.
        let mut info = [0_u64; 28];
        let words = attribute(&[&[number(program), size_of_val(&info) as u32], &address(info.as_mut_ptr())]);
        bpf(Command::ObjInfo, &mut { words })?;
        Ok(Self { time_ns: info[24], count: info[25] })
    }

    /// Nanoseconds a run since `earlier`; None if it did not run.
    pub fn mean_since(self, earlier: Self) -> Option<f64> {
        let runs = self.count.checked_sub(earlier.count).filter(|runs| *runs > 0)?;
        Some(self.time_ns.saturating_sub(earlier.time_ns) as f64 / runs as f64)
    }
}

/// A value that a program counts in, mapped.
struct Counter {
    map: OwnedFd,
    value: ptr::NonNull<u64>,
}

// SAFETY: the mapping is shared memory that is only accessed as an atomic.
unsafe impl Send for Counter {}

impl Counter {
    fn new() -> io::Result<Self> {
        const ARRAY: u32 = 2;
        const MMAPABLE: u32 = 1 << 10;
        let map =
            bpf(Command::MapCreate, &mut attribute(&[&[ARRAY, 4, 8, 1, MMAPABLE]])).and_then(descriptor)?;
        // SAFETY: a new mapping of the map's one page, at an address of the kernel's choosing.
        let page = unsafe {
            libc::mmap(ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, map.as_raw_fd(), 0)
        };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { map, value: ptr::NonNull::new(page.cast()).ok_or(io::ErrorKind::AddrNotAvailable)? })
    }

    fn get(&self) -> u64 {
        // SAFETY: mapped until drop, aligned to a page; the program only adds to it atomically.
        unsafe { ptr::read_volatile(self.value.as_ptr()) }
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, of this length, and nobody else has the address.
        unsafe { libc::munmap(self.value.as_ptr().cast(), 4096) };
    }
}
