//! Which kinds of socket may be made at all.

/// `AF_INET`.
pub const AF_INET: u32 = 2;
/// `AF_INET6`.
const AF_INET6: u32 = 10;
/// `SOCK_STREAM`.
const SOCK_STREAM: u32 = 1;
/// `SOCK_DGRAM`.
const SOCK_DGRAM: u32 = 2;

/// The allow-list of `sock_create`: TCP and UDP over IPv4 and IPv6. The kernel has resolved
/// protocol 0 to the default of the type before its hook runs.
///
/// Ping sockets are not on it: no socket hook sees their `sendto`, so they wait for the packet gate.
#[inline(always)]
pub fn socket_permitted(family: u32, kind: u32, protocol: u32) -> bool {
    (family == AF_INET || family == AF_INET6)
        && ((kind == SOCK_STREAM && protocol == abi::TCP as u32)
            || (kind == SOCK_DGRAM && protocol == abi::UDP as u32))
}
