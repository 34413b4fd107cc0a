//! A named network namespace, as `ip netns` makes them, removed on drop.

use std::{
    fs, io,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
};

use nix::{
    fcntl::{Flock, FlockArg},
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};

use super::WorldError;

/// Where `ip netns` looks.
pub const FOLDER: &str = "/run/netns";

/// A network namespace that lives as long as this guard, or as anything in it.
pub struct Netns {
    path: PathBuf,
    fd: OwnedFd,
    keep: bool,
}

impl Netns {
    /// Makes a namespace and moves the calling thread into it, for good: call it from a thread made
    /// for the purpose.
    pub fn create_and_enter(name: &str) -> Result<Self, WorldError> {
        unshare(CloneFlags::CLONE_NEWNET).map_err(WorldError::io("make a network namespace"))?;
        Self::name(name)
    }

    /// Makes a namespace as a container runtime does, in a process of the cgroup whose `cgroup.procs` this is, and moves the
    /// calling thread into it, for good: the kernel's own sockets in it are that cgroup's.
    pub fn create_in(cgroup_procs: BorrowedFd<'_>, name: &str) -> Result<Self, WorldError> {
        let procs = cgroup_procs.as_raw_fd();
        let mut command = Command::new("cat");
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        // SAFETY: write and unshare are async-signal-safe; the descriptor outlives the fork.
        unsafe {
            command.pre_exec(move || {
                // "0" is the writer.
                let written = libc::write(procs, c"0".as_ptr().cast(), 1);
                if written < 0 || libc::unshare(libc::CLONE_NEWNET) < 0 {
                    return Err(io::Error::last_os_error());
                }
                Ok(())
            });
        }
        // Once it is spawned it is there, and waits for an end of its input.
        let mut maker =
            command.spawn().map_err(WorldError::io("start the process that makes a network namespace"))?;
        let entered = Self::enter(maker.id(), name);
        drop(maker.stdin.take());
        maker.wait().map_err(WorldError::io("end the process that made a network namespace"))?;
        entered
    }

    /// Moves the calling thread into the namespace of process `pid`, for good, and names it.
    pub fn enter(pid: u32, name: &str) -> Result<Self, WorldError> {
        let of_process = format!("/proc/{pid}/ns/net");
        let enter = || -> io::Result<()> {
            setns(fs::File::open(&of_process)?, CloneFlags::CLONE_NEWNET)?;
            Ok(())
        };
        enter().map_err(WorldError::io(format!("enter {of_process}")))?;
        Self::name(name)
    }

    /// Names the namespace of the calling thread.
    fn name(name: &str) -> Result<Self, WorldError> {
        prepare_folder().map_err(WorldError::io(format!("prepare {FOLDER}")))?;
        let path = Path::new(FOLDER).join(name);
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(WorldError::io(format!("create {}", path.display())))?;
        let bound =
            mount(Some("/proc/thread-self/ns/net"), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .map_err(io::Error::from)
                .and_then(|()| fs::File::open(&path));
        match bound {
            Ok(file) => Ok(Self { path, fd: file.into(), keep: false }),
            Err(source) => {
                remove(&path);
                Err(WorldError::Io { what: format!("name the namespace {}", path.display()), source })
            }
        }
    }

    /// The namespace, for `setns`.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Its name in the file system.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the name in place on drop.
    pub fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if !self.keep {
            remove(&self.path);
        }
    }
}

/// Takes the name away; the namespace ends with its last user. Errors mean that it is gone already.
pub fn remove(path: &Path) {
    let _ = umount2(path, MntFlags::MNT_DETACH);
    let _ = fs::remove_file(path);
}

/// Makes the folder a shared mount, as `ip netns add` does, so that a name removed here is removed
/// in every mount namespace that copied it.
fn prepare_folder() -> io::Result<()> {
    static DONE: Mutex<bool> = Mutex::new(false);
    let mut done = DONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if *done {
        return Ok(());
    }
    fs::create_dir_all(FOLDER)?;
    // Other processes do the same: without the lock, each would stack a mount on the other's.
    let _lock = Flock::lock(fs::File::open(FOLDER)?, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    let share =
        || mount(None::<&str>, FOLDER, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    if share().is_err() {
        // Not a mount point yet.
        mount(Some(FOLDER), FOLDER, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
        share()?;
    }
    *done = true;
    Ok(())
}
