//! From a container's process to the id of its cgroup.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Why a cgroup id cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum NoCgroup {
    #[error("no whole cgroup v2 is mounted here; run the reader in the host's cgroup namespace")]
    NotMounted,
    #[error("cannot read {}: {error}; run the reader in the host's pid and cgroup namespaces", path.display())]
    Unread { path: PathBuf, error: io::Error },
    #[error("process {pid} is not in a cgroup of the container: {line}")]
    Elsewhere { pid: u32, line: String },
}

/// The mounted cgroup v2.
#[derive(Debug)]
pub struct Cgroups {
    root: PathBuf,
}

impl Cgroups {
    /// Finds where it is mounted.
    pub fn mounted() -> Result<Self, NoCgroup> {
        let path = Path::new("/proc/self/mountinfo");
        let mounts = read(path)?;
        let root = mounts.lines().find_map(|line| {
            let (mount, filesystem) = line.split_once(" - ")?;
            let mut fields = mount.split(' ').skip(3);
            let (root, point) = (fields.next()?, fields.next()?);
            (root == "/" && filesystem.starts_with("cgroup2 ")).then(|| PathBuf::from(point))
        });
        Ok(Self { root: root.ok_or(NoCgroup::NotMounted)? })
    }

    /// Inode number of the cgroup of a container whose first process is `pid`.
    ///
    /// That process may be in a cgroup below it, as an init system's is; and where the number has gone to
    /// another process by now, that one is in no cgroup that bears the container's name.
    pub fn id(&self, pid: u32, container_id: &str) -> Result<u64, NoCgroup> {
        let text = read(Path::new(&format!("/proc/{pid}/cgroup")))?;
        let line = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
        let elsewhere = || NoCgroup::Elsewhere { pid, line: line.to_owned() };
        let path = within(line, container_id).ok_or_else(elsewhere)?;
        let path = self.root.join(path);
        Ok(fs::metadata(&path).map_err(|error| NoCgroup::Unread { path, error })?.ino())
    }
}

/// The part of a cgroup's path up to the component that bears the name, relative.
fn within<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    let at = path.find(name)?;
    let end = path.get(at..)?.find('/').map_or(path.len(), |length| at.saturating_add(length));
    path.get(..end)?.strip_prefix('/')
}

fn read(path: &Path) -> Result<String, NoCgroup> {
    fs::read_to_string(path).map_err(|error| NoCgroup::Unread { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_is_the_component_that_bears_its_name() {
        for (path, expected) in [
            ("/docker/c0ffee", Some("docker/c0ffee")),
            ("/docker/c0ffee/init.scope", Some("docker/c0ffee")),
            ("/system.slice/docker-c0ffee.scope", Some("system.slice/docker-c0ffee.scope")),
            ("/a/docker-c0ffee.scope/system.slice/x", Some("a/docker-c0ffee.scope")),
            ("/", None),
            ("/docker/decade", None),
            ("", None),
        ] {
            assert_eq!(within(path, "c0ffee"), expected, "{path}");
        }
    }

    #[test]
    fn a_process_that_is_no_container_has_none() {
        let Ok(cgroups) = Cgroups::mounted() else { return };
        let error = cgroups.id(std::process::id(), "c0ffee").unwrap_err();
        assert!(matches!(error, NoCgroup::Elsewhere { .. }), "{error}");
        let error = cgroups.id(u32::MAX, "c0ffee").unwrap_err();
        assert!(error.to_string().contains("pid"), "{error}");
    }
}
