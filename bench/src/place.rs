//! Cgroups of this process, below a name of its own; removed on drop.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use anyhow::Context as _;

/// Folder of cgroups.
pub struct Place {
    folder: PathBuf,
}

impl Place {
    /// Makes an empty one.
    ///
    /// # Errors
    /// Where there is no cgroup v2, or this is not root.
    pub fn named(name: &str) -> anyhow::Result<Self> {
        let folder = mount()?.join(format!("clawker-bench-{}-{name}", process::id()));
        fs::create_dir(&folder)
            .with_context(|| format!("cannot make {}; this needs root", folder.display()))?;
        Ok(Self { folder })
    }

    /// Makes a cgroup; returns its folder and id.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn cgroup(&self, name: &str) -> io::Result<(PathBuf, u64)> {
        let path = self.folder.join(name);
        fs::create_dir(&path)?;
        let id = fs::metadata(&path)?.ino();
        Ok((path, id))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Those who were in it were told to end; a cgroup is empty a moment after its last process is gone.
        for _ in 0..100 {
            remove(&self.folder);
            if !self.folder.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        eprintln!("bench: {} was left behind", self.folder.display());
    }
}

fn remove(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}

/// Where cgroup v2 is mounted: `id parent dev root point options… - type …`.
fn mount() -> anyhow::Result<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mount table")?;
    let point = table.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup2 ").then(|| place.split(' ').nth(4))?
    });
    point.map(PathBuf::from).context("no cgroup v2 is mounted; mount -t cgroup2 none /sys/fs/cgroup")
}
