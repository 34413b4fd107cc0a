//! A container's own network, what of it the container may reach, and the proxy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use abi::{ICMP, PortRange, TCP, UDP, Zone};
use ipnet::{IpNet, Ipv6Net};
use serde::{Deserialize, Serialize};

/// The network a container is in. Whatever rules say, it reaches nothing there but `infrastructure`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The network's prefixes.
    #[serde(default)]
    pub subnets: Vec<IpNet>,
    /// The host's addresses in it.
    #[serde(default)]
    pub gateways: Vec<IpAddr>,
    /// What the container was given there: each port over TCP and UDP, and the address over ICMP.
    #[serde(default)]
    pub infrastructure: Vec<SocketAddr>,
}

/// Where flows are handed to, for it to see what they say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proxy {
    /// Its IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address. Without one, IPv6 connections go to `v4` in its mapped form, which sockets that
    /// are bound to IPv6 alone cannot reach, and rules with a listener permit no IPv6 datagrams.
    pub v6: Option<Ipv6Addr>,
    /// Port that takes TCP that no rule knows.
    pub catch_all: Option<u16>,
}

impl Network {
    /// Says what cannot be, if something cannot.
    pub(crate) fn problem(&self) -> Option<String> {
        for subnet in &self.subnets {
            if LINK_LOCAL.contains(subnet) {
                return Some(format!("{subnet} is link-local, which is nobody's own network"));
            }
        }
        self.infrastructure.iter().find(|endpoint| !self.holds(endpoint.ip())).map(|endpoint| {
            format!("the infrastructure {endpoint} is neither a gateway nor in a subnet of the container")
        })
    }

    /// Whether an address is of this network.
    pub(crate) fn holds(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.gateways.iter().any(|gateway| gateway.to_canonical() == ip)
            || self.subnets.iter().any(|subnet| subnet.contains(&ip))
    }

    /// Whether the container may ask from an address. Over IPv6 a process with CAP_NET_RAW borrows any,
    /// and an answer would carry its question there.
    pub(crate) fn may_ask_from(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let known = self.subnets.iter().any(|subnet| matches!(subnet, IpNet::V6(_)));
        ip.is_ipv4() || ip.is_loopback() || !known || self.holds(ip)
    }

    /// Whether a rule's prefix lies within, where rules say nothing.
    pub(crate) fn covers(&self, prefix: &IpNet) -> bool {
        self.subnets.iter().any(|subnet| subnet.contains(prefix))
            || self.gateways.iter().any(|gateway| IpNet::from(gateway.to_canonical()) == *prefix)
    }

    /// Its prefixes, what each is, and what is permitted there.
    pub(crate) fn zones(&self) -> Vec<(IpNet, Zone, Vec<PortRange>)> {
        let mut zones: Vec<_> =
            self.subnets.iter().map(|subnet| (subnet.trunc(), Zone::OwnSubnet, Vec::new())).collect();
        let hosts = self.infrastructure.iter().map(SocketAddr::ip).chain(self.gateways.iter().copied());
        for ip in hosts.map(|ip| ip.to_canonical()) {
            let host = IpNet::from(ip);
            zones.retain(|(prefix, ..)| *prefix != host);
            let gateway = self.gateways.iter().any(|gateway| gateway.to_canonical() == ip);
            let zone = if gateway { Zone::Gateway } else { Zone::OwnSubnet };
            zones.push((host, zone, self.ranges(ip)));
        }
        zones
    }

    fn ranges(&self, ip: IpAddr) -> Vec<PortRange> {
        let range = |l4_proto, first, last| PortRange { first, last, l4_proto, listener: 0, pad: 0 };
        let here = self.infrastructure.iter().filter(|endpoint| endpoint.ip().to_canonical() == ip);
        let mut ranges: Vec<PortRange> = here
            .flat_map(|at| [range(TCP, at.port(), at.port()), range(UDP, at.port(), at.port())])
            .collect();
        if !ranges.is_empty() {
            ranges.push(range(ICMP, 0, u16::MAX));
        }
        ranges
    }
}

/// `fe80::/10`.
const LINK_LOCAL: IpNet = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_borrowed_source_is_not_answered() {
        let subnet = |text: &str| text.parse::<IpNet>().expect("a prefix");
        let both = Network {
            subnets: vec![subnet("192.0.2.0/24"), subnet("2001:db8:1::/64")],
            gateways: vec!["2001:db8:9::1".parse().expect("an address")],
            infrastructure: Vec::new(),
        };
        let v4 = Network { subnets: vec![subnet("192.0.2.0/24")], ..Network::default() };
        for (source, of_both) in [
            ("2001:db8:1::7", true),
            ("2001:db8:9::1", true),
            ("2001:db8:2::7", false),
            ("fe80::1", false),
            ("::1", true),
            ("::ffff:203.0.113.7", true),
            ("203.0.113.7", true),
        ] {
            let source = source.parse().expect("an address");
            assert_eq!(both.may_ask_from(source), of_both, "{source}");
            assert!(v4.may_ask_from(source), "its IPv6 addresses are not known: {source}");
        }
    }
}
