//! Pins that a killed run left behind. Namespaces and cgroups are `world::sweep`'s.

use std::{fs, io, path::PathBuf};

use manager::Pins;

const BPFFS: &str = "/sys/fs/bpf";
const PREFIX: &str = "clawker-lab-";

/// Where the run of process `pid` pins.
pub(super) fn pin_dir(pid: u32) -> PathBuf {
    PathBuf::from(BPFFS).join(format!("{PREFIX}{pid}"))
}

/// Removes what dead runs left.
pub(super) fn sweep() -> anyhow::Result<()> {
    let entries = match fs::read_dir(BPFFS) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix(PREFIX).and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        if !PathBuf::from(format!("/proc/{pid}")).exists() {
            Pins::new(entry.path()).remove()?;
        }
    }
    crate::world::sweep()?;
    Ok(())
}
