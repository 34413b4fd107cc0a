//! Starts an actor, and waits for its report.

use std::{
    fs,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use super::{
    Action, Line, Report,
    confine::{Cgroup, ConfineError, Confinement},
    stage::{Order, Part},
};
use crate::{
    interrupt,
    lab::needs,
    pidfd::PidFd,
    reexec,
    scenario::types::{Connect, End, Exec},
};

/// Bytes kept of each output stream.
const MOST_OUTPUT: usize = 64 * 1024;

/// Where programs are looked for if the harness itself has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why an actor could not be started, or told nothing. Failures of the environment.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// A step between fork and exec failed.
    #[error("the actor could not {step}: {source}")]
    Confine {
        /// Which.
        step: ConfineError,
        /// The kernel's answer.
        source: io::Error,
    },
    /// `exec.run` is empty.
    #[error("`run` names no program")]
    NoProgram,
    /// The program is not there for the agent.
    #[error(
        "there is no `{0}` in PATH; install it, or write `needs: [{{program: {0}}}]` to skip where it is missing"
    )]
    Missing(String),
    /// Fork, exec or a pipe failed.
    #[error("cannot run {program} as an actor: {source}")]
    Start {
        /// The program.
        program: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The actor ended without a report.
    #[error(
        "the actor ended ({status}) without a report: {stderr}; does the program call harness::reexec::role first?"
    )]
    NoReport {
        /// How it ended.
        status: ExitStatus,
        /// What it said instead.
        stderr: String,
    },
}

/// A process that acts as an agent. Dropping it kills it, and what it started.
pub struct Running {
    child: Child,
    pidfd: PidFd,
    /// To tell it to go on, while it holds.
    stdin: Option<ChildStdin>,
    stdout: Output,
    stderr: Output,
    exec: Option<Duration>,
    kill_when_ready: bool,
    reaped: Option<ExitStatus>,
}

/// Starts `part` of `action` in `confinement`, in `cgroup`. A descriptor that `part` names is inherited.
pub fn start(
    confinement: &Confinement,
    cgroup: Cgroup<'_>,
    action: &Action,
    part: Part,
) -> Result<Running, SpawnError> {
    begin(confinement, cgroup, action, part, None)
}

/// Starts a program that nobody waits for: what it says goes to `log`.
pub fn serve(confinement: &Confinement, run: &[String], log: &fs::File) -> Result<Running, SpawnError> {
    let exec = Exec { run: run.to_vec(), ..Exec::default() };
    begin(confinement, Cgroup::Own, &Action::Exec(exec), Part::Whole, Some(log))
}

/// Starts `part` of `action`; its output goes to `log` or, without one, into pipes.
fn begin(
    confinement: &Confinement,
    cgroup: Cgroup<'_>,
    action: &Action,
    part: Part,
    log: Option<&fs::File>,
) -> Result<Running, SpawnError> {
    let mut command = match action {
        Action::Exec(exec) => {
            let (program, arguments) = exec.run.split_first().ok_or(SpawnError::NoProgram)?;
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::null());
            command
        }
        _ => {
            let mut command = Command::new(reexec::PROGRAM);
            command.arg(reexec::ACTOR).stdin(Stdio::piped());
            command
        }
    };
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |source| SpawnError::Start { program: name.clone(), source };
    let (mut failures, failed_step) = io::pipe().map_err(failed)?;
    let (folder, home) = confinement.folders();
    agents_environment(&mut command, home);
    let output = || log.map_or_else(|| Ok(Stdio::piped()), |log| log.try_clone().map(Stdio::from));
    command.stdout(output().map_err(failed)?).stderr(output().map_err(failed)?);
    command.current_dir(folder).process_group(0);
    let steps = confinement.steps(cgroup, part, failed_step.as_raw_fd(), Some(std::process::id()));
    // SAFETY: the closure makes system calls only, see `Confinement::steps`.
    unsafe { command.pre_exec(steps) };
    let spawned = command.spawn();
    drop(failed_step);
    let mut child = match spawned {
        Ok(child) => child,
        Err(source) => {
            let mut step = [0];
            let step =
                failures.read(&mut step).is_ok_and(|len| len == 1).then(|| ConfineError::from_repr(step[0]));
            return Err(match step.flatten() {
                Some(step) => SpawnError::Confine { step, source },
                // Of a folder of PATH that the agent may not enter, the kernel's answer is another.
                None if !name.contains('/') && !needs::in_path(&name) => SpawnError::Missing(name.clone()),
                None => failed(source),
            });
        }
    };
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let pidfd = PidFd::open(&child).map_err(failed);
    let mut running = pidfd.and_then(|pidfd| {
        Ok(Running {
            pidfd,
            stdin: None,
            stdout: Output::new(stdout.map(OwnedFd::from)).map_err(failed)?,
            stderr: Output::new(stderr.map(OwnedFd::from)).map_err(failed)?,
            exec: match action {
                Action::Exec(exec) => Some(exec.timeout.unwrap_or(Exec::TIMEOUT)),
                _ => None,
            },
            kill_when_ready: matches!(action, Action::Connect(Connect { end: End::Kill, .. })),
            reaped: None,
            child,
        })
    })?;
    if let Some(mut stdin) = stdin {
        let text = serde_json::to_string(&Order { action: action.clone(), part }).map_err(io::Error::from);
        // An actor that is gone already says why on standard error.
        let written = text.and_then(|text| stdin.write_all(format!("{text}\n").as_bytes()));
        match written {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(failed(error)),
            _ => {}
        }
        running.stdin = action.holds().then_some(stdin);
    }
    Ok(running)
}

/// Not the harness's environment: a proxy or a configuration file named there would change what the
/// program does.
pub(crate) fn agents_environment(command: &mut Command, home: &Path) {
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    command.env_clear().env("PATH", path).env("HOME", home).env("LANG", "C.UTF-8");
}

impl Running {
    /// Process id, and id of its process group.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it holds. `false` if it ended before, or did neither in time: [`Running::wait`]
    /// has its report.
    pub fn held(&mut self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            let ended = self.ended();
            self.stdout.drain();
            if let Some(line) = self.stdout.take_holding() {
                return line;
            }
            if ended || Instant::now() >= deadline || interrupt::requested().is_some() {
                return false;
            }
            self.pump(deadline);
        }
    }

    /// Tells it to go on, if it holds.
    pub fn go(&mut self) {
        if let Some(mut stdin) = self.stdin.take() {
            // An actor that is gone already has said why.
            let _ = stdin.write_all(b"go\n");
        }
    }

    /// Waits for the report. After `timeout`, or a program's own if that is shorter, the process is
    /// killed and the outcome is `timeout`. An actor whose connection ends with `kill` is killed
    /// as soon as it is ready for that, and its outcome is that of its calls.
    pub fn wait(mut self, timeout: Duration) -> Result<Report, SpawnError> {
        let deadline = Instant::now() + self.exec.map_or(timeout, |own| own.min(timeout));
        let mut killed = None;
        while !self.ended() {
            if Instant::now() >= deadline {
                self.kill();
                let status = self.reap();
                return Ok(self.conclude(status, Some("timeout")));
            }
            if interrupt::requested().is_some() {
                self.kill();
                let status = self.reap();
                return Ok(self.conclude(status, Some("interrupted")));
            }
            self.pump(deadline);
            if self.kill_when_ready && killed.is_none() && self.stdout.holds_line() {
                self.kill();
                killed = Some("killed by the harness, as the step says");
            }
        }
        let status = self.reap();
        // What was written before the end is in the pipes by now.
        self.stdout.drain();
        self.stderr.drain();
        if self.exec.is_some() {
            return Ok(self.conclude(status, None));
        }
        match serde_json::from_slice(self.stdout.first_line()) {
            Ok(Line::Ready(report)) => Ok(Report { detail: killed.unwrap_or_default().to_owned(), ..report }),
            Ok(Line::Report(report)) => Ok(report),
            Ok(Line::Holding) => Ok(self.conclude(status, Some("timeout"))),
            Err(_) if status.signal().is_some() => Ok(self.conclude(status, None)),
            Err(_) => Err(SpawnError::NoReport { status, stderr: self.stderr.text() }),
        }
    }

    /// Kills the process and everything in its process group.
    pub fn kill(&mut self) {
        if self.reaped.is_none() {
            // Not reaped, so the id is still its own. It may be a zombie whose group is not.
            let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
        }
    }

    /// Whether the process has ended.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.pidfd.ended_by(Instant::now())
    }

    /// Ends what the process left running in its group, and collects its status.
    fn reap(&mut self) -> ExitStatus {
        self.kill();
        let status = self.child.wait().unwrap_or_default();
        self.reaped = Some(status);
        status
    }

    /// Waits for output or the end, and takes what output there is.
    fn pump(&mut self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        let mut fds = vec![PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        fds.extend(
            [&self.stdout, &self.stderr]
                .into_iter()
                .filter_map(Output::open)
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN)),
        );
        fds.extend(interrupt::descriptor().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let _ = poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        self.stdout.drain();
        self.stderr.drain();
    }

    fn conclude(&mut self, status: ExitStatus, outcome: Option<&str>) -> Report {
        let own = match (status.code(), status.signal()) {
            (Some(0), _) => "ok".to_owned(),
            (Some(code), _) => format!("exit {code}"),
            _ => "killed".to_owned(),
        };
        Report {
            outcome: outcome.map_or(own, str::to_owned),
            detail: status.to_string(),
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
            ..Report::default()
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.reaped.is_none() {
            let _ = self.reap();
        }
    }
}

/// One output stream of the process, kept up to [`MOST_OUTPUT`].
struct Output {
    pipe: Option<fs::File>,
    kept: Vec<u8>,
}

impl Output {
    fn new(pipe: Option<OwnedFd>) -> io::Result<Self> {
        if let Some(pipe) = &pipe {
            fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        Ok(Self { pipe: pipe.map(fs::File::from), kept: Vec::new() })
    }

    fn open(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Reads what there is; past the bound it is read and forgotten, so that the writer goes on.
    fn drain(&mut self) {
        let mut buffer = [0; 16 * 1024];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(len) => {
                    let room = MOST_OUTPUT - self.kept.len();
                    self.kept.extend_from_slice(&buffer[..len.min(room)]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// Takes the line that says that the actor holds; `Some(false)` if the first line is another.
    fn take_holding(&mut self) -> Option<bool> {
        let end = self.kept.iter().position(|&byte| byte == b'\n')?;
        let holds = matches!(serde_json::from_slice(&self.kept[..end]), Ok(Line::Holding));
        if holds {
            self.kept.drain(..=end);
        }
        Some(holds)
    }

    fn holds_line(&self) -> bool {
        self.kept.contains(&b'\n')
    }

    fn first_line(&self) -> &[u8] {
        self.kept.split(|&byte| byte == b'\n').next().unwrap_or_default()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.kept).into_owned()
    }
}
