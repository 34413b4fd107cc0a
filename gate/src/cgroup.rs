//! Which cgroup this process is in, by the number that the manager knows it by.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// The cgroup id: the inode number of the cgroup's folder below the hierarchy's mount point, also where the container
/// has a cgroup namespace of its own and sees its cgroup as the root.
pub fn id(hierarchy: &Path) -> io::Result<u64> {
    let text = fs::read_to_string("/proc/self/cgroup")?;
    Ok(fs::metadata(folder(hierarchy, &text)?)?.ino())
}

/// The folder that `/proc/self/cgroup` says.
fn folder(hierarchy: &Path, text: &str) -> io::Result<PathBuf> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    let path = path.ok_or_else(|| io::Error::other("/proc/self/cgroup names no cgroup of version 2"))?;
    // Of a process that is outside of its namespace's root.
    if path.split('/').any(|part| part == "..") {
        return Err(io::Error::other(format!("{path} is not below the hierarchy that is seen here")));
    }
    Ok(hierarchy.join(path.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_that_of_version_2() {
        let folder = |text| folder(Path::new("/sys/fs/cgroup"), text).map_err(|error| error.to_string());
        assert_eq!(folder("0::/\n").unwrap(), Path::new("/sys/fs/cgroup"));
        assert_eq!(
            folder("1:cpu:/x\n0::/docker/c0ffee\n").unwrap(),
            Path::new("/sys/fs/cgroup/docker/c0ffee")
        );
        assert!(folder("1:cpu:/x\n").unwrap_err().contains("no cgroup of version 2"));
        assert!(folder("0::/../other\n").unwrap_err().contains("not below"));
    }
}
