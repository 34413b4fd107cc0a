//! The shipped reader, in a process of its own.

use std::{
    fs,
    io::{self, Read as _, Seek as _, SeekFrom},
    net::SocketAddr,
    os::unix::{fs::FileExt as _, process::CommandExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{Signal, kill},
    },
    unistd::{self, Pid},
};
use reader::Fault;

use crate::{
    pidfd::PidFd,
    reexec,
    world::{self, Cgroup},
};

/// How long a reader may take to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(12);

/// The process, and its log.
pub(super) struct ReaderProcess {
    /// So that a later run finds it, should this one be killed.
    _cgroup: Cgroup,
    child: Mutex<Child>,
    ended: PidFd,
    log: fs::File,
}

impl ReaderProcess {
    /// Starts this very program again as the reader.
    pub fn start(pin_dir: &Path, state_dir: &Path, endpoint: &str, fault: Fault) -> io::Result<Self> {
        let cgroup = Cgroup::create(&world::cgroup_mount().map_err(io::Error::other)?, "reader")
            .map_err(io::Error::other)?;
        let log =
            fs::File::options().create(true).append(true).read(true).open(state_dir.join("reader.log"))?;
        let mut command = Command::new(reexec::PROGRAM);
        command
            .arg(reexec::READER)
            .arg("--pin-dir")
            .arg(pin_dir)
            .arg("--state-dir")
            .arg(state_dir)
            .args([
                "--endpoint",
                endpoint,
                "--listen",
                "127.0.0.1:0",
                "--flush-ms",
                "5",
                "--in-flight",
                "1",
                "--node",
                "lab",
            ])
            .args(["--fault", fault.as_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.try_clone()?);
        // Ctrl-C on a terminal is for the harness, which ends the reader when the last cell has.
        command.process_group(0);
        let harness = Pid::this();
        let procs = cgroup.procs().try_clone_to_owned()?;
        // SAFETY: write, prctl and getppid are async-signal-safe, and nothing else runs between fork and exec.
        unsafe {
            command.pre_exec(move || {
                // "0" is the writer.
                unistd::write(&procs, b"0")?;
                prctl::set_pdeathsig(Signal::SIGKILL)?;
                // It may have ended before it was asked to take this process with it.
                if Pid::parent() == harness { Ok(()) } else { Err(Errno::ESRCH.into()) }
            });
        }
        let mut child = command.spawn()?;
        match PidFd::open(&child) {
            Ok(ended) => Ok(Self { _cgroup: cgroup, child: Mutex::new(child), ended, log }),
            Err(error) => {
                // It dies with this process at the latest.
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Where it serves its pages, which it says in its log.
    pub fn pages(&self) -> Option<SocketAddr> {
        let mut start = vec![0; 4096];
        let length = self.log.read_at(&mut start, 0).ok()?;
        let start = String::from_utf8_lossy(start.get(..length)?);
        start.lines().find_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            (line.get("event")? == "listening").then(|| line.get("address")?.as_str()?.parse().ok())?
        })
    }

    /// Whether it is no more.
    pub fn has_ended(&self) -> bool {
        self.ended.ended_by(Instant::now())
    }

    /// Whether it lives, and the end of its log.
    pub fn explain(&self) -> String {
        let state = match self.child.lock().map(|mut child| child.try_wait()) {
            Ok(Ok(None)) => "running".to_owned(),
            Ok(Ok(Some(status))) => format!("ended with {status}"),
            _ => "in an unknown state".to_owned(),
        };
        let mut tail = String::new();
        if let Ok(mut log) = self.log.try_clone() {
            let length = log.metadata().map_or(0, |metadata| metadata.len());
            let _ = log.seek(SeekFrom::Start(length.saturating_sub(2000)));
            let _ = log.read_to_string(&mut tail);
        }
        format!("{state}; its log ends:\n{tail}")
    }

    /// Ends it as an operator would, and by force if it does not end.
    pub fn stop(&self) {
        let Ok(mut child) = self.child.lock() else { return };
        if let Ok(pid) = i32::try_from(child.id()) {
            // It may have ended on its own.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        if !self.ended.ended_by(Instant::now() + STOP_LIMIT) {
            tracing::warn!("the lab's reader did not end in {STOP_LIMIT:?} and is killed");
            let _ = child.kill();
        }
        let _ = child.wait();
    }
}
