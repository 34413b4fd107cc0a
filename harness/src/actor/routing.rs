//! An IPv6 routing header on a socket: an option that needs no capability.

use std::{
    net::Ipv6Addr,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::errno::Errno;

use super::Stop;

/// `IPV6_RTHDR` (`linux/in6.h`).
const IPV6_RTHDR: libc::c_int = 57;
/// The type of a segment routing header (RFC 8754), which Linux sends without privilege.
const SEGMENT_ROUTING: u8 = 4;

/// Packets of `fd` go to `first`, with the address that they were meant for in the header.
pub fn through(fd: &OwnedFd, first: Ipv6Addr) -> Result<(), Stop> {
    // Next header, length in 8 bytes after the first 8, type, segments left, last entry, flags, tag;
    // then the segments, last one first. The kernel fills in the last from the destination.
    let mut header = vec![0, 4, SEGMENT_ROUTING, 1, 1, 0, 0, 0];
    header.extend([0; 16]);
    header.extend(first.octets());
    // SAFETY: `header` is readable for its length.
    let set = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_IPV6,
            IPV6_RTHDR,
            header.as_ptr().cast(),
            header.len() as libc::socklen_t,
        )
    };
    Errno::result(set).map(drop).map_err(Stop::errno("setsockopt IPV6_RTHDR"))
}
