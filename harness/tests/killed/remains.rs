//! What is on the machine that a run made, found without the harness's own code.

use std::{
    collections::HashMap,
    env, fs, io,
    path::{Path, PathBuf},
};

use harness::owner::Owner;

/// Everything that carries the owner's name: namespaces, cgroups, pins, files, and processes that were told it;
/// sorted.
pub fn remains(owner: Owner) -> io::Result<Vec<String>> {
    let name = owner.to_string();
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["/run/netns", "/sys/fs/bpf", "/run/clawker-lab"].iter().map(PathBuf::from).collect();
    folders.push(env::temp_dir());
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let cgroup2 = mounts.lines().filter(|line| line.split(' ').nth(2) == Some("cgroup2"));
    folders.extend(cgroup2.filter_map(|line| Some(Path::new(line.split(' ').nth(1)?).join("clawker-lab"))));
    for folder in folders {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        let paths = entries.flatten().map(|entry| entry.path());
        found.extend(paths.filter(|path| carries(path, &name)).map(|path| path.display().to_string()));
    }
    // One that has ended and waits for init to take note is nothing that anybody could remove.
    for pid in processes()?.into_keys().filter(|pid| Owner::of(*pid).is_some()) {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        if pid != owner.pid && (String::from_utf8_lossy(&line).contains(&name) || cgroup.contains(&name)) {
            found.push(format!("process {pid}: {}", String::from_utf8_lossy(&line).replace('\0', " ")));
        }
    }
    found.sort();
    Ok(found)
}

fn carries(path: &Path, name: &str) -> bool {
    let file = path.file_name().map(|file| file.to_string_lossy().into_owned()).unwrap_or_default();
    // `1_2` is not a part of `11_23`.
    file.split('-').any(|part| part == name)
}

/// Every process below `ancestor`, as it is now.
pub fn children(ancestor: u32) -> io::Result<Vec<Owner>> {
    let parents = processes()?;
    let mut found = Vec::new();
    let mut generation = vec![ancestor];
    while !generation.is_empty() {
        generation =
            parents.iter().filter(|(_, parent)| generation.contains(parent)).map(|(pid, _)| *pid).collect();
        found.extend(generation.iter().filter_map(|pid| Owner::of(*pid)));
    }
    Ok(found)
}

/// Process ids, each with its parent's.
fn processes() -> io::Result<HashMap<u32, u32>> {
    let pids = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parent = |pid: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    Ok(pids.filter_map(|pid| Some((pid, parent(pid)?))).collect())
}
