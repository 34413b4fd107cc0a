//! Attempts in a loop, one system call each.

use std::{
    net::SocketAddr,
    os::fd::{AsRawFd as _, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        socket::{self, AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, setsockopt, sockopt},
        time::{TimeVal, TimeValLike as _},
    },
};

use super::{Report, Stop, destination, payload};
use crate::scenario::types::{Flood, FloodProto};

/// Payload bytes of a datagram.
const BYTES: usize = 16;
/// How long a handshake may keep the loop, seconds.
const HANDSHAKE: i64 = 2;

/// Attempts as `flood` says. Each is made, whatever became of the one before; the outcome is that of the first,
/// and `mixed` where another had another.
pub fn run(flood: &Flood, report: &mut Report) -> Result<(), Stop> {
    let dst = destination(&flood.to, Some(flood.family), report)?;
    let data = payload(BYTES);
    let began = Instant::now();
    let mut socket = None;
    let mut outcomes = Outcomes::default();
    let most = flood.count.map_or(u64::MAX, u64::from);
    while report.attempts < most && flood.length.is_none_or(|length| began.elapsed() < length) {
        if let Some(rate) = flood.rate {
            let due = Duration::from_secs(report.attempts) / rate.max(1);
            thread::sleep(due.saturating_sub(began.elapsed()));
        }
        let offset = u16::try_from(report.attempts % u64::from(flood.ports.max(1))).unwrap_or_default();
        let to = SocketAddr::new(dst.ip(), dst.port().saturating_add(offset));
        let fd = match socket.take() {
            Some(fd) => fd,
            None => open(flood.proto, to)?,
        };
        let result = attempt(flood.proto, &fd, to, &data);
        report.attempts += 1;
        // What was let through is a flow, which ends with its socket.
        if result.is_err() {
            socket = Some(fd);
        }
        if let Ok(sent) = result {
            report.sent += sent;
        }
        outcomes.add(result.map(drop));
    }
    outcomes.conclude(flood.proto)
}

fn open(proto: FloodProto, to: SocketAddr) -> Result<OwnedFd, Stop> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let kind = match proto {
        FloodProto::Udp => SockType::Datagram,
        FloodProto::Tcp => SockType::Stream,
    };
    let fd = socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, None).map_err(Stop::errno("socket"))?;
    // Of a connection, the handshake's too.
    setsockopt(&fd, sockopt::SendTimeout, &TimeVal::seconds(HANDSHAKE))
        .map_err(Stop::errno("setsockopt SO_SNDTIMEO"))?;
    Ok(fd)
}

/// One system call; payload bytes that the kernel took.
fn attempt(proto: FloodProto, fd: &OwnedFd, to: SocketAddr, data: &[u8]) -> Result<u64, Errno> {
    let to = SockaddrStorage::from(to);
    match proto {
        FloodProto::Udp => {
            socket::sendto(fd.as_raw_fd(), data, &to, MsgFlags::empty()).map(|sent| sent as u64)
        }
        FloodProto::Tcp => socket::connect(fd.as_raw_fd(), &to).map(|()| 0),
    }
}

/// What became of the attempts.
#[derive(Default)]
struct Outcomes {
    first: Option<Result<(), Errno>>,
    same: u64,
    /// The first that was not like the first of all, and how many.
    other: Option<(Result<(), Errno>, u64)>,
}

impl Outcomes {
    fn add(&mut self, result: Result<(), Errno>) {
        if *self.first.get_or_insert(result) == result {
            self.same += 1;
        } else {
            self.other.get_or_insert((result, 0)).1 += 1;
        }
    }

    fn conclude(self, proto: FloodProto) -> Result<(), Stop> {
        let call = match proto {
            FloodProto::Udp => "sendto",
            FloodProto::Tcp => "connect",
        };
        let word =
            |result: Result<(), Errno>| result.err().map_or("ok".to_owned(), |errno| format!("{errno:?}"));
        match (self.first, self.other) {
            (None, _) => Err(Stop::new("timeout", "there was no time for an attempt")),
            (Some(first), Some((other, several))) => {
                let detail = format!(
                    "{call}: {} of the attempts ended with {}, {several} otherwise, as with {}",
                    self.same,
                    word(first),
                    word(other)
                );
                Err(Stop::new("mixed", detail))
            }
            (Some(Err(errno)), None) => Err(Stop::errno(call)(errno)),
            (Some(Ok(())), None) => Ok(()),
        }
    }
}
