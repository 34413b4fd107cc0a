//! The process that acts as the agent: one process a step.
//!
//! The harness executes itself again (`reexec`), as another user in the agent's cgroup and
//! namespaces. The child reads one [`Action`] on standard input, makes the system calls it names,
//! and prints one [`Report`]. Where a socket does not simply come from the agent (`origin`), or the
//! far side is to act, it holds half-way until the harness has done its part. It must not know what
//! is expected of it, nor start a runtime, QUIC's and telemetry's aside: the system calls that it makes are the ones
//! under test.

mod accept;
mod ask;
pub(crate) mod confine;
pub(crate) mod dns;
mod flood;
mod frame;
mod grpc;
mod http3;
mod join;
mod option;
mod ping;
mod quic;
pub(crate) mod raw;
mod routing;
pub(crate) mod spawn;
pub(crate) mod stage;
mod stun;
mod tcp;
mod telemetry;
mod udp;
mod uring;
mod websocket;

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::scenario::types::{
    Accept, Ask, Connect, End, Exec, Family, Flood, Grpc, Http3, Join, Origin, Ping, Quic, Send, Socket,
    Step, Stun, Telemetry, Websocket,
};
use stage::Stage;

pub use confine::ConfineError;
pub use spawn::{Running, SpawnError};
pub use telemetry::Delivery;

/// What an actor does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A TCP connection.
    Connect(Connect),
    /// Datagrams.
    Send(Send),
    /// ICMP echo requests.
    Ping(Ping),
    /// A QUIC connection.
    Quic(Quic),
    /// An HTTP/3 request.
    Http3(Http3),
    /// A gRPC call.
    Grpc(Grpc),
    /// A WebSocket.
    Websocket(Websocket),
    /// A STUN binding request.
    Stun(Stun),
    /// What comes from the far side.
    Accept(Accept),
    /// Membership of a multicast group.
    Join(Join),
    /// A DNS look-up of both address families.
    Resolve(String),
    /// A DNS question.
    Ask(Ask),
    /// Only a socket, and perhaps one datagram.
    Socket(Socket),
    /// A program, unmodified.
    Exec(Exec),
    /// Telemetry, of which it is still to be said what and whom to.
    Telemetry(Telemetry),
    /// The same, complete.
    Deliver(Delivery),
    /// Attempts in a loop.
    Flood(Flood),
}

impl Action {
    /// What `step` asks of the agent; `None` where it asks something of the harness.
    #[must_use]
    pub fn of(step: &Step) -> Option<Self> {
        let Step {
            connect,
            send,
            ping,
            quic,
            http3,
            grpc,
            websocket,
            stun,
            accept,
            join,
            resolve,
            ask,
            socket,
            exec,
            telemetry,
            flood,
            ..
        } = step;
        None.or_else(|| connect.clone().map(Self::Connect))
            .or_else(|| send.clone().map(Self::Send))
            .or_else(|| ping.clone().map(Self::Ping))
            .or_else(|| quic.clone().map(Self::Quic))
            .or_else(|| http3.clone().map(Self::Http3))
            .or_else(|| grpc.clone().map(Self::Grpc))
            .or_else(|| websocket.clone().map(Self::Websocket))
            .or_else(|| stun.clone().map(Self::Stun))
            .or_else(|| accept.clone().map(Self::Accept))
            .or_else(|| join.clone().map(Self::Join))
            .or_else(|| resolve.clone().map(Self::Resolve))
            .or_else(|| ask.clone().map(Self::Ask))
            .or_else(|| socket.clone().map(Self::Socket))
            .or_else(|| exec.clone().map(Self::Exec))
            .or_else(|| telemetry.clone().map(Self::Telemetry))
            .or_else(|| flood.clone().map(Self::Flood))
    }

    /// Where its socket comes from.
    #[must_use]
    pub const fn origin(&self) -> Origin {
        match self {
            Self::Connect(connect) => connect.origin,
            Self::Send(send) => send.origin,
            Self::Accept(accept) => accept.origin,
            _ => Origin::Inside,
        }
    }

    /// Whether it holds half-way, until the harness has done its part.
    pub(crate) const fn holds(&self) -> bool {
        let origin = self.origin();
        matches!(self, Self::Accept(_))
            || matches!(origin, Origin::MovedIn | Origin::MovedOut | Origin::ConnectedOutside)
            || origin.is_early()
    }
}

/// What an actor saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// `ok`; the name of the first errno (`EPERM`); `NXDOMAIN`, `REFUSED` and other DNS response
    /// codes, `NODATA`; `EPROTO` where a protocol above the transport failed; `EOF` where the peer closed before
    /// it had sent enough; `exit N`; `mixed` where the attempts of a flood ended in different ways; `killed`; `timeout` where the actor or the harness gave up, as opposed to
    /// the kernel's `ETIMEDOUT`; `interrupted` where the run was.
    pub outcome: String,
    /// Which call it was, and more; for people.
    pub detail: String,
    /// Payload bytes that the kernel took.
    pub sent: u64,
    /// Payload bytes read.
    pub received: u64,
    /// Attempts that a flood made.
    pub attempts: u64,
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
    /// Half of it is done; the rest is done when the harness says so.
    Holding,
    /// Everything is done but the end, which is up to the harness: it kills.
    Ready(Report),
    /// The last line.
    Report(Report),
}

/// Why an action ended early.
pub(crate) struct Stop {
    outcome: String,
    detail: String,
}

impl Stop {
    /// `call` failed with `errno`.
    fn errno(call: &str) -> impl Fn(Errno) -> Self {
        move |errno| Self { outcome: format!("{errno:?}"), detail: format!("{call}: {}", errno.desc()) }
    }

    /// `call` failed; the name of the errno, where the kernel gave one.
    fn io(call: &str) -> impl Fn(io::Error) -> Self {
        move |error| match error.raw_os_error() {
            Some(errno) => Self::errno(call)(Errno::from_raw(errno)),
            None => Self::new("EPROTO", format!("{call}: {error}")),
        }
    }

    fn new(outcome: &str, detail: impl Into<String>) -> Self {
        Self { outcome: outcome.to_owned(), detail: detail.into() }
    }
}

/// The actor. Reads the action, does it, prints the report and exits.
pub(crate) fn main() -> ! {
    // The name in /proc/self/exe's place, for records carry it.
    let _ = nix::sys::prctl::set_name(c"actor");
    match stage::order() {
        Ok((action, stage)) => {
            let report = act(&action, &stage);
            if matches!(&action, Action::Connect(connect) if connect.end == End::Kill)
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
    let mut out = io::stdout().lock();
    // The harness is gone if this fails, and then nobody is left to tell.
    let _ =
        serde_json::to_writer(&mut out, line).map_err(io::Error::from).and_then(|()| out.write_all(b"\n"));
    let _ = out.flush();
}

fn act(action: &Action, stage: &Stage) -> Report {
    let mut report = Report { outcome: "ok".to_owned(), ..Report::default() };
    let done = match action {
        Action::Connect(connect) => tcp::run(connect, stage, &mut report),
        Action::Send(send) => udp::run(send, stage, &mut report),
        Action::Ping(ping) => ping::run(ping, &mut report),
        Action::Quic(quic) => quic::run(quic, &mut report),
        Action::Http3(http3) => http3::run(http3, &mut report),
        Action::Grpc(grpc) => grpc::run(grpc, &mut report),
        Action::Websocket(websocket) => websocket::run(websocket, &mut report),
        Action::Stun(stun) => stun::run(stun, &mut report),
        Action::Accept(accept) => accept::run(accept, &mut report),
        Action::Join(join) => join::run(join, &mut report),
        Action::Resolve(name) => dns::run(name, &mut report),
        Action::Ask(question) => ask::run(question, &mut report),
        Action::Socket(socket) => raw::run(socket, &mut report),
        Action::Flood(flood) => flood::run(flood, &mut report),
        Action::Deliver(delivery) => telemetry::run(delivery, &mut report),
        Action::Telemetry(_) => Err(Stop::new("ENOSYS", "the harness makes a delivery of it")),
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
    let address = match to.parse() {
        Ok(address) => address,
        Err(_) => {
            let (name, port) = to
                .rsplit_once(':')
                .and_then(|(name, port)| Some((name, port.parse().ok()?)))
                .ok_or_else(|| {
                    Stop::new("EINVAL", format!("`{to}` is not name:port, address:port or [address]:port"))
                })?;
            SocketAddr::new(dns::one(name, family, report)?, port)
        }
    };
    let address = match address {
        SocketAddr::V4(v4) if family == Some(Family::Mapped) => {
            SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
        }
        other => other,
    };
    report.dst = Some(address);
    Ok(address)
}

/// What `via: routing_header` needs.
fn route(route: Option<Ipv6Addr>) -> Result<Ipv6Addr, Stop> {
    route.ok_or_else(|| Stop::new("EINVAL", "`via: routing_header` needs a `route`"))
}

/// Payload, the same for every call so that captures can be compared.
fn payload(len: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(len).collect()
}
