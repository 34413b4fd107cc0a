//! Datagrams, one system call at a time.

mod call;
mod open;

use std::{
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        self, AddressFamily, MsgFlags, SockFlag, SockType, SockaddrLike, SockaddrStorage, getsockname,
    },
};

use super::{Report, Stop, destination, payload, route, routing, stage::Stage};
use crate::scenario::types::{Send, SendVia};
use call::Call;

/// How long answers are waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends as `send` says, then waits for its answers. Every datagram is tried, whatever became of
/// the one before; the first error is the outcome.
pub fn run(send: &Send, stage: &Stage, report: &mut Report) -> Result<(), Stop> {
    let dst = destination(&send.to, Some(send.family), report)?;
    let len =
        usize::try_from(send.bytes).map_err(|_| Stop::new("EMSGSIZE", "bytes does not fit in memory"))?;
    let data = payload(len);
    let socket = Socket(stage.socket(send.origin, || open::open(send.proto, dst))?);
    if send.via == SendVia::RoutingHeader {
        let first = route(send.route)?;
        routing::through(&socket.0, first)?;
        report.dst = Some(SocketAddr::new(first.into(), dst.port()));
    }
    let mut call = Call::new(send, &socket, dst)?;
    stage.connected(send.origin);
    let mut first_error = Ok(());
    let mut note = |result: Result<usize, Stop>, report: &mut Report| match result {
        Ok(bytes) => report.sent += bytes as u64,
        Err(stop) if first_error.is_ok() => first_error = Err(stop),
        Err(_) => {}
    };
    let mut left = usize::try_from(send.count).unwrap_or(usize::MAX);
    let mut first = true;
    while left > 0 {
        if let (false, Some(pause)) = (first, send.pause) {
            thread::sleep(pause);
        }
        first = false;
        let many = call.at_once(left, len);
        match call.send(&socket, &data, many) {
            Ok(sent) => {
                left -= sent.messages.clamp(1, left);
                note(Ok(sent.bytes), report);
            }
            Err(stop) => {
                note(Err(stop), report);
                // The first message that was left failed; a call for all of them ends there.
                if matches!(call, Call::Sendmmsg(_)) {
                    break;
                }
                left -= many.min(left);
            }
        }
    }
    report.src = socket.local();
    first_error?;
    receive(&socket, send.receive, dst, report)
}

/// Reads `wanted` answers that came from `dst`.
pub fn receive(socket: &Socket, wanted: u32, dst: SocketAddr, report: &mut Report) -> Result<(), Stop> {
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    let mut got = 0;
    let mut stranger = None;
    while got < wanted {
        if !readable(socket, deadline) {
            let stranger = stranger.map_or(String::new(), |from| format!("; an answer came from {from}"));
            return Err(Stop::new("timeout", format!("{got} of {wanted} answers from {dst}{stranger}")));
        }
        let (len, from) = match socket.receive(&mut buffer, MsgFlags::MSG_DONTWAIT) {
            // Woken by the kernel's notices about zero-copy buffers.
            Err(Errno::EAGAIN) => {
                super::tcp::released(&socket.0);
                continue;
            }
            other => other.map_err(Stop::errno("recvfrom"))?,
        };
        // A client discards what another address answers, so a redirection must be undone.
        if from.is_none_or(|from| from == dst) {
            got += 1;
            report.received += len as u64;
        } else {
            stranger = from;
        }
    }
    Ok(())
}

/// Waits for something to read; `false` at the deadline.
pub fn readable(socket: &Socket, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Round up: a wait that is cut short to 0 ms would spin.
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(socket.0.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) if Instant::now() >= deadline => return false,
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return true,
            Err(_) => return false,
        }
    }
}

/// An unbound datagram socket.
pub struct Socket(pub(super) OwnedFd);

impl Socket {
    /// UDP, of the family of `peer`.
    pub fn open(peer: SocketAddr) -> Result<Self, Stop> {
        let family = if peer.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        socket::socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
            .map(Self)
            .map_err(Stop::errno("socket"))
    }

    pub fn connect(&self, peer: SocketAddr) -> Result<(), Stop> {
        socket::connect(self.0.as_raw_fd(), &SockaddrStorage::from(peer)).map_err(Stop::errno("connect"))
    }

    pub fn send(&self, data: &[u8]) -> nix::Result<usize> {
        socket::send(self.0.as_raw_fd(), data, MsgFlags::empty())
    }

    pub fn send_to(&self, data: &[u8], peer: SocketAddr, flags: MsgFlags) -> nix::Result<usize> {
        socket::sendto(self.0.as_raw_fd(), data, &SockaddrStorage::from(peer), flags)
    }

    /// One datagram and where it came from.
    pub fn receive(&self, buffer: &mut [u8], flags: MsgFlags) -> nix::Result<(usize, Option<SocketAddr>)> {
        let mut slices = [std::io::IoSliceMut::new(buffer)];
        let message = socket::recvmsg::<SockaddrStorage>(self.0.as_raw_fd(), &mut slices, None, flags)?;
        Ok((message.bytes, message.address.as_ref().and_then(plain)))
    }

    pub fn local(&self) -> Option<SocketAddr> {
        local(&self.0)
    }
}

/// Address and port of a socket, where it is bound.
pub fn local(fd: &OwnedFd) -> Option<SocketAddr> {
    plain(&getsockname::<SockaddrStorage>(fd.as_raw_fd()).ok()?).filter(|address| address.port() != 0)
}

/// As the standard library has it.
pub fn plain(address: &SockaddrStorage) -> Option<SocketAddr> {
    match address.family()? {
        AddressFamily::Inet => Some(std::net::SocketAddrV4::from(*address.as_sockaddr_in()?).into()),
        AddressFamily::Inet6 => {
            let v6 = address.as_sockaddr_in6()?;
            Some(SocketAddr::new(v6.ip().into(), v6.port()))
        }
        _ => None,
    }
}
