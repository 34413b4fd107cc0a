//! A cgroup v2 that ends its processes and itself on drop.

use std::{
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStringExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{FOLDER, WorldError};
use crate::owner::Owner;

/// SIGKILL needs no co-operation, so a process that takes longer than this hangs in the kernel.
const DEATH: Duration = Duration::from_secs(5);

/// One agent's cgroup.
pub struct Cgroup {
    path: PathBuf,
    id: u64,
    procs: OwnedFd,
    /// Whether it is to be removed by whoever made it.
    adopted: bool,
    keep: bool,
}

impl Cgroup {
    /// That of a container's first process, which its runtime made and removes.
    pub fn adopt(mount: &Path, pid: u32) -> Result<Self, WorldError> {
        let path = mount.join(of(&pid.to_string())?);
        let (id, procs) = open(&path)?;
        Ok(Self { path, id, procs, adopted: true, keep: false })
    }

    /// `<mount>/clawker-lab/<owner>/<name>`, which must not exist.
    pub fn create(mount: &Path, name: &str) -> Result<Self, WorldError> {
        let parent = mount.join(FOLDER).join(Owner::current().to_string());
        let path = parent.join(name);
        create_below(&parent, &path)
            .map_err(WorldError::io(format!("create the cgroup {}", path.display())))?;
        match open(&path) {
            Ok((id, procs)) => Ok(Self { path, id, procs, adopted: false, keep: false }),
            Err(error) => {
                remove(&path);
                Err(error)
            }
        }
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its inode number, which is what eBPF calls the cgroup id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// `cgroup.procs`, opened for writing.
    pub fn procs(&self) -> BorrowedFd<'_> {
        self.procs.as_fd()
    }

    /// Leaves it in place on drop.
    pub fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        kill_all(&self.path);
        if self.adopted {
            return;
        }
        remove(&self.path);
        // Goes with the last world of this process, and the folder above with the last process.
        for parent in self.path.ancestors().skip(1).take(2) {
            let _ = fs::remove_dir(parent);
        }
    }
}

/// Makes `path` below `parent`. Other worlds of this process remove `parent` when it is empty, so
/// it may vanish in between.
pub fn create_below(parent: &Path, path: &Path) -> io::Result<()> {
    loop {
        fs::create_dir_all(parent)?;
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
    }
}

/// Where cgroup v2 is mounted.
pub fn mount() -> Result<PathBuf, WorldError> {
    let table = fs::read("/proc/self/mountinfo").map_err(WorldError::io("read /proc/self/mountinfo"))?;
    find_mount(&table).ok_or(WorldError::NoCgroup2)
}

/// The cgroup of this process.
pub fn own() -> Result<PathBuf, WorldError> {
    Ok(mount()?.join(of("self")?))
}

/// The cgroup of a process, below the mount.
fn of(process: &str) -> Result<PathBuf, WorldError> {
    let file = format!("/proc/{process}/cgroup");
    let table = fs::read_to_string(&file).map_err(WorldError::io(format!("read {file}")))?;
    // Version 2 is hierarchy 0 without controllers.
    table.lines().find_map(|line| line.strip_prefix("0::/")).map(PathBuf::from).ok_or(WorldError::NoCgroup2)
}

/// A cgroup's number, and its list of processes to be written to.
fn open(path: &Path) -> Result<(u64, OwnedFd), WorldError> {
    let open = || -> io::Result<(u64, OwnedFd)> {
        let id = fs::metadata(path)?.ino();
        let procs = fs::OpenOptions::new().write(true).open(path.join("cgroup.procs"))?;
        Ok((id, procs.into()))
    };
    open().map_err(WorldError::io(format!("open the cgroup {}", path.display())))
}

/// Moves a process into the cgroup of a `cgroup.procs`.
pub fn move_to(procs: &Path, pid: u32) -> Result<(), WorldError> {
    fs::write(procs, pid.to_string())
        .map_err(WorldError::io(format!("move process {pid} into {}", procs.display())))
}

/// The first cgroup2 mount whose root is the hierarchy's: `id parent dev root point options… - type …`.
fn find_mount(table: &[u8]) -> Option<PathBuf> {
    table.split(|&byte| byte == b'\n').find_map(|line| {
        let mut fields = line.split(|&byte| byte == b' ');
        let point = fields.nth(4)?;
        let file_system = fields.skip_while(|field| *field != b"-").nth(1)?;
        (file_system == b"cgroup2").then(|| PathBuf::from(std::ffi::OsString::from_vec(unescape(point))))
    })
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = (byte == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(value) => {
                out.push(value);
                rest = &tail[3..];
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

/// Kills every process in `cgroup` and below, and waits until it is empty. Returns how many it found.
pub fn kill_all(cgroup: &Path) -> usize {
    let found = processes(cgroup).len();
    let deadline = Instant::now() + DEATH;
    // cgroup.kill came with Linux 5.14; before, signal until no new one appears.
    while fs::write(cgroup.join("cgroup.kill"), "1").is_err() && Instant::now() < deadline {
        let pids = processes(cgroup);
        if pids.is_empty() {
            break;
        }
        for pid in pids {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
    wait_empty(cgroup, deadline);
    found
}

fn wait_empty(cgroup: &Path, deadline: Instant) {
    let Ok(events) = fs::File::open(cgroup.join("cgroup.events")) else {
        return;
    };
    loop {
        // A read from the start also arms the next POLLPRI.
        let mut text = [0_u8; 256];
        let Ok(len) = std::os::unix::fs::FileExt::read_at(&events, &mut text, 0) else {
            return;
        };
        if !text[..len].starts_with(b"populated 1") {
            return;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        if left.is_zero() || matches!(poll(&mut fds, timeout), Err(errno) if errno != Errno::EINTR) {
            return;
        }
    }
}

fn processes(cgroup: &Path) -> Vec<Pid> {
    let own = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<_> = own.lines().filter_map(|line| line.parse().ok()).map(Pid::from_raw).collect();
    pids.extend(children(cgroup).iter().flat_map(|child| processes(child)));
    pids
}

fn children(cgroup: &Path) -> Vec<PathBuf> {
    fs::read_dir(cgroup)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Removes an empty cgroup and those below it; errors mean that it is gone, or still in use.
pub fn remove(cgroup: &Path) {
    for child in children(cgroup) {
        remove(&child);
    }
    let _ = fs::remove_dir(cgroup);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_mount_beside_version_1() {
        let table = b"37 31 0:34 / /sys/fs/cgroup/freezer rw shared:9 - cgroup cgroup rw,freezer\n\
                      41 31 0:38 / /sys/fs/a\\040b rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(find_mount(table), Some(PathBuf::from("/sys/fs/a b")));
        assert_eq!(find_mount(b"37 31 0:34 / /x rw - cgroup cgroup rw\n"), None);
    }
}
