//! What an enrolment is refused for: a path that is no cgroup, one that lies above or below an enrolled
//! one, labels too long to be read, processes that could go around the hooks. And what an end is refused for: processes
//! that nothing would be denied to any more.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use abi::Enrolment;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use crate::{
    Manager,
    containers::EnrolRequest,
    error::{Error, Result},
    pins::found,
};

/// Capabilities that open ways around the hooks: CAP_NET_ADMIN and CAP_NET_RAW.
const UNOBSERVED_CAPS: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW")];

/// Says which label is longer than readers take it.
pub(crate) fn too_long(request: &EnrolRequest) -> Option<String> {
    let labels =
        [("agent", &request.agent), ("project", &request.project), ("container id", &request.container_id)];
    labels.into_iter().find(|(_, label)| label.len() > Enrolment::MOST_LABEL).map(|(name, label)| {
        format!("its {name} has {} bytes, and {} is the most", label.len(), Enrolment::MOST_LABEL)
    })
}

impl Manager {
    /// Two enrolments on one path would decide and record every attempt twice.
    pub(crate) fn refuse_nesting(&self, cgroup: &Path) -> Result<()> {
        let containers = self.pins.containers()?;
        let enrolled = |path: &Path| -> Result<bool> {
            let Ok(metadata) = fs::metadata(path) else { return Ok(false) };
            Ok(found("container_map", containers.get(&metadata.ino(), 0))?.is_some())
        };
        let refuse = |other: &Path, where_: &str| Error::Enrol {
            cgroup: cgroup.to_owned(),
            problem: format!(
                "{} {where_} it is enrolled, and attempts would be counted twice",
                other.display()
            ),
        };
        for above in cgroup.ancestors().skip(1) {
            if enrolled(above)? {
                return Err(refuse(above, "above"));
            }
        }
        let mut below = vec![cgroup.to_owned()];
        while let Some(folder) = below.pop() {
            for entry in fs::read_dir(&folder).map_err(Error::file(&folder))?.flatten() {
                let path = entry.path();
                if path.is_dir() {
                    if enrolled(&path)? {
                        return Err(refuse(&path, "below"));
                    }
                    below.push(path);
                }
            }
        }
        Ok(())
    }
}

impl Manager {
    /// Says which container whose cgroup is gone has the address that a resolver view is to have, as one has that was started again.
    pub(crate) fn held_by_one_that_is_gone(&self, request: &EnrolRequest) -> Result<Option<String>> {
        let Some(wanted) = request.resolver else { return Ok(None) };
        for view in self.views()? {
            let has = view
                .resolver
                .is_some_and(|other| other.listen().any(|address| wanted.listen().any(|one| one == address)));
            if has && self.is_gone(view.cgroup_id)? {
                let id = view.cgroup_id;
                return Ok(Some(format!(
                    "its resolver view is to listen where that of {id} does, whose cgroup is gone; `ebpf-manager retire {id}` first"
                )));
            }
        }
        Ok(None)
    }
}

/// The cgroup with this identifier, if there is one, and it or one below it has processes.
///
/// # Errors
/// If that cannot be told.
pub(crate) fn populated(cgroup_id: u64) -> Result<Option<PathBuf>> {
    let mounts = Path::new("/proc/self/mounts");
    let text = fs::read_to_string(mounts).map_err(Error::file(mounts))?;
    let mut folders: Vec<PathBuf> = text
        .lines()
        .map(|line| line.split(' '))
        .filter_map(|mut fields| {
            fields.nth(1).filter(|_| fields.next() == Some("cgroup2")).map(PathBuf::from)
        })
        .collect();
    if folders.is_empty() {
        return Err(Error::file(mounts)(io::Error::new(ErrorKind::NotFound, "no cgroup v2 is mounted")));
    }
    for root in &folders {
        // One that cannot be looked into, also by its escaped name, says nothing of who is in it.
        fs::metadata(root).map_err(Error::file(root))?;
    }
    while let Some(folder) = folders.pop() {
        let Some(metadata) = there(&folder, fs::metadata(&folder))? else { continue };
        if metadata.ino() == cgroup_id {
            let events = there(&folder, fs::read_to_string(folder.join("cgroup.events")))?;
            let has = events.is_some_and(|events| events.lines().any(|line| line == "populated 1"));
            return Ok(has.then_some(folder));
        }
        for entry in there(&folder, fs::read_dir(&folder))?.into_iter().flatten() {
            let Some(entry) = there(&folder, entry)? else { continue };
            if there(&folder, entry.file_type())?.is_some_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
    Ok(None)
}

/// What was asked of a cgroup; `None` of one that has ended meanwhile, which has no processes.
fn there<T>(folder: &Path, asked: io::Result<T>) -> Result<Option<T>> {
    match asked {
        Ok(answer) => Ok(Some(answer)),
        Err(error)
            if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ENODEV) =>
        {
            Ok(None)
        }
        Err(error) => Err(Error::file(folder)(error)),
    }
}

/// The cgroup's identifier: its inode number on cgroup v2.
pub(crate) fn cgroup_id(cgroup: &Path) -> Result<u64> {
    let metadata = fs::metadata(cgroup).map_err(Error::file(cgroup))?;
    let kind = statfs(cgroup).map_err(|errno| Error::file(cgroup)(errno.into()))?;
    if kind.filesystem_type() != CGROUP2_SUPER_MAGIC || !metadata.is_dir() {
        return Err(Error::Enrol {
            cgroup: cgroup.to_owned(),
            problem: "it is not a cgroup v2 folder".to_owned(),
        });
    }
    Ok(metadata.ino())
}

/// Says how a process in the cgroup could go around the hooks, if one could.
pub(crate) fn unobserved(cgroup: &Path) -> Result<Option<String>> {
    let path = cgroup.join("cgroup.procs");
    let pids = fs::read_to_string(&path).map_err(Error::file(&path))?;
    let host = fs::read_link("/proc/1/ns/net").ok();
    for pid in pids.lines() {
        if host.is_some() && fs::read_link(format!("/proc/{pid}/ns/net")).ok() == host {
            return Ok(Some(format!("process {pid} is in the host's network namespace")));
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let bounding = status
            .lines()
            .find_map(|line| line.strip_prefix("CapBnd:"))
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .unwrap_or(0);
        for (bit, name) in UNOBSERVED_CAPS {
            if bounding.checked_shr(bit).unwrap_or(0) & 1 == 1 {
                return Ok(Some(format!(
                    "process {pid} can have {name}, with which packets can leave unseen"
                )));
            }
        }
    }
    Ok(None)
}
