//! Port ranges of a domain or prefix.

use abi::Routes;

/// Whether `routes` holds a range of `l4_proto` around `port` (host order).
#[inline(always)]
pub fn permits(routes: &Routes, l4_proto: u8, port: u16) -> bool {
    for range in &routes.ranges {
        // Used slots come first; protocol 0 marks the first free one.
        if range.l4_proto == 0 {
            return false;
        }
        if range.l4_proto == l4_proto && range.first <= port && port <= range.last {
            return true;
        }
    }
    false
}
