//! Packets that an agent writes itself, header by header: a UDP datagram from its own address.

use std::net::{IpAddr, SocketAddr};

use etherparse::PacketBuilder;
use nix::{ifaddrs::getifaddrs, sys::socket::SockaddrStorage};

use super::{Stop, payload, udp::plain};
use crate::world::{AGENT_INTERFACE, AGENT_MAC, FAR_MAC};

/// Source port: no socket has it.
const SOURCE_PORT: u16 = 40_000;
/// Payload bytes.
const PAYLOAD: usize = 16;
/// Hop limit.
const HOPS: u8 = 64;
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

/// A whole frame to `dst`, by way of the other end of the link.
pub fn ethernet(dst: SocketAddr) -> Result<Vec<u8>, Stop> {
    let link = PacketBuilder::ethernet2(AGENT_MAC, FAR_MAC);
    let ip = match (own(dst)?, dst.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => link.ipv4(from.octets(), to.octets(), HOPS),
        (IpAddr::V6(from), IpAddr::V6(to)) => link.ipv6(from.octets(), to.octets(), HOPS),
        _ => return Err(Stop::new("EAFNOSUPPORT", "the agent has no address of this family")),
    };
    let mut frame = Vec::new();
    ip.udp(SOURCE_PORT, dst.port())
        .write(&mut frame, &payload(PAYLOAD))
        .map_err(|error| Stop::new("EINVAL", error.to_string()))?;
    Ok(frame)
}

/// The same without the link's header.
pub fn ip(dst: SocketAddr) -> Result<Vec<u8>, Stop> {
    Ok(ethernet(dst)?.split_off(ETHERNET))
}

/// The same without the IP header.
pub fn udp(dst: SocketAddr) -> Result<Vec<u8>, Stop> {
    Ok(ip(dst)?.split_off(if dst.is_ipv4() { 20 } else { 40 }))
}

/// The agent's address of the family of `dst`, which is not link-local.
fn own(dst: SocketAddr) -> Result<IpAddr, Stop> {
    let all = getifaddrs().map_err(Stop::errno("getifaddrs"))?;
    all.filter(|one| one.interface_name == AGENT_INTERFACE)
        .filter_map(|one| {
            let address: SockaddrStorage = one.address?;
            Some(plain(&address)?.ip())
        })
        .find(|address| match address {
            IpAddr::V4(_) => dst.is_ipv4(),
            IpAddr::V6(v6) => dst.is_ipv6() && !v6.is_unicast_link_local(),
        })
        .ok_or_else(|| Stop::new("EADDRNOTAVAIL", format!("{AGENT_INTERFACE} has no address for {dst}")))
}
