//! The shipped reader, in a process of its own.

use std::{
    fs,
    io::{self, Read as _, Seek as _, SeekFrom},
    net::SocketAddr,
    os::unix::{fs::FileExt as _, process::CommandExt as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
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

use crate::{pidfd::PidFd, plane::Credentials, reexec, world::Cgroup};

/// How long a reader may take to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(12);

/// How it is started.
pub(super) struct ReaderCommand {
    pub pin_dir: PathBuf,
    pub state_dir: PathBuf,
    /// Where it exports to.
    pub endpoint: String,
    /// What it shows there, and checks the other side by.
    pub credentials: Option<Credentials>,
    /// Name of its node.
    pub node: String,
    /// Where its own events and log lines go.
    pub telemetry: Option<emitter::Options>,
    pub fault: Fault,
    /// So that a later run finds it, should this one be killed.
    pub cgroup: Cgroup,
}

/// The process, and its log.
pub(super) struct ReaderProcess {
    child: Child,
    ended: PidFd,
    log: fs::File,
    /// Where in the log this process begins.
    from: u64,
    /// Whether it was ended to be started later.
    pub is_stopped: bool,
}

impl ReaderCommand {
    /// Starts this very program again as the reader. It dies with the calling thread.
    pub fn start(&self) -> io::Result<ReaderProcess> {
        let path = self.state_dir.join("reader.log");
        let log = fs::File::options().create(true).append(true).read(true).open(path)?;
        let from = log.metadata()?.len();
        let mut command = Command::new(reexec::PROGRAM);
        command
            .arg(reexec::READER)
            .arg("--pin-dir")
            .arg(&self.pin_dir)
            .arg("--state-dir")
            .arg(&self.state_dir)
            .args([
                "--endpoint",
                &self.endpoint,
                "--listen",
                "127.0.0.1:0",
                "--flush-ms",
                "5",
                "--in-flight",
                "1",
                "--node",
                &self.node,
            ])
            .args(["--fault", self.fault.as_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.try_clone()?);
        if let Some(Credentials { authority, certificate, key }) = &self.credentials {
            command
                .arg("--tls-ca")
                .arg(authority)
                .arg("--tls-cert")
                .arg(certificate)
                .arg("--tls-key")
                .arg(key);
        }
        if let Some(emitter::Options { events_endpoint, logs_endpoint, lane_certificates }) = &self.telemetry
        {
            for (option, url) in [("--events-endpoint", events_endpoint), ("--logs-endpoint", logs_endpoint)]
            {
                command.args(url.iter().flat_map(|url| [option, url]));
            }
            if let Some(folder) = lane_certificates {
                command.arg("--lane-certificates").arg(folder);
            }
        }
        // Ctrl-C on a terminal is for the harness, which ends the reader when the last cell has.
        command.process_group(0);
        let harness = Pid::this();
        let procs = self.cgroup.procs().try_clone_to_owned()?;
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
            Ok(ended) => Ok(ReaderProcess { child, ended, log, from, is_stopped: false }),
            Err(error) => {
                // It dies with this process at the latest.
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }
}

impl ReaderProcess {
    /// Where it serves its pages, which it says in its log.
    pub fn pages(&self) -> Option<SocketAddr> {
        let mut start = vec![0; 4096];
        let length = self.log.read_at(&mut start, self.from).ok()?;
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
    pub fn explain(&mut self) -> String {
        let state = match self.child.try_wait() {
            Ok(None) => "running".to_owned(),
            Ok(Some(status)) => format!("ended with {status}"),
            Err(error) => format!("in an unknown state: {error}"),
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
    pub fn stop(&mut self) {
        if self.has_ended() {
            // Its number may be another's by now.
            let _ = self.child.wait();
            return;
        }
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        if !self.ended.ended_by(Instant::now() + STOP_LIMIT) {
            tracing::warn!("the lab's reader did not end in {STOP_LIMIT:?} and is killed");
        }
        self.kill();
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
