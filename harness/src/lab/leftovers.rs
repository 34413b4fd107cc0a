//! Pins and state folders that a killed run left behind. Namespaces and cgroups are `world::sweep`'s.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use manager::Pins;
use tempfile::TempDir;

const BPFFS: &str = "/sys/fs/bpf";
/// What a run leaves starts with this and its process id.
const PREFIX: &str = "clawker-lab-";

/// Where this run pins.
pub(super) fn pin_dir() -> PathBuf {
    PathBuf::from(BPFFS).join(format!("{PREFIX}{}", std::process::id()))
}

/// A folder for this run's state.
pub(super) fn state_dir() -> io::Result<TempDir> {
    tempfile::Builder::new().prefix(&format!("{PREFIX}{}-", std::process::id())).tempdir()
}

/// Removes what dead runs left.
pub(super) fn sweep() -> anyhow::Result<()> {
    for pins in of_dead_runs(Path::new(BPFFS))? {
        Pins::new(pins).remove()?;
    }
    for state in of_dead_runs(&env::temp_dir())? {
        fs::remove_dir_all(state)?;
    }
    crate::world::sweep()?;
    Ok(())
}

/// Entries of `folder` that are named after a process that is no more.
fn of_dead_runs(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let dead = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
    };
    Ok(entries.flatten().map(|entry| entry.path()).filter(dead).collect())
}
