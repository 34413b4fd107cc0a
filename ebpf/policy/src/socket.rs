//! Which kinds of socket may be made at all.

use abi::socket_kind;

/// `AF_INET`.
pub const AF_INET: u32 = 2;
/// `AF_INET6`.
const AF_INET6: u32 = 10;
/// `SOCK_STREAM`.
const SOCK_STREAM: u32 = 1;
/// `SOCK_DGRAM`.
const SOCK_DGRAM: u32 = 2;
/// `SOCK_SEQPACKET`.
const SOCK_SEQPACKET: u32 = 5;
/// `IPPROTO_MPTCP`, the one protocol that does not fit a byte.
const MPTCP: u32 = 262;

/// The allow-list of `sock_create`: TCP, UDP and ICMP datagrams (ping) over IPv4 and IPv6, and the
/// `kinds` (bits of [`socket_kind`]) that a rule of the container names. The kernel has resolved
/// protocol 0 to the default of the type before its hook runs.
#[inline(always)]
pub fn socket_permitted(family: u32, kind: u32, protocol: u32, kinds: u32) -> bool {
    if family != AF_INET && family != AF_INET6 {
        return false;
    }
    let icmp = if family == AF_INET { abi::ICMP } else { abi::ICMPV6 };
    match kind {
        SOCK_STREAM if protocol == abi::TCP as u32 => true,
        SOCK_STREAM if protocol == MPTCP => kinds & socket_kind::MPTCP != 0,
        SOCK_DGRAM if protocol == abi::UDP as u32 || protocol == icmp as u32 => true,
        SOCK_DGRAM if protocol == abi::UDPLITE as u32 => kinds & socket_kind::UDPLITE != 0,
        SOCK_STREAM | SOCK_SEQPACKET if protocol == abi::SCTP as u32 => kinds & socket_kind::SCTP != 0,
        _ => false,
    }
}
