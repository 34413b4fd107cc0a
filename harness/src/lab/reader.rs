//! The shipped reader, in a process of its own.

use std::{
    fs,
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::sys::{
    prctl,
    signal::{Signal, kill},
};
use nix::unistd::Pid;

/// How long a reader may take to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(12);

/// The process, and its log.
pub(super) struct ReaderProcess {
    child: std::sync::Mutex<Child>,
    log: fs::File,
}

impl ReaderProcess {
    /// Starts this very program again as the reader.
    pub fn start(pin_dir: &Path, state_dir: &Path, endpoint: &str, fault: Option<&str>) -> io::Result<Self> {
        let log =
            fs::File::options().create(true).append(true).read(true).open(state_dir.join("reader.log"))?;
        let mut command = Command::new(crate::actor::program());
        command
            .arg(super::super::reexec::READER)
            .arg("--pin-dir")
            .arg(pin_dir)
            .arg("--state-dir")
            .arg(state_dir)
            .args(["--endpoint", endpoint, "--listen", "127.0.0.1:0", "--flush-ms", "5", "--node", "lab"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.try_clone()?);
        if let Some(fault) = fault {
            command.args(["--fault", fault]);
        }
        // SAFETY: prctl is async-signal-safe, and nothing else runs between fork and exec.
        unsafe {
            command.pre_exec(|| prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from));
        }
        Ok(Self { child: std::sync::Mutex::new(command.spawn()?), log })
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
        let deadline = Instant::now() + STOP_LIMIT;
        while Instant::now() < deadline {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}
