//! A set of one's own, and the command on it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command, Output},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

pub const BINARY: &str = env!("CARGO_BIN_EXE_ebpf-manager");
/// For what takes moments on a machine that does nothing else.
pub const LONG: Duration = Duration::from_secs(60);

/// A set of its own, unloaded on drop.
pub struct Set {
    pub pins: PathBuf,
    pub state: tempfile::TempDir,
    pub cgroup: PathBuf,
}

impl Set {
    pub fn new(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).unwrap();
        let name = format!("clawker-test-{}-{name}", process::id());
        let cgroup = Path::new(line.split(' ').nth(1).unwrap()).join(&name);
        fs::create_dir(&cgroup).unwrap();
        Self { pins: Path::new("/sys/fs/bpf").join(name), state: tempfile::tempdir().unwrap(), cgroup }
    }

    pub fn command(&self, binary: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(binary);
        command.arg("--pin-dir").arg(&self.pins).arg("--state-dir").arg(self.state.path()).args(args);
        command
    }

    /// What it says, both ways, and its exit code.
    pub fn run(&self, args: &[&str]) -> (String, Option<i32>) {
        said(&self.command(Path::new(BINARY), args).output().unwrap())
    }

    pub fn enrol(&self, more: &[&str]) -> (String, Option<i32>) {
        let enrol = ["enrol", self.cgroup.to_str().unwrap(), "--container-id", "c1"];
        self.run(&[&enrol[..], more].concat())
    }

    pub fn status(&self) -> Value {
        let output = self.command(Path::new(BINARY), &["status", "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn until(&self, holds: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + LONG;
        loop {
            let status = self.status();
            if holds(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "{status:#}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        let _ = self.run(&["unload", "--force"]);
        let _ = fs::remove_dir(&self.cgroup);
    }
}

/// What a process said, both ways, and its exit code.
pub fn said(output: &Output) -> (String, Option<i32>) {
    let text = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
    (text, output.status.code())
}
