//! Membership of a multicast group. The kernel's own socket reports it to the network.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use super::{Report, Stop, option::set, udp::Socket};
use crate::{scenario::types::Join, world::AGENT_LINK};

/// How long the report may take: it is repeated within a second or two (RFC 3376, RFC 3810).
const PATIENCE: Duration = Duration::from_secs(4);
/// Between two looks at the counter, which nothing announces.
const LOOK: Duration = Duration::from_millis(2);

/// Joins, and waits until a report has left.
pub fn run(join: &Join, report: &mut Report) -> Result<(), Stop> {
    let group = SocketAddr::new(join.group, 0);
    let socket = Socket::open(group)?;
    match join.group {
        IpAddr::V4(address) => {
            let member = libc::ip_mreqn {
                imr_multiaddr: libc::in_addr { s_addr: u32::from(address).to_be() },
                imr_address: libc::in_addr { s_addr: 0 },
                imr_ifindex: AGENT_LINK.cast_signed(),
            };
            set(&socket.0, libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, &member, "IP_ADD_MEMBERSHIP")?;
        }
        IpAddr::V6(address) => {
            let member = libc::ipv6_mreq {
                ipv6mr_multiaddr: libc::in6_addr { s6_addr: address.octets() },
                ipv6mr_interface: AGENT_LINK,
            };
            set(&socket.0, libc::IPPROTO_IPV6, libc::IPV6_ADD_MEMBERSHIP, &member, "IPV6_JOIN_GROUP")?;
        }
    }
    report.dst = Some(group);
    // Read after the call: a report that has left already is repeated.
    let before = multicasts(join.group);
    let deadline = Instant::now() + PATIENCE;
    while multicasts(join.group) == before {
        if Instant::now() >= deadline {
            return Err(Stop::new("timeout", "the kernel reported no membership to the network"));
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

/// Multicast packets that this namespace has sent.
fn multicasts(group: IpAddr) -> Option<u64> {
    if group.is_ipv6() {
        // One counter a line.
        let text = fs::read_to_string("/proc/net/snmp6").ok()?;
        return text.lines().find_map(|line| line.strip_prefix("Ip6OutMcastPkts")?.trim().parse().ok());
    }
    // A line of names, then a line of values, both after the group's name.
    let text = fs::read_to_string("/proc/net/netstat").ok()?;
    let mut lines = text.lines().filter(|line| line.starts_with("IpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split(' ').position(|name| name == "OutMcastPkts")?;
    values.split(' ').nth(at)?.parse().ok()
}
