//! One consumer a ring: two would each move the same position and hand out torn records.

use std::{
    fs::{File, OpenOptions, TryLockError, create_dir_all},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Held for the life of the process; the kernel releases it however that ends.
#[derive(Debug)]
pub struct ConsumerLock {
    _file: File,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// There already is a consumer.
    #[error(
        "another reader holds {path}: two consumers corrupt a ring; stop that one, or give this one its own --state-dir and --pin-dir"
    )]
    Held {
        /// The lock's file, or folder.
        path: PathBuf,
    },
    /// The file cannot be made or locked.
    #[error("cannot lock {path}: {cause}; may this process use it?")]
    Io {
        /// The lock's file, or folder.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

impl ConsumerLock {
    /// File below the state directory.
    pub const FILE: &str = "reader.lock";

    /// Takes the lock; does not wait for it.
    ///
    /// # Errors
    /// Where another process holds it, or the file cannot be made.
    pub fn take(state_dir: &Path) -> Result<Self, LockError> {
        let path = state_dir.join(Self::FILE);
        let failed = |cause| LockError::Io { path: path.clone(), cause };
        create_dir_all(state_dir).map_err(failed)?;
        // Whoever may open it may hold it.
        let mode = 0o600;
        let open = OpenOptions::new().create(true).truncate(false).write(true).mode(mode).open(&path);
        Self::lock(open.map_err(failed)?, path)
    }

    /// Takes the lock of the ring that is pinned in `pin_dir`, whatever state directory its reader has: that on the
    /// folder, since a pin cannot be opened as a file.
    ///
    /// # Errors
    /// Where another process holds it, or the folder cannot be opened.
    pub fn of_pins(pin_dir: &Path) -> Result<Self, LockError> {
        let folder = File::open(pin_dir);
        Self::lock(
            folder.map_err(|cause| LockError::Io { path: pin_dir.to_owned(), cause })?,
            pin_dir.to_owned(),
        )
    }

    fn lock(file: File, path: PathBuf) -> Result<Self, LockError> {
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held { path }),
            Err(TryLockError::Error(cause)) => Err(LockError::Io { path, cause }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_consumer_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = ConsumerLock::take(dir.path()).unwrap();
        assert!(matches!(ConsumerLock::take(dir.path()), Err(LockError::Held { .. })));
        drop(first);
        ConsumerLock::take(dir.path()).unwrap();
    }
}
