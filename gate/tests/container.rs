//! The binary as the entrypoint of a container of a real Docker daemon, and the manager that it waits for.

#[expect(dead_code, reason = "the reader's tests use all of it")]
#[path = "../../reader/tests/docker/daemon.rs"]
mod daemon;

use std::{
    fs,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use daemon::{Daemon, IMAGE};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use manager::{EnrolRequest, LoadOptions, Manager};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::sync::oneshot;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the agent does first of all.
const ATTEMPT: &str = "exec 3<>/dev/tcp/198.51.100.7/443; exec sleep 600";

fn main() {
    let trial = Trial::ignorable_test("the_agents_first_attempt_is_decided_and_counted", || {
        match Daemon::start(&["/bin/bash", "/bin/sleep", env!("CARGO_BIN_EXE_clawker-gate")]) {
            Ok(daemon) => first_attempt(&daemon).map(|()| Completion::Completed),
            Err(why) => Ok(Completion::ignored_with(why)),
        }
    });
    let stop = Trial::ignorable_test("a_stop_ends_it_while_it_waits_as_the_first_process", || {
        if nix::unistd::geteuid().is_root() {
            stopped_as_first_process().map(|()| Completion::Completed)
        } else {
            Ok(Completion::ignored_with("needs root: it makes a PID namespace"))
        }
    });
    libtest_mimic::run(&Arguments::from_args(), vec![trial, stop]).exit();
}

/// A set of pinned programs, and the manager that runs on it.
struct Set {
    manager: Manager,
    state: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    running: Option<thread::JoinHandle<()>>,
}

impl Set {
    fn start() -> Self {
        let state = tempfile::tempdir().unwrap();
        let pins = PathBuf::from(format!("/sys/fs/bpf/clawker-gate-{}", std::process::id()));
        let options = LoadOptions {
            pin_dir: pins.clone(),
            state_dir: state.path().to_owned(),
            ..LoadOptions::default()
        };
        let manager = Manager::load(&options).unwrap();
        let (stop, stopped) = oneshot::channel();
        let daemon = Manager::at(pins, state.path());
        let running = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(daemon.run(async { drop(stopped.await) })).unwrap();
        });
        Self { manager, state, stop: Some(stop), running: Some(running) }
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        drop(self.stop.take());
        drop(self.running.take().map(thread::JoinHandle::join));
        let _ = self.manager.unload();
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) -> Result<(), Failed> {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        if Instant::now() > deadline {
            return Err(format!("waited in vain until {what}").into());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn stopped_as_first_process() -> Result<(), Failed> {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let ready = tempfile::tempdir()?;
        // Whoever runs the tests may have it that an interrupt is ignored, which the gate would heed.
        let mut child = Command::new("env")
            .args([
                "--default-signal",
                "unshare",
                "--pid",
                "--fork",
                "--kill-child",
                env!("CARGO_BIN_EXE_clawker-gate"),
                "--ready",
            ])
            .arg(ready.path())
            .args(["--timeout", "20", "--", "true"])
            .spawn()?;
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let gate = || fs::read_to_string(&children).ok()?.trim().parse::<i32>().ok();
        let name = || fs::read_to_string(format!("/proc/{}/comm", gate()?)).ok();
        until("the gate runs", || name().is_some_and(|name| name == "clawker-gate\n"))?;
        // Again until it ends: its first instants are before it has handlers.
        let pid = Pid::from_raw(gate().ok_or("the gate is gone")?);
        until("it ends", || {
            // It is gone once it has ended.
            let _ = kill(pid, signal);
            child.try_wait().is_ok_and(|status| status.is_some())
        })?;
        let code_is = child.wait()?.code();
        assert_eq!(code_is, Some(code), "{signal}");
    }
    Ok(())
}

fn first_attempt(daemon: &Daemon) -> Result<(), Failed> {
    let set = Set::start();
    let ready = set.state.path().join("ready");
    until("the manager has made the folder of signs", || ready.exists())?;
    let mount = format!("{}:/run/clawker/ready:ro", ready.display());
    let id = daemon.docker(&[
        "run",
        "--detach",
        "--cap-drop",
        "NET_RAW",
        "--volume",
        &mount,
        "--entrypoint",
        env!("CARGO_BIN_EXE_clawker-gate"),
        IMAGE,
        "--",
        "/bin/bash",
        "-c",
        ATTEMPT,
    ]);
    let name = || fs::read_to_string(format!("/proc/{}/comm", daemon.pid(&id))).unwrap_or_default();
    until("the gate runs", || name() == "clawker-gate\n")?;
    // As long as ten looks of the gate.
    thread::sleep(Duration::from_millis(100));
    assert_eq!(name(), "clawker-gate\n", "nobody has enrolled it");

    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let cgroup2 =
        mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).ok_or("no cgroup v2")?;
    let root = PathBuf::from(cgroup2.split(' ').nth(1).ok_or("no mount point")?);
    let enrolment = set.manager.enrol(&EnrolRequest::new(root.join("docker").join(&id), &id))?;
    assert_eq!(enrolment.cgroup_id, daemon.cgroup_id(&id));
    until("the agent runs", || name() == "sleep\n")?;
    assert_eq!(set.manager.totals(enrolment.cgroup_id)?.denied, 1, "its first attempt");
    Ok(())
}
