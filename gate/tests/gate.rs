//! The binary: what it waits for, what it becomes, and what it says where it does not. The sign is made by hand here;
//! `container.rs` has the manager make it.

use std::{
    fs,
    os::unix::{fs::MetadataExt as _, process::ExitStatusExt as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

struct World {
    folder: tempfile::TempDir,
    id: u64,
}

/// A hierarchy that is a folder, with this process's cgroup in it.
fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string("/proc/self/cgroup").unwrap();
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).expect("cgroup v2");
    let own = folder.path().join("cgroups").join(path.trim_start_matches('/'));
    fs::create_dir_all(&own).unwrap();
    fs::create_dir(folder.path().join("ready")).unwrap();
    World { id: fs::metadata(own).unwrap().ino(), folder }
}

impl World {
    fn sign(&self) -> PathBuf {
        self.folder.path().join("ready").join(self.id.to_string())
    }

    fn gate(&self, timeout: &str, program: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clawker-gate"));
        command.arg("--ready").arg(self.folder.path().join("ready"));
        command.arg("--cgroups").arg(self.folder.path().join("cgroups"));
        command
            .args(["--timeout", timeout, "--"])
            .args(program)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// What a sign holds.
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap()
}

fn name_of(child: &Child) -> String {
    fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap()
}

#[test]
fn the_agent_is_held_until_the_sign_is_there_and_is_then_the_same_process() {
    let world = world();
    let child = world.gate("20", &["sh", "-c", "echo $$ $WHO; exit 7"]).env("WHO", "scout").spawn().unwrap();
    thread::sleep(Duration::from_millis(200));
    assert_eq!(name_of(&child).trim(), "clawker-gate", "nothing else was started");
    fs::write(world.sign(), boot()).unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{pid} scout\n"));
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn another_container_s_sign_is_none_and_the_agent_does_not_start() {
    let world = world();
    // A cgroup id is given again after the next boot.
    fs::write(world.sign(), "0b0a7c1e-0000-4000-8000-000000000000\n").unwrap();
    fs::write(world.sign().with_file_name((world.id + 1).to_string()), boot()).unwrap();
    let output = world.gate("1", &["echo", "started"]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(124), &b""[..]));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("cgroup {} was not enrolled within 1 s", world.id)), "{said}");
    assert!(said.contains("ebpf-manager enrol"), "{said}");
}

#[test]
fn signals_end_it_while_it_waits_and_reach_the_agent_afterwards() {
    for ready in [false, true] {
        let world = world();
        if ready {
            fs::write(world.sign(), boot()).unwrap();
        }
        let mut child = world.gate("20", &["sleep", "20"]).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while (name_of(&child).trim() == "sleep") != ready {
            assert!(Instant::now() < deadline, "it is {}", name_of(&child));
            thread::sleep(Duration::from_millis(5));
        }
        kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(15));
    }
}

#[test]
fn what_cannot_be_run_is_said() {
    let world = world();
    fs::write(world.sign(), boot()).unwrap();
    let file = world.folder.path().join("text");
    fs::write(&file, "no program").unwrap();
    for (program, code, words) in [
        ("/no/such/program", 127, "cannot run /no/such/program"),
        (file.to_str().unwrap(), 126, "cannot run"),
    ] {
        let output = world.gate("1", &[program]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_mount_that_is_missing_is_named() {
    let world = world();
    fs::remove_dir(world.folder.path().join("ready")).unwrap();
    let output = world.gate("1", &["true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8(output.stderr).unwrap().contains("mount the manager's folder `ready`"));
    fs::remove_dir_all(world.folder.path().join("cgroups")).unwrap();
    let output = world.gate("1", &["true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8(output.stderr).unwrap().contains("mount the cgroup v2 hierarchy"));
}
