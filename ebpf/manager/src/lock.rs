//! Locks between processes, and between the threads of one: on a file, held until dropped or until the
//! process ends, however it does.
//!
//! They are open file description locks, which can be asked about without taking them: `status` must not
//! stand in the way of a daemon that starts at that moment.

use std::{
    fs::{self, File, OpenOptions},
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
};

use crate::error::{Error, Result};

/// An exclusive lock.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock on `path`, a file that is made if need be. Waits for it.
    pub(crate) fn take(path: &Path) -> Result<Self> {
        Self::wait(path, &whole())
    }

    /// Takes the lock on what has this number, of all that share the file at `path`. Waits for it.
    pub(crate) fn take_of(path: &Path, number: u64) -> Result<Self> {
        // What is beyond shares the last: it waits for more than it needs to.
        let at = i64::try_from(number).unwrap_or(i64::MAX - 1);
        Self::wait(path, &exclusive(at, 1))
    }

    fn wait(path: &Path, range: &libc::flock) -> Result<Self> {
        if let Some(lock) = Self::attempt(path, range)? {
            return Ok(lock);
        }
        tracing::info!(event = "waiting_for_lock", path = %path.display(), "another ebpf-manager is at work");
        let file = open(path)?;
        loop {
            match fcntl(&file, FcntlArg::F_OFD_SETLKW(range)) {
                Ok(_) => return Ok(Self { file }),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::file(path)(errno.into())),
            }
        }
    }

    /// Takes the lock on `path` unless it is held.
    pub(crate) fn try_take(path: &Path) -> Result<Option<Self>> {
        Self::attempt(path, &whole())
    }

    fn attempt(path: &Path, range: &libc::flock) -> Result<Option<Self>> {
        let file = open(path)?;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(range)) {
            Ok(_) => Ok(Some(Self { file })),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(errno) => Err(Error::file(path)(errno.into())),
        }
    }

    /// The file, for what the lock guards.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Whether somebody holds the lock on `path`.
    pub(crate) fn is_held(path: &Path) -> Result<bool> {
        if !path.exists() {
            return Ok(false);
        }
        let mut lock = whole();
        fcntl(&open(path)?, FcntlArg::F_OFD_GETLK(&mut lock))
            .map_err(|errno| Error::file(path)(errno.into()))?;
        Ok(i32::from(lock.l_type) != libc::F_UNLCK)
    }
}

fn open(path: &Path) -> Result<File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::file(parent))?;
    }
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .read(true)
        .open(path)
        .map_err(Error::file(path))
}

/// The whole file, for nobody else.
fn whole() -> libc::flock {
    exclusive(0, 0)
}

/// Some bytes of it, which need not be there; a length of 0 is all that follow.
fn exclusive(start: i64, length: i64) -> libc::flock {
    // The kernel's constants are small; these fields are 16 bits wide.
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: length,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    #[test]
    fn what_shares_a_file_has_locks_of_its_own() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.lock");
        let one = Lock::take_of(&path, 7).expect("free");
        let _other = Lock::take_of(&path, 8).expect("free, too");
        let _last = Lock::take_of(&path, u64::MAX).expect("and this");
        let held = |number| Lock::attempt(&path, &exclusive(number, 1)).expect("asked").is_none();
        assert!(held(7) && held(8) && !held(9));
        drop(one);
        assert!(!held(7) && held(8));
    }

    #[test]
    fn one_holds_it_and_the_next_waits_without_those_who_ask_in_the_way() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("below").join("x.lock");
        assert!(!Lock::is_held(&path).expect("no file"));
        let first = Lock::take(&path).expect("free");
        assert!(Lock::is_held(&path).expect("asked"));
        assert!(Lock::try_take(&path).expect("asked").is_none());
        let (sender, taken) = mpsc::channel();
        let waiter = thread::spawn({
            let path = path.clone();
            move || {
                let lock = Lock::take(&path).expect("in the end");
                sender.send(()).expect("somebody listens");
                lock
            }
        });
        assert!(taken.try_recv().is_err(), "it is held");
        drop(first);
        taken.recv().expect("the waiter has it");
        drop(waiter.join().expect("no panic"));
        assert!(!Lock::is_held(&path).expect("asked"));
    }
}
