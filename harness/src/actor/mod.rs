//! The process that acts as the agent: one process a step.
//!
//! The harness executes itself again (`reexec`), as another user in the agent's cgroup and
//! namespaces. The child reads one [`Action`] on standard input, makes the system calls it names,
//! and prints one [`Report`]. It must not know what is expected of it, nor start a runtime: the
//! system calls that it makes are the ones under test.

pub(crate) mod confine;
mod dns;
mod raw;
pub(crate) mod spawn;
mod tcp;
mod udp;

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr},
};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::scenario::types::{Connect, Exec, Family, Send, Socket, Step};

pub use confine::ConfineError;
pub use spawn::{Running, SpawnError};

/// What an actor does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A TCP connection.
    Connect(Connect),
    /// UDP datagrams.
    Send(Send),
    /// A DNS look-up of both address families.
    Resolve(String),
    /// Only a socket, and perhaps one datagram.
    Socket(Socket),
    /// A program, unmodified.
    Exec(Exec),
}

impl Action {
    /// What `step` asks of the agent; `None` where it asks something of the harness.
    #[must_use]
    pub fn of(step: &Step) -> Option<Self> {
        let Step { connect, send, resolve, socket, exec, .. } = step;
        None.or_else(|| connect.clone().map(Self::Connect))
            .or_else(|| send.clone().map(Self::Send))
            .or_else(|| resolve.clone().map(Self::Resolve))
            .or_else(|| socket.clone().map(Self::Socket))
            .or_else(|| exec.clone().map(Self::Exec))
    }
}

/// What an actor saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// `ok`; the name of the first errno (`EPERM`); `NXDOMAIN`, `REFUSED` and other DNS response
    /// codes, `NODATA`; `EOF` where the peer closed before it had sent enough; `exit N`; `killed`;
    /// `timeout` where the actor or the harness gave up, as opposed to the kernel's `ETIMEDOUT`.
    pub outcome: String,
    /// Which call it was, and more; for people.
    pub detail: String,
    /// Payload bytes that the kernel took.
    pub sent: u64,
    /// Payload bytes read.
    pub received: u64,
    /// Where it was sent, after name resolution.
    pub dst: Option<SocketAddr>,
    /// The socket's own address and port, where it has one.
    pub src: Option<SocketAddr>,
    /// Addresses that the name led to.
    pub resolved: Vec<IpAddr>,
    /// A program's standard output, lossy, at most 64 KiB.
    pub stdout: String,
    /// A program's standard error, lossy, at most 64 KiB.
    pub stderr: String,
}

/// A line on the actor's standard output.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// Everything is done but the end, which is up to the harness: it kills.
    Ready(Report),
    /// The last line.
    Report(Report),
}

/// Why an action ended early.
struct Stop {
    outcome: String,
    detail: String,
}

impl Stop {
    /// `call` failed with `errno`.
    fn errno(call: &str) -> impl Fn(Errno) -> Self {
        move |errno| Self { outcome: format!("{errno:?}"), detail: format!("{call}: {}", errno.desc()) }
    }

    fn new(outcome: &str, detail: impl Into<String>) -> Self {
        Self { outcome: outcome.to_owned(), detail: detail.into() }
    }
}

/// The actor. Reads the action, does it, prints the report and exits.
pub(crate) fn main() -> ! {
    // The name in /proc/self/exe's place, for records carry it.
    let _ = nix::sys::prctl::set_name(c"actor");
    let mut text = String::new();
    let action = std::io::stdin().read_to_string(&mut text).map_err(|error| error.to_string());
    let action = action.and_then(|_| serde_json::from_str(&text).map_err(|error| error.to_string()));
    match action {
        Ok(action) => {
            let report = act(&action);
            if matches!(&action, Action::Connect(connect) if connect.end == crate::scenario::types::End::Kill)
                && report.outcome == "ok"
            {
                say(&Line::Ready(report));
                loop {
                    nix::unistd::pause();
                }
            }
            say(&Line::Report(report));
            std::process::exit(0)
        }
        Err(error) => {
            eprintln!("the actor cannot read its action: {error}");
            std::process::exit(2)
        }
    }
}

fn say(line: &Line) {
    let mut out = std::io::stdout().lock();
    // The harness is gone if this fails, and then nobody is left to tell.
    let _ = serde_json::to_writer(&mut out, line)
        .map_err(std::io::Error::from)
        .and_then(|()| out.write_all(b"\n"));
    let _ = out.flush();
}

fn act(action: &Action) -> Report {
    let mut report = Report { outcome: "ok".to_owned(), ..Report::default() };
    let done = match action {
        Action::Connect(connect) => tcp::run(connect, &mut report),
        Action::Send(send) => udp::run(send, &mut report),
        Action::Resolve(name) => dns::run(name, &mut report),
        Action::Socket(socket) => raw::run(socket, &mut report),
        Action::Exec(_) => Err(Stop::new("ENOSYS", "the harness executes programs itself")),
    };
    if let Err(Stop { outcome, detail }) = done {
        report.outcome = outcome;
        report.detail = detail;
    }
    report
}

/// The address that `to` means: a literal, or what its name resolves to, asked as the agent.
fn destination(to: &str, family: Option<Family>, report: &mut Report) -> Result<SocketAddr, Stop> {
    if let Ok(address) = to.parse() {
        report.dst = Some(address);
        return Ok(address);
    }
    let (name, port) =
        to.rsplit_once(':').and_then(|(name, port)| Some((name, port.parse().ok()?))).ok_or_else(|| {
            Stop::new("EINVAL", format!("`{to}` is not name:port, address:port or [address]:port"))
        })?;
    let address = dns::one(name, family, report)?;
    report.dst = Some(SocketAddr::new(address, port));
    Ok(SocketAddr::new(address, port))
}

/// Payload, the same for every call so that captures can be compared.
fn payload(len: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(len).collect()
}
