//! How a TCP connection comes about.

use std::{
    net::SocketAddr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::PollFlags,
    sys::socket::{
        self, AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, getsockopt, setsockopt, sockopt,
    },
};

use super::{CHUNK, GRACE, feed::Feed, wait};
use crate::{
    actor::{
        Report, Stop, destination, option, payload, route, routing, stage::Stage, udp::local, uring::Ring,
    },
    scenario::types::{Connect, ConnectVia},
};

/// A connection, and what it has sent while it came about.
pub struct Opened {
    pub fd: OwnedFd,
    pub feed: Feed,
    /// Payload bytes that went with the handshake.
    pub sent: u64,
}

/// Makes the socket and connects it, as `action` says.
pub fn open(action: &Connect, stage: &Stage, timeout: Duration, report: &mut Report) -> Result<Opened, Stop> {
    let dst = destination(&action.to, action.family, report)?;
    let mut fd = stage.socket(action.origin, || make(action.via, dst, timeout))?;
    if action.via == ConnectVia::RoutingHeader {
        let first = route(action.route)?;
        routing::through(&fd, first)?;
        report.dst = Some(SocketAddr::new(first.into(), dst.port()));
    }
    let result = connect(&mut fd, action, dst, timeout);
    report.src = local(&fd);
    let (feed, sent) = result?;
    // What sends and receives from here on waits by `poll`, never in a call.
    fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(Stop::errno("fcntl O_NONBLOCK"))?;
    stage.connected(action.origin);
    Ok(Opened { fd, feed, sent })
}

fn make(via: ConnectVia, dst: SocketAddr, timeout: Duration) -> Result<OwnedFd, Stop> {
    let family = if dst.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let mut flags = SockFlag::SOCK_CLOEXEC;
    flags.set(SockFlag::SOCK_NONBLOCK, via == ConnectVia::Nonblock);
    let fd = if via == ConnectVia::IoUringSocket {
        Ring::new(false)?
            .socket(family as i32, libc::SOCK_STREAM | flags.bits())
            .map_err(Stop::errno("io_uring socket"))?
    } else if via == ConnectVia::Mptcp {
        // SAFETY: a plain system call without pointers.
        let raw =
            unsafe { libc::socket(family as i32, libc::SOCK_STREAM | flags.bits(), libc::IPPROTO_MPTCP) };
        let raw = Errno::result(raw).map_err(Stop::errno("socket"))?;
        // SAFETY: `raw` was just opened and belongs to nobody else.
        unsafe { OwnedFd::from_raw_fd(raw) }
    } else {
        socket::socket(family, SockType::Stream, flags, None).map_err(Stop::errno("socket"))?
    };
    let milliseconds = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    match setsockopt(&fd, sockopt::TcpUserTimeout, &milliseconds) {
        // Multipath TCP has no such option in every kernel; our own time-outs hold.
        Err(_) if via == ConnectVia::Mptcp => {}
        other => other.map_err(Stop::errno("setsockopt TCP_USER_TIMEOUT"))?,
    }
    Ok(fd)
}

fn connect(
    fd: &mut OwnedFd,
    action: &Connect,
    dst: SocketAddr,
    timeout: Duration,
) -> Result<(Feed, u64), Stop> {
    let peer = SockaddrStorage::from(dst);
    let plain = |fd: &OwnedFd| match socket::connect(fd.as_raw_fd(), &peer) {
        Err(Errno::EINPROGRESS) => wait_connected(fd, timeout),
        other => other.map_err(Stop::errno("connect")),
    };
    match action.via {
        ConnectVia::Connect | ConnectVia::Nonblock | ConnectVia::Mptcp | ConnectVia::RoutingHeader => {
            plain(fd)?;
        }
        ConnectVia::Bind => {
            let any = if dst.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let any: SocketAddr = any.parse().map_err(|_| Stop::new("EINVAL", any))?;
            socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(any)).map_err(Stop::errno("bind"))?;
            plain(fd)?;
        }
        ConnectVia::IoUring | ConnectVia::IoUringSocket | ConnectVia::IoUringSqpoll => {
            let mut ring = Ring::new(action.via == ConnectVia::IoUringSqpoll)?;
            ring.connect(fd, dst).map_err(Stop::errno("io_uring connect"))?;
            return Ok((Feed::Ring(ring), 0));
        }
        ConnectVia::FastOpen => {
            let data = payload(usize::try_from(action.send).unwrap_or(CHUNK).min(CHUNK));
            let flags = option::FASTOPEN | MsgFlags::MSG_NOSIGNAL;
            let sent = socket::sendto(fd.as_raw_fd(), &data, &peer, flags);
            return Ok((Feed::Send, sent.map_err(Stop::errno("sendto MSG_FASTOPEN"))? as u64));
        }
        ConnectVia::FastOpenConnect => {
            setsockopt(fd, sockopt::TcpFastOpenConnect, &true)
                .map_err(Stop::errno("setsockopt TCP_FASTOPEN_CONNECT"))?;
            plain(fd)?;
        }
        ConnectVia::Splice => {
            plain(fd)?;
            return Ok((Feed::splice()?, 0));
        }
        ConnectVia::Sendfile => {
            plain(fd)?;
            return Ok((Feed::sendfile()?, 0));
        }
        ConnectVia::Zerocopy => {
            option::zerocopy(fd)?;
            plain(fd)?;
            return Ok((Feed::Zerocopy, 0));
        }
        ConnectVia::Reconnect => {
            plain(fd)?;
            disconnect(fd)?;
            plain(fd)?;
        }
    }
    Ok((Feed::Send, 0))
}

/// `connect()` with `AF_UNSPEC`, which a socket takes as the end of its connection.
fn disconnect(fd: &OwnedFd) -> Result<(), Stop> {
    // SAFETY: all zero is a valid sockaddr, of the family AF_UNSPEC, which is 0.
    let nobody: libc::sockaddr = unsafe { std::mem::zeroed() };
    // SAFETY: `nobody` is readable for the length given.
    let done = unsafe {
        libc::connect(fd.as_raw_fd(), &raw const nobody, size_of::<libc::sockaddr>() as libc::socklen_t)
    };
    Errno::result(done).map(drop).map_err(Stop::errno("connect AF_UNSPEC"))
}

fn wait_connected(fd: &OwnedFd, timeout: Duration) -> Result<(), Stop> {
    if wait(fd, PollFlags::POLLOUT, Instant::now() + timeout + GRACE)?.is_none() {
        return Err(Stop::new("timeout", "the connection neither came about nor failed"));
    }
    match getsockopt(fd, sockopt::SocketError).map_err(Stop::errno("getsockopt SO_ERROR"))? {
        0 => Ok(()),
        errno => Err(Stop::errno("connect")(Errno::from_raw(errno))),
    }
}
