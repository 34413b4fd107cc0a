//! UDP, one system call at a time.

use std::{
    io::IoSlice,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        self, AddressFamily, MsgFlags, MultiHeaders, SockFlag, SockType, SockaddrLike, SockaddrStorage,
        getsockname,
    },
};

use super::{Report, Stop, destination, payload};
use crate::scenario::types::{Send, SendVia};

/// How long answers are waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most messages that one sendmmsg takes (`UIO_MAXIOV`).
const MOST: usize = 1024;

/// Sends as `send` says, then waits for its answers. Every datagram is tried, whatever became of
/// the one before; the first error is the outcome.
pub fn run(send: &Send, report: &mut Report) -> Result<(), Stop> {
    let dst = destination(&send.to, Some(send.family), report)?;
    let len =
        usize::try_from(send.bytes).map_err(|_| Stop::new("EMSGSIZE", "bytes does not fit in memory"))?;
    let data = payload(len);
    let socket = Socket::open(dst)?;
    if send.via == SendVia::Connected {
        socket.connect(dst)?;
    }
    let mut first_error = Ok(());
    let mut note = |result: Result<usize, Stop>, report: &mut Report| match result {
        Ok(bytes) => report.sent += bytes as u64,
        Err(stop) if first_error.is_ok() => first_error = Err(stop),
        Err(_) => {}
    };
    if send.via == SendVia::Sendmmsg {
        let mut left = usize::try_from(send.count).unwrap_or(usize::MAX);
        while left > 0 {
            match socket.send_many(&data, left.min(MOST), dst) {
                Ok(messages) => {
                    left -= messages.min(left);
                    note(Ok(messages * len), report);
                }
                // The first message that was left failed; the call ends there.
                Err(errno) => {
                    note(Err(Stop::errno("sendmmsg")(errno)), report);
                    break;
                }
            }
        }
    } else {
        for i in 0..send.count {
            if let (1.., Some(pause)) = (i, send.pause) {
                thread::sleep(pause);
            }
            let (call, sent) = match send.via {
                SendVia::Sendto => ("sendto", socket.send_to(&data, dst)),
                SendVia::Sendmsg => ("sendmsg", socket.send_message(&data, dst)),
                SendVia::Connected | SendVia::Sendmmsg => ("send", socket.send(&data)),
            };
            note(sent.map_err(Stop::errno(call)), report);
        }
    }
    report.src = socket.local();
    first_error?;
    receive(&socket, send.receive, dst, report)
}

/// Reads `wanted` answers that came from `dst`.
fn receive(socket: &Socket, wanted: u32, dst: SocketAddr, report: &mut Report) -> Result<(), Stop> {
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    let mut got = 0;
    let mut stranger = None;
    while got < wanted {
        if !readable(socket, deadline) {
            let stranger = stranger.map_or(String::new(), |from| format!("; an answer came from {from}"));
            return Err(Stop::new("timeout", format!("{got} of {wanted} answers from {dst}{stranger}")));
        }
        let (len, from) = socket.receive(&mut buffer, MsgFlags::empty()).map_err(Stop::errno("recvfrom"))?;
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

/// An unbound UDP socket.
pub struct Socket(OwnedFd);

impl Socket {
    /// Of the family of `peer`.
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

    fn send_to(&self, data: &[u8], peer: SocketAddr) -> nix::Result<usize> {
        socket::sendto(self.0.as_raw_fd(), data, &SockaddrStorage::from(peer), MsgFlags::empty())
    }

    fn send_message(&self, data: &[u8], peer: SocketAddr) -> nix::Result<usize> {
        let peer = SockaddrStorage::from(peer);
        socket::sendmsg(self.0.as_raw_fd(), &[IoSlice::new(data)], &[], MsgFlags::empty(), Some(&peer))
    }

    /// `count` messages in one call; how many the kernel took.
    fn send_many(&self, data: &[u8], count: usize, peer: SocketAddr) -> nix::Result<usize> {
        let slices = vec![[IoSlice::new(data)]; count];
        let peers = vec![Some(SockaddrStorage::from(peer)); count];
        let mut headers = MultiHeaders::preallocate(count, None);
        let sent =
            socket::sendmmsg(self.0.as_raw_fd(), &mut headers, &slices, &peers, [], MsgFlags::empty())?;
        Ok(sent.count())
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

fn plain(address: &SockaddrStorage) -> Option<SocketAddr> {
    match address.family()? {
        AddressFamily::Inet => Some(std::net::SocketAddrV4::from(*address.as_sockaddr_in()?).into()),
        AddressFamily::Inet6 => {
            let v6 = address.as_sockaddr_in6()?;
            Some(SocketAddr::new(v6.ip().into(), v6.port()))
        }
        _ => None,
    }
}
