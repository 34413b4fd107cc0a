//! Pins and state folders that a killed run left behind. Namespaces, cgroups and processes are
//! `world::sweep`'s.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use manager::Pins;
use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;

use crate::owner::Owner;

const BPFFS: &str = "/sys/fs/bpf";
/// What a run leaves starts with this and its owner.
const PREFIX: &str = "clawker-lab-";

/// Where lab `number` of this run pins.
pub(super) fn pin_dir(number: usize) -> PathBuf {
    PathBuf::from(BPFFS).join(format!("{PREFIX}{}-{number}", Owner::current()))
}

/// A folder for this run's state.
pub(super) fn state_dir() -> io::Result<TempDir> {
    tempfile::Builder::new().prefix(&format!("{PREFIX}{}-", Owner::current())).tempdir()
}

/// Removes what dead runs left. What belongs to a living one is left alone.
pub(super) fn sweep() -> anyhow::Result<()> {
    // Runs that start at once would take the same folders from under each other.
    let _lock = fs::File::open(BPFFS)
        .and_then(|folder| Flock::lock(folder, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into()))
        .with_context(|| format!("cannot lock {BPFFS}"))?;
    // Processes first: what they hold open lives on.
    crate::world::sweep()?;
    for pins in of_dead_runs(Path::new(BPFFS))? {
        Pins::new(pins).remove()?;
    }
    for state in of_dead_runs(&env::temp_dir())? {
        fs::remove_dir_all(&state).with_context(|| format!("cannot remove {}", state.display()))?;
    }
    Ok(())
}

/// Entries of `folder` that are named after a process that is no more.
fn of_dead_runs(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let owner = |path: &Path| -> Option<Owner> {
        path.file_name()?.to_str()?.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
    };
    let dead = |path: &PathBuf| owner(path).is_some_and(Owner::is_dead);
    Ok(entries.flatten().map(|entry| entry.path()).filter(dead).collect())
}
