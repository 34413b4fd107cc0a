//! Removes what killed runs left behind.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{FOLDER, NETNS_PREFIX, WorldError, cgroup, etc, netns};
use crate::owner::Owner;

/// What was found and removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Network namespaces.
    pub namespaces: usize,
    /// Cgroups of dead harness processes, each with everything below.
    pub cgroups: usize,
    /// Processes that were still running in them.
    pub processes: usize,
}

/// Removes namespaces, cgroups, processes and files of harness processes that are no more. What
/// belongs to a living process is left alone.
pub fn sweep() -> Result<Swept, WorldError> {
    let mut swept = Swept::default();
    let cgroups = cgroup::mount()?.join(FOLDER);
    for (owner, path) in entries(&cgroups, |name| name.parse().ok())? {
        if owner.is_dead() {
            swept.processes += cgroup::kill_all(&path);
            cgroup::remove(&path);
            swept.cgroups += 1;
        }
    }
    let of_netns =
        |name: &str| name.strip_prefix(NETNS_PREFIX)?.strip_prefix('-')?.split('-').next()?.parse().ok();
    for (owner, path) in entries(Path::new(netns::FOLDER), of_netns)? {
        if owner.is_dead() {
            netns::remove(&path);
            swept.namespaces += 1;
        }
    }
    let files = Path::new(etc::ROOT).join(FOLDER);
    for (owner, path) in entries(&files, |name| name.parse().ok())? {
        if owner.is_dead() {
            let _ = fs::remove_dir_all(path);
        }
    }
    for folder in [cgroups, files] {
        let _ = fs::remove_dir(folder);
    }
    Ok(swept)
}

/// The entries of `folder` that a harness process made, with its owner. No folder is an empty folder.
fn entries(
    folder: &Path,
    owner_of: impl Fn(&str) -> Option<Owner>,
) -> Result<Vec<(Owner, PathBuf)>, WorldError> {
    let list = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(WorldError::io(format!("list {}", folder.display())))?,
    };
    Ok(list
        .flatten()
        .filter_map(|entry| Some((owner_of(entry.file_name().to_str()?)?, entry.path())))
        .collect())
}
