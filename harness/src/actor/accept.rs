//! What comes from the far side: a connection, or a datagram to answer.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::socket::{
        self, AddressFamily, Backlog, MsgFlags, SockFlag, SockType, SockaddrStorage, getpeername, setsockopt,
        sockopt,
    },
};

use super::{
    Report, Stop, payload, stage, tcp,
    udp::{self, Socket, local},
};
use crate::scenario::types::{Accept, Family};

/// How long the far side may take to come.
const PATIENCE: Duration = Duration::from_secs(5);

/// Listens, tells the harness so, takes what comes and answers it.
pub fn run(accept: &Accept, report: &mut Report) -> Result<(), Stop> {
    let (kind, port) = match (accept.tcp, accept.udp) {
        (Some(port), None) => (SockType::Stream, port),
        (None, Some(port)) => (SockType::Datagram, port),
        _ => return Err(Stop::new("EINVAL", "`accept` has exactly one of `tcp` and `udp`")),
    };
    let socket = Socket(listen(kind, accept.family, port)?);
    let deadline = Instant::now() + PATIENCE;
    stage::hold();
    if !udp::readable(&socket, deadline) {
        return Err(Stop::new("timeout", "nobody came"));
    }
    if kind == SockType::Stream {
        // SAFETY: null pointers ask for no address.
        let raw = unsafe {
            libc::accept4(
                socket.0.as_raw_fd(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            )
        };
        let raw = Errno::result(raw).map_err(Stop::errno("accept"))?;
        // SAFETY: `raw` was just opened and belongs to nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        report.src = local(&fd);
        let peer = getpeername::<SockaddrStorage>(fd.as_raw_fd()).map_err(Stop::errno("getpeername"))?;
        report.dst = udp::plain(&peer);
        return tcp::serve(fd, accept.send, accept.receive, report);
    }
    report.src = socket.local();
    let mut buffer = vec![0; usize::from(u16::MAX)];
    let (len, peer) = socket.receive(&mut buffer, MsgFlags::empty()).map_err(Stop::errno("recvmsg"))?;
    report.received = len as u64;
    report.dst = peer;
    let Some(peer) = peer.filter(|_| accept.send > 0) else { return Ok(()) };
    let answer = payload(usize::try_from(accept.send).unwrap_or(buffer.len()));
    report.sent = socket.send_to(&answer, peer, MsgFlags::empty()).map_err(Stop::errno("sendto"))? as u64;
    Ok(())
}

fn listen(kind: SockType, family: Family, port: u16) -> Result<OwnedFd, Stop> {
    let (of, any) = match family {
        Family::V4 => (AddressFamily::Inet, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        Family::V6 | Family::Mapped => (AddressFamily::Inet6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    };
    let fd = socket::socket(of, kind, SockFlag::SOCK_CLOEXEC, None).map_err(Stop::errno("socket"))?;
    if of == AddressFamily::Inet6 {
        setsockopt(&fd, sockopt::Ipv6V6Only, &(family == Family::V6))
            .map_err(Stop::errno("setsockopt IPV6_V6ONLY"))?;
    }
    let local = SockaddrStorage::from(SocketAddr::new(any, port));
    socket::bind(fd.as_raw_fd(), &local).map_err(Stop::errno("bind"))?;
    if kind == SockType::Stream {
        let one = Backlog::new(1).map_err(Stop::errno("listen"))?;
        socket::listen(&fd, one).map_err(Stop::errno("listen"))?;
    }
    Ok(fd)
}
