//! What an attempt is aimed at.

use abi::{Address, TCP, UDP};

/// Destination of an attempt, as the container named it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination<'a> {
    /// IPv4 in its mapped form. Borrowed: a kernel stack has no room for copies.
    pub addr: &'a Address,
    /// Host order; 0 for a transport without ports.
    pub port: u16,
    /// `IPPROTO_*`.
    pub l4_proto: u8,
}

impl Destination<'_> {
    /// Whether it is a question to a name server.
    #[inline(always)]
    #[must_use]
    pub const fn is_dns(&self) -> bool {
        self.port == crate::DNS_PORT && matches!(self.l4_proto, TCP | UDP)
    }
}

/// Docker's own resolver, which it puts into each container of a user-defined network.
const DOCKER_RESOLVER: u32 = u32::from_be_bytes([127, 0, 0, 11]);

/// Whether the address never leaves the machine: `127/8`, `::1`, and the unspecified addresses,
/// which Linux takes for loopback. Docker's resolver is no loopback: behind it is a socket of the daemon's, which
/// asks whoever the daemon asks.
#[inline(always)]
pub fn is_loopback(addr: &Address) -> bool {
    let [w0, w1, w2, w3] = words(addr);
    if w0 != 0 || w1 != 0 {
        return false;
    }
    match w2 {
        0 => w3 <= 1,
        0xffff => w3 == 0 || w3 >> 24 == 127 && w3 != DOCKER_RESOLVER,
        _ => false,
    }
}

/// Whether the address is an IPv4 one, in its mapped form.
#[inline(always)]
pub fn is_v4(addr: &Address) -> bool {
    let [w0, w1, w2, _] = words(addr);
    w0 == 0 && w1 == 0 && w2 == 0xffff
}

/// The address as four big-endian words. Word-wise tests keep the program short.
#[inline(always)]
fn words(addr: &Address) -> [u32; 4] {
    let &[a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = addr;
    [
        u32::from_be_bytes([a, b, c, d]),
        u32::from_be_bytes([e, f, g, h]),
        u32::from_be_bytes([i, j, k, l]),
        u32::from_be_bytes([m, n, o, p]),
    ]
}
