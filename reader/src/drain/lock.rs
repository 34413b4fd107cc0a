//! One consumer a ring: two would each move the same position and hand out torn records.

use std::{
    fs::{File, OpenOptions, TryLockError, create_dir_all},
    io,
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
        /// The lock's file.
        path: PathBuf,
    },
    /// The file cannot be made or locked.
    #[error("cannot lock {path}: {cause}; is --state-dir writable?")]
    Io {
        /// The lock's file.
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
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
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
