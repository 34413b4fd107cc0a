//! Sockets of any kind.

use std::{
    net::SocketAddr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, SockaddrStorage, sendto},
};

use super::{Report, Stop, payload, udp::local};
use crate::scenario::types::Socket;

/// Makes the socket, and sends one datagram if told to. ICMP gets an echo request.
pub fn run(socket: &Socket, report: &mut Report) -> Result<(), Stop> {
    let family = number(&socket.family, &[("inet", libc::AF_INET), ("inet6", libc::AF_INET6)])?;
    let kinds = [("stream", libc::SOCK_STREAM), ("dgram", libc::SOCK_DGRAM), ("raw", libc::SOCK_RAW)];
    let kind = number(&socket.kind, &kinds)?;
    let protocol = socket.protocol.as_deref().map_or(Ok(0), |name| number(name, &PROTOCOLS))?;
    // SAFETY: a plain system call without pointers.
    let raw = Errno::result(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) })
        .map_err(Stop::errno("socket"))?;
    // SAFETY: `raw` was just opened and belongs to nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    let Some(to) = &socket.to else { return Ok(()) };
    let dst: SocketAddr = to
        .parse()
        .map_err(|_| Stop::new("EINVAL", format!("`{to}` is not address:port or [address]:port")))?;
    report.dst = Some(dst);
    let data = datagram(protocol);
    // A raw IPv6 socket takes the port as a protocol number and refuses another than its own.
    let mut target = dst;
    if kind == libc::SOCK_RAW {
        target.set_port(0);
    }
    let sent = sendto(fd.as_raw_fd(), &data, &SockaddrStorage::from(target), MsgFlags::empty());
    report.src = local(&fd);
    report.sent = sent.map_err(Stop::errno("sendto"))? as u64;
    Ok(())
}

const PROTOCOLS: [(&str, libc::c_int); 8] = [
    ("icmp", libc::IPPROTO_ICMP),
    ("icmpv6", libc::IPPROTO_ICMPV6),
    ("tcp", libc::IPPROTO_TCP),
    ("udp", libc::IPPROTO_UDP),
    ("sctp", libc::IPPROTO_SCTP),
    ("raw", libc::IPPROTO_RAW),
    ("udplite", libc::IPPROTO_UDPLITE),
    ("mptcp", libc::IPPROTO_MPTCP),
];

fn number(text: &str, names: &[(&str, libc::c_int)]) -> Result<libc::c_int, Stop> {
    let named = names.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
    named.or_else(|| text.parse().ok()).ok_or_else(|| {
        let known: Vec<_> = names.iter().map(|(name, _)| *name).collect();
        Stop::new("EINVAL", format!("`{text}` is neither a number nor one of {}", known.join(", ")))
    })
}

/// 16 bytes; for ICMP a valid echo request, with the checksum that raw IPv4 sockets do not add.
fn datagram(protocol: libc::c_int) -> Vec<u8> {
    let mut data = payload(16);
    let kind = match protocol {
        libc::IPPROTO_ICMP => 8,
        libc::IPPROTO_ICMPV6 => 128,
        _ => return data,
    };
    data[..8].copy_from_slice(&[kind, 0, 0, 0, 0, 1, 0, 1]);
    let sum: u32 = data.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    data[2..4].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    data
}
