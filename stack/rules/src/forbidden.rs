//! Whom a name leads to nobody, whatever it resolves to.
//!
//! Who serves a ruled name chooses its addresses. Led to one of these, a container would be where only others may be: on the
//! proxy's loopback, at the machine's metadata service, among the stack's own servers. The proxy and the resolver views leave
//! them out of what a name server answers.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use crate::destination::canonical;

/// Of every machine, and what they are. Private ranges are not among them: rules name hosts of one's own network too.
const FORBIDDEN: [(&str, &str); 14] = [
    ("0.0.0.0/8", "an address of this host"),
    ("127.0.0.0/8", "a loopback address"),
    ("169.254.0.0/16", "a link-local address"),
    ("224.0.0.0/4", "a multicast address"),
    ("240.0.0.0/4", "a reserved or broadcast address"),
    ("::/128", "an unspecified address"),
    ("::1/128", "a loopback address"),
    ("fe80::/10", "a link-local address"),
    ("ff00::/8", "a multicast address"),
    // Of Azure, Alibaba, Oracle, AWS and Google, beside the link-local one.
    ("168.63.129.16/32", "a metadata service"),
    ("100.100.100.200/32", "a metadata service"),
    ("192.0.0.192/32", "a metadata service"),
    ("fd00:ec2::254/128", "a metadata service"),
    ("fd20:ce::254/128", "a metadata service"),
];

/// What makes `address` one that no name leads to, in words; `None` if it is none. `own` are the networks of the stack itself.
#[must_use]
pub fn why(address: IpAddr, own: &[IpNet]) -> Option<&'static str> {
    let mut all = all(own);
    all.find(|(range, _)| forms(*range).any(|range| range.contains(&address))).map(|(_, what)| what)
}

/// Every range that no name leads to, as IPv6 carries it too.
pub fn ranges(own: &[IpNet]) -> impl Iterator<Item = IpNet> {
    all(own).flat_map(|(range, _)| forms(range))
}

/// Each range and what it is.
fn all(own: &[IpNet]) -> impl Iterator<Item = (IpNet, &'static str)> {
    let everywhere = FORBIDDEN.iter().filter_map(|(range, what)| Some((range.parse().ok()?, *what)));
    everywhere.chain(own.iter().map(|range| (canonical(*range), "in a network of the stack itself")))
}

/// How IPv6 carries IPv4: mapped, and through a translator (RFC 6052).
const CARRIERS: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0)];

/// A range, and as IPv6 carries it.
fn forms(range: IpNet) -> impl Iterator<Item = IpNet> {
    std::iter::once(range).chain(CARRIERS.iter().filter_map(move |one| carried(range, *one)))
}

/// An IPv4 range as IPv6 carries it.
fn carried(range: IpNet, carrier: Ipv6Addr) -> Option<IpNet> {
    let IpNet::V4(v4) = range else { return None };
    let address = u128::from(carrier) | u128::from(u32::from(v4.addr()));
    Ipv6Net::new(address.into(), v4.prefix_len().checked_add(96)?).ok().map(IpNet::V6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(address: &str, own: &str) -> Option<&'static str> {
        super::why(address.parse().expect("an address"), &[own.parse().expect("a network")])
    }

    #[test]
    fn nobody_is_led_to_the_proxy_itself_to_the_link_or_to_the_stack() {
        let refused = [
            "0.0.0.0",
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "fe80::1",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "198.18.1.10",
            "::ffff:198.18.1.10",
            "64:ff9b::c612:10a",
            "64:ff9b::7f00:1",
            "168.63.129.16",
            "100.100.100.200",
            "fd00:ec2::254",
        ];
        for address in refused {
            // An IPv4 network may be written as IPv6 has it.
            for own in ["198.18.1.0/24", "::ffff:198.18.1.0/120"] {
                assert!(why(address, own).is_some(), "{address}");
            }
        }
        for address in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "192.0.2.1",
            "198.51.100.7",
            "203.0.113.7",
            "198.18.2.1",
            "2001:db8::7",
            "fd00::1",
            "::ffff:198.51.100.7",
            "64:ff9b::c633:6407",
        ] {
            assert_eq!(why(address, "198.18.1.0/24"), None, "{address}");
        }
    }

    #[test]
    fn every_line_of_the_table_is_a_range() {
        for (range, _) in FORBIDDEN {
            assert_eq!(range.parse::<IpNet>().map(|range| range.trunc().to_string()).as_deref(), Ok(range));
        }
    }

    #[test]
    fn an_ipv4_range_is_there_as_ipv6_carries_it_too() {
        let ranges: Vec<String> =
            ranges(&["198.18.1.0/24".parse().expect("a network")]).map(|range| range.to_string()).collect();
        for range in
            ["198.18.1.0/24", "::ffff:198.18.1.0/120", "64:ff9b::c612:100/120", "::ffff:127.0.0.0/104"]
        {
            assert!(ranges.iter().any(|one| one == range), "{range}: {ranges:?}");
        }
    }
}
