//! The kernel side, loaded for the time of a measurement.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use anyhow::Context as _;
use manager::{EnrolRequest, LoadOptions, Manager};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use rules::Rule;
use serde_json::json;

use crate::{
    bpf::{self, Producer},
    caller::SERVED,
};

/// Flows that one container may have open here: as many as the table has room for.
const QUOTA: u64 = 65_536;

/// Loaded programs with pins and a state directory of their own; unloaded on drop.
pub struct Chain {
    /// What was loaded.
    pub manager: Manager,
    pin_dir: PathBuf,
    state: tempfile::TempDir,
    ring_bytes: u32,
}

impl Chain {
    /// Loads the programs, with the ring of a default installation.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn load() -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("clawker-bench-{}-{}", process::id(), NEXT.fetch_add(1, Relaxed));
        let state = tempfile::Builder::new().prefix("clawker-bench-").tempdir_in(memory())?;
        let options = LoadOptions {
            pin_dir: Path::new("/sys/fs/bpf").join(name),
            state_dir: state.path().to_owned(),
            ..LoadOptions::default()
        };
        let manager = Manager::load(&options).context("cannot load the programs; this needs root")?;
        Ok(Self { manager, pin_dir: options.pin_dir, state, ring_bytes: options.ring_bytes })
    }

    /// Where it is pinned.
    pub fn pin_dir(&self) -> &Path {
        &self.pin_dir
    }

    /// Where its state files are.
    pub fn state_dir(&self) -> &Path {
        self.state.path()
    }

    /// A program that ships, as it is loaded.
    ///
    /// # Errors
    /// If it is not pinned.
    pub fn program(&self, name: &str) -> anyhow::Result<OwnedFd> {
        bpf::open(&self.pin_dir.join("programs").join(name)).with_context(|| format!("cannot open {name}"))
    }

    /// Writes records to its ring, past the hooks.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn producer(&self) -> anyhow::Result<Producer> {
        let ring = bpf::open(&self.pin_dir.join(abi::pin::EVENTS)).context("cannot open the ring")?;
        Producer::new(ring, self.ring_bytes).context("cannot load a producer")
    }

    /// Enrols a cgroup that may reach [`SERVED`]'s address, and has `rules` rules in all.
    ///
    /// # Errors
    /// If the manager refuses.
    pub fn enrol(&self, cgroup: &Path, rules: usize) -> anyhow::Result<u64> {
        let mut request =
            EnrolRequest::new(cgroup, "b3c4d5e6f7081920a1b2c3d4e5f60718293a4b5c6d7e8f901a2b3c4d5e6f7081");
        (request.agent, request.project) = ("scout".to_owned(), "demo".to_owned());
        request.rules = self.rules(rules)?;
        request.flow_quota = QUOTA;
        // A caller is root, so that it can make its network.
        request.accept_unobserved = true;
        Ok(self.manager.enrol(&request)?.cgroup_id)
    }

    fn rules(&self, count: usize) -> anyhow::Result<Vec<Rule>> {
        let served =
            ["tcp", "udp"].map(|proto| json!({"dst": SERVED.ip(), "proto": proto, "port": "1-65535"}));
        // No two of them in one longer prefix.
        let others = (0..count.saturating_sub(served.len())).map(|place| {
            let address = format!("198.{}.{}.{}", 18 + place / 65_536, place / 256 % 256, place % 256);
            json!({"dst": address, "proto": "https"})
        });
        let rules: Result<_, _> = served.into_iter().chain(others).map(serde_json::from_value).collect();
        Ok(rules?)
    }

    /// Ends every flow that has left its socket; flows are left after 10 ms.
    ///
    /// # Errors
    /// If the sweep program refuses.
    pub fn sweep(&self) -> anyhow::Result<()> {
        std::thread::sleep(std::time::Duration::from_millis(12));
        self.manager.sweep(None)?;
        Ok(())
    }
}

/// A folder that is not on a disk, as /run is not, where the state directory is in production.
fn memory() -> &'static str {
    let in_memory =
        |folder: &&str| statfs(*folder).is_ok_and(|folder| folder.filesystem_type() == TMPFS_MAGIC);
    ["/run", "/dev/shm"].into_iter().find(in_memory).unwrap_or("/tmp")
}

impl Drop for Chain {
    fn drop(&mut self) {
        if let Err(error) = self.manager.unload() {
            eprintln!("bench: {} stays loaded: {error}", self.pin_dir.display());
        }
    }
}
