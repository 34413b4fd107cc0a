//! What cannot be covered, and why. Measured: HOOKS of this project, and the kernel's own answers.

use abi::Verdict;

use crate::transport::{IpFamily, Position, Transport};

/// Why no case can cover a place, on any kernel.
pub fn because(Position { transport, family, verdict }: Position) -> Option<&'static str> {
    match (transport, family, verdict) {
        (Transport::Packet, ..) => {
            Some("no cgroup hook sees AF_PACKET: a known escape, which cases expect as `leak: known`")
        }
        (Transport::Igmp, ..) => Some(
            "the kernel sends membership reports itself, past every cgroup hook: a known escape, which cases expect as `leak: known`",
        ),
        (Transport::Vsock, ..) => {
            Some("not IP, and no cgroup hook sees it: a known escape; cases only make such sockets")
        }
        (Transport::Raw, IpFamily::Mapped, _) => {
            Some("a raw IPv6 socket sends IPv6 only: to a mapped address there is no route")
        }
        (Transport::Icmp, IpFamily::Mapped, Verdict::Denied) => Some(
            "the kernel sends nothing from a ping socket to a mapped address, so no control of a denial can arrive",
        ),
        (Transport::Raw, _, Verdict::Allowed) => {
            Some("by design: sock_create refuses raw sockets, and no rule can name them")
        }
        (Transport::Dccp, _, Verdict::Allowed) => {
            Some("by design: sock_create refuses DCCP, and no rule can name it")
        }
        _ => None,
    }
}
