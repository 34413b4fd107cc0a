//! A cgroup in an agent's, which ends its processes and itself on drop.

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use super::{WorldError, cgroup};

/// Hooks of the agent's cgroup apply in it.
pub struct Nested {
    path: PathBuf,
    procs: OwnedFd,
}

impl Nested {
    /// Below `parent`, under a name of its own.
    pub(super) fn create(parent: &Path) -> Result<Self, WorldError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let path = parent.join(format!("nested-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let what = || format!("create the cgroup {}", path.display());
        fs::create_dir(&path).map_err(WorldError::io(what()))?;
        match fs::OpenOptions::new().write(true).open(path.join("cgroup.procs")) {
            Ok(procs) => Ok(Self { path, procs: procs.into() }),
            Err(error) => {
                cgroup::remove(&path);
                Err(WorldError::io(what())(error))
            }
        }
    }

    /// `cgroup.procs`, opened for writing.
    pub(crate) fn procs(&self) -> BorrowedFd<'_> {
        self.procs.as_fd()
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        cgroup::kill_all(&self.path);
        cgroup::remove(&self.path);
    }
}
