//! Which address is whose: documentation ranges only (RFC 5737, RFC 3849).

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The authoritative DNS server of every world.
pub const AUTHORITY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 53);
/// The proxy of every world: in no agent's own network.
pub const PROXY_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);
/// The same, over IPv6; of the world's own range.
pub const PROXY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0xffff, 0, 0, 0, 0x80);
/// Where an agent's resolver view listens, on the far end of its veth.
pub const RESOLVER_PORT: u16 = 5300;
/// Prefix length of the IPv4 network of one veth pair.
pub const V4_PREFIX: u8 = 30;
/// Prefix length of the IPv6 network of one veth pair.
pub const V6_PREFIX: u8 = 64;

const fn v4(i: usize, host: usize) -> Ipv4Addr {
    // Fits: at most MOST_AGENTS = 64 networks of 4 addresses.
    Ipv4Addr::new(192, 0, 2, (4 * i + host) as u8)
}

const fn v6(i: usize, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0xffff, i as u16, 0, 0, 0, host)
}

/// The far end of agent `i`'s veth.
pub const fn far_v4(i: usize) -> Ipv4Addr {
    v4(i, 1)
}

/// Agent `i`.
pub const fn agent_v4(i: usize) -> Ipv4Addr {
    v4(i, 2)
}

/// The far end of agent `i`'s veth.
pub const fn far_v6(i: usize) -> Ipv6Addr {
    v6(i, 1)
}

/// Agent `i`.
pub const fn agent_v6(i: usize) -> Ipv6Addr {
    v6(i, 2)
}

/// The networks of agent `i`'s veth.
pub const fn subnets(i: usize) -> [IpNet; 2] {
    [IpNet::V4(Ipv4Net::new_assert(v4(i, 0), V4_PREFIX)), IpNet::V6(Ipv6Net::new_assert(v6(i, 0), V6_PREFIX))]
}
