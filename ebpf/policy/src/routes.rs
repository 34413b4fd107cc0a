//! Port ranges of a domain or prefix.

use abi::{ICMP, ICMPV6, Routes};

use crate::Permit;

/// What `routes` permits `l4_proto` on `port` (host order): the first range around it decides. A range
/// of ICMP means ICMPv6 too.
#[inline(always)]
pub fn permits(routes: &Routes, l4_proto: u8, port: u16) -> Permit {
    let l4_proto = if l4_proto == ICMPV6 { ICMP } else { l4_proto };
    for range in &routes.ranges {
        // Used slots come first; protocol 0 marks the first free one.
        if range.l4_proto == 0 {
            return Permit::NO;
        }
        if range.l4_proto == l4_proto && range.first <= port && port <= range.last {
            return Permit::by(range.listener);
        }
    }
    Permit::NO
}
