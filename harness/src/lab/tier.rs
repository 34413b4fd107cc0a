//! Which tier this machine allows, and why not a higher one.

use std::{fs, path::Path};

use crate::event::Tier;

/// The highest tier, and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Availability {
    /// The tier.
    pub tier: Tier,
    /// One line for a person.
    pub reason: String,
}

/// Finds the highest tier, without changing anything.
pub fn available() -> Availability {
    match missing() {
        None => Availability { tier: Tier::Lab, reason: "root, cgroup v2 and bpffs are there".to_owned() },
        Some(missing) => Availability {
            tier: Tier::Model,
            reason: format!("not lab: {missing}; no socket is opened, and expectations are not judged"),
        },
    }
}

fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounted = |kind: &str| mounts.lines().any(|line| line.split(' ').nth(2) == Some(kind));
    if !mounted("cgroup2") {
        return Some("no cgroup v2 is mounted".to_owned());
    }
    if !mounted("bpf") {
        return Some("no bpffs is mounted; `mount -t bpf bpf /sys/fs/bpf` mounts one".to_owned());
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Some("the kernel has no BTF".to_owned());
    }
    None
}
