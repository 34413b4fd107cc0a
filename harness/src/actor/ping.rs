//! Echo requests from an ICMP datagram socket.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{FromRawFd, OwnedFd},
};

use nix::{errno::Errno, sys::socket::MsgFlags};

use super::{
    Report, Stop, dns, payload,
    udp::{self, Socket},
};
use crate::scenario::types::{Ping, PingVia};

/// Bytes of the ICMP header of an echo request.
const HEADER: usize = 8;

/// Sends the requests, then waits for answers; the first error is the outcome.
pub fn run(ping: &Ping, report: &mut Report) -> Result<(), Stop> {
    let address: IpAddr = match ping.to.parse() {
        Ok(address) => address,
        Err(_) => dns::one(&ping.to, Some(ping.family), report)?,
    };
    let dst = SocketAddr::new(address, 0);
    report.dst = Some(dst);
    let len =
        usize::try_from(ping.bytes).map_err(|_| Stop::new("EMSGSIZE", "bytes does not fit in memory"))?;
    let socket = Socket(open(dst)?);
    if ping.via == PingVia::Connected {
        socket.connect(dst)?;
    }
    let mut first_error = Ok(());
    for sequence in 0..ping.count {
        let request = request(dst, sequence as u16, &payload(len));
        let (call, sent) = match ping.via {
            PingVia::Sendto => ("sendto", socket.send_to(&request, dst, MsgFlags::empty())),
            PingVia::Connected => ("send", socket.send(&request)),
        };
        match sent {
            Ok(bytes) => report.sent += bytes.saturating_sub(HEADER) as u64,
            Err(errno) if first_error.is_ok() => first_error = Err(Stop::errno(call)(errno)),
            Err(_) => {}
        }
    }
    report.src = socket.local();
    first_error?;
    udp::receive(&socket, ping.receive, dst, report)?;
    report.received = report.received.saturating_sub(HEADER as u64 * u64::from(ping.receive));
    Ok(())
}

fn open(dst: SocketAddr) -> Result<OwnedFd, Stop> {
    let (family, protocol) = if dst.is_ipv4() {
        (libc::AF_INET, libc::IPPROTO_ICMP)
    } else {
        (libc::AF_INET6, libc::IPPROTO_ICMPV6)
    };
    // SAFETY: a plain system call without pointers.
    let raw = Errno::result(unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, protocol) })
        .map_err(Stop::errno("socket"))?;
    // SAFETY: `raw` was just opened and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// The kernel fills in identifier and checksum.
fn request(dst: SocketAddr, sequence: u16, data: &[u8]) -> Vec<u8> {
    let kind = if dst.is_ipv4() { 8 } else { 128 };
    let [high, low] = sequence.to_be_bytes();
    [&[kind, 0, 0, 0, 0, 0, high, low], data].concat()
}
