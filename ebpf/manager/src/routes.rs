//! From rules to the port ranges that the maps hold.

use std::net::IpAddr;

use abi::{Address, PORT_RANGES, PortRange, Prefix, PrefixKey, Routes, Zone, v4_mapped};
use aya::maps::lpm_trie::Key;
use ipnet::{IpNet, Ipv4Net};
use rules::Destination;

use crate::{
    error::{Error, Result},
    network::Network,
    permit::Permit,
};

/// An address as the kernel side keys it.
pub(crate) fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(v4) => v4_mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// What a name is permitted: the union over every rule that names it.
pub(crate) fn of_name(permits: &[Permit], name: &str) -> Result<Routes> {
    pack(name, permits.iter().filter(|permit| permit.dst.names(name)).map(|permit| permit.range))
}

/// Checks that every name there can be has room for what it is permitted: a look-up is too late to find out.
pub(crate) fn fit(permits: &[Permit]) -> Result<()> {
    permits.iter().try_for_each(|permit| match &permit.dst {
        Destination::Domain(name) => of_name(permits, name).map(drop),
        // What no rule names by itself is permitted what this one and those above it say.
        Destination::Below(parent) => of_name(permits, &format!("*.{parent}")).map(drop),
        Destination::Prefix(_) => Ok(()),
    })
}

/// What each prefix is, and is permitted. The trie answers with the longest prefix alone, so each entry
/// also holds what every wider prefix of its family permits: a narrower rule never takes away. In the
/// container's own network, rules say nothing.
pub(crate) fn of_prefixes(
    permits: &[Permit],
    network: &Network,
    cgroup_id: u64,
) -> Result<Vec<(Key<PrefixKey>, Prefix)>> {
    let prefixes = || {
        permits.iter().filter_map(|permit| match permit.dst {
            Destination::Prefix(prefix) => Some((prefix, permit.range)),
            _ => None,
        })
    };
    let mut wanted: Vec<IpNet> =
        prefixes().map(|(prefix, _)| prefix).filter(|prefix| !network.covers(prefix)).collect();
    // IPv4 lies inside the IPv6 space here, but `::/0` says nothing of it: its own root stops the look-up.
    wanted.push(IpNet::V4(Ipv4Net::default()));
    wanted.sort();
    wanted.dedup();
    let elsewhere = wanted.into_iter().map(|wanted| {
        let covering = prefixes().filter(|(prefix, _)| prefix.contains(&wanted)).map(|(_, range)| range);
        (wanted, Zone::Elsewhere, covering.collect())
    });
    // The network comes last: where it is a whole family, it takes that family's root's place.
    let mut entries: Vec<(Key<PrefixKey>, Prefix)> = Vec::new();
    for (prefix, zone, ranges) in elsewhere.chain(network.zones()) {
        let (length, addr) = mapped(prefix);
        let key =
            Key::new(length.saturating_add(64), PrefixKey { cgroup_id_be: cgroup_id.to_be_bytes(), addr });
        let routes = pack("an address range", ranges.into_iter())?;
        entries.retain(|(other, _)| !same_key(other, &key));
        entries.push((key, Prefix { routes, zone: zone as u8, pad: [0; 7] }));
    }
    Ok(entries)
}

/// Whether two keys are of one entry.
pub(crate) fn same_key(one: &Key<PrefixKey>, other: &Key<PrefixKey>) -> bool {
    one.prefix_len() == other.prefix_len() && one.data() == other.data()
}

/// The trie's answer for an address: the entry with the longest prefix that holds it.
pub(crate) fn longest(entries: &[(Key<PrefixKey>, Prefix)], addr: &Address) -> Option<Prefix> {
    entries
        .iter()
        .filter(|(key, _)| same_prefix(&key.data().addr, addr, key.prefix_len().saturating_sub(64)))
        .max_by_key(|(key, _)| key.prefix_len())
        .map(|(_, prefix)| *prefix)
}

/// Length and address in the 128-bit space.
fn mapped(prefix: IpNet) -> (u32, Address) {
    let bits = u32::from(prefix.prefix_len());
    let length = if matches!(prefix, IpNet::V4(_)) { bits.saturating_add(96) } else { bits };
    (length, address(prefix.network()))
}

/// Whether two addresses agree in their first `bits` bits.
fn same_prefix(one: &Address, other: &Address, bits: u32) -> bool {
    let mask = u128::MAX.checked_shl(128u32.saturating_sub(bits)).unwrap_or(0);
    (u128::from_be_bytes(*one) ^ u128::from_be_bytes(*other)) & mask == 0
}

/// Merges what overlaps or touches and is handed to the same place, and packs it. Of ranges that are
/// handed to different places, the one that was listed first comes first, and so decides.
fn pack(what: &str, ranges: impl Iterator<Item = PortRange>) -> Result<Routes> {
    let mut merged: Vec<PortRange> = Vec::new();
    for mut range in ranges {
        let mut at = merged.len();
        // A range can close the gap between two that were apart.
        while let Some(index) = merged.iter().position(|other| touch(other, &range)) {
            let other = merged.remove(index);
            range.first = range.first.min(other.first);
            range.last = range.last.max(other.last);
            at = at.min(index);
        }
        merged.insert(at.min(merged.len()), range);
    }
    let mut routes = Routes::default();
    if merged.len() > PORT_RANGES {
        return Err(Error::Full {
            map: "route_map",
            what: format!(
                "{what} has {} separate port ranges, and at most {PORT_RANGES} fit; what is beyond",
                merged.len()
            ),
        });
    }
    for (slot, range) in routes.ranges.iter_mut().zip(merged) {
        *slot = range;
    }
    Ok(routes)
}

/// Whether two ranges can be one.
fn touch(one: &PortRange, other: &PortRange) -> bool {
    (one.l4_proto, one.listener) == (other.l4_proto, other.listener)
        && one.first <= other.last.saturating_add(1)
        && other.first <= one.last.saturating_add(1)
}

#[cfg(test)]
mod tests {
    use policy::Permit;
    use proptest::prelude::*;
    use rules::Rule;
    use serde_json::json;

    use super::*;
    use crate::permit::permits;

    fn rule(dst: &str, proto: &str, port: &str) -> Rule {
        serde_json::from_value(json!({"dst": dst, "proto": proto, "port": port})).expect("a rule")
    }

    #[test]
    fn the_v6_default_says_nothing_of_v4() {
        let permits = permits(&[rule("::/0", "tcp", "443")]).expect("well-formed");
        let entries = of_prefixes(&permits, &Network::default(), 7).expect("one range");
        let permitted = |ip: &str| {
            longest(&entries, &address(ip.parse().expect("an address")))
                .is_some_and(|prefix| policy::permits(&prefix.routes, abi::TCP, 443) == Permit::DIRECT)
        };
        assert!(permitted("2001:db8::1") && !permitted("198.51.100.7"));
    }

    proptest! {
        /// A destination is permitted exactly if some rule's prefix holds it and its ports do.
        #[test]
        fn longest_prefix_equals_any_rule(
            specs in prop::collection::vec((any::<[u8; 4]>(), 0u8..=32, any::<bool>(), 1u16..200, 0u16..50), 0..12),
            pick in any::<prop::sample::Index>(), other in any::<[u8; 4]>(), near in any::<bool>(),
            udp in any::<bool>(), port in 1u16..260,
        ) {
            let rules: Vec<Rule> = specs.iter().map(|(addr, bits, udp, first, extra)| {
                let addr = IpAddr::from(*addr);
                rule(&format!("{addr}/{bits}"), if *udp { "udp" } else { "tcp" }, &format!("{first}-{}", first + extra))
            }).collect();
            let permits = permits(&rules).expect("well-formed");
            let entries = of_prefixes(&permits, &Network::default(), 7).expect("few ranges");
            let dst = if near && !specs.is_empty() { specs[pick.index(specs.len())].0 } else { other };
            let ip = IpAddr::from(dst);
            let l4_proto = if udp { abi::UDP } else { abi::TCP };
            let naive = permits.iter().any(|permit| matches!(permit.dst, Destination::Prefix(net) if net.contains(&ip))
                && permit.range.l4_proto == l4_proto && (permit.range.first..=permit.range.last).contains(&port));
            let looked_up = longest(&entries, &address(ip)).is_some_and(|prefix| policy::permits(&prefix.routes, l4_proto, port) == Permit::DIRECT);
            prop_assert_eq!(looked_up, naive);
        }
    }

    #[test]
    fn touching_ranges_merge_and_too_many_are_refused() {
        let touching: Vec<_> =
            (0..100u16).map(|n| rule("a.test", "tcp", &format!("{}-{}", 10 + n, 10 + n))).collect();
        let routes = of_name(&permits(&touching).expect("well-formed"), "a.test").expect("one range");
        assert_eq!((routes.ranges[0].first, routes.ranges[0].last, routes.ranges[1].l4_proto), (10, 109, 0));
        let apart: Vec<_> = (0..17u16).map(|n| rule("a.test", "tcp", &format!("{}", 10 + 2 * n))).collect();
        assert!(of_name(&permits(&apart).expect("well-formed"), "a.test").is_err());
    }

    #[test]
    fn of_two_listeners_the_one_listed_first_decides() {
        let to = |port: &str, listener| rule("a.test", "tcp", port).handed_to(listener).expect("a port");
        let list = [to("443", 15_001), rule("a.test", "tcp", "1-1000"), to("400-500", 15_002)];
        let routes = of_name(&permits(&list).expect("well-formed"), "a.test").expect("three ranges");
        let at = |port| policy::permits(&routes, abi::TCP, port);
        assert_eq!(
            [at(443), at(442), at(444), at(1001)],
            [Permit::by(15_001), Permit::DIRECT, Permit::DIRECT, Permit::NO]
        );
    }

    #[test]
    fn rules_say_nothing_of_the_own_network() {
        let network = Network {
            subnets: vec!["192.0.2.0/24".parse().expect("a prefix")],
            gateways: vec!["192.0.2.1".parse().expect("an address")],
            infrastructure: vec![
                "192.0.2.1:443".parse().expect("an endpoint"),
                "192.0.2.9:53".parse().expect("another"),
            ],
        };
        let rules =
            ["0.0.0.0/0", "192.0.2.0/25", "192.0.2.1", "192.0.2.7"].map(|dst| rule(dst, "tcp", "1-65535"));
        let entries = of_prefixes(&permits(&rules).expect("well-formed"), &network, 7).expect("few ranges");
        let at = |ip: &str, l4_proto, port| {
            let prefix = longest(&entries, &address(ip.parse().expect("an address"))).expect("the root");
            (Zone::try_from(prefix.zone).expect("a zone"), policy::permits(&prefix.routes, l4_proto, port))
        };
        use abi::{ICMP, TCP, UDP};
        assert_eq!(at("192.0.3.1", TCP, 9), (Zone::Elsewhere, Permit::DIRECT));
        assert_eq!(at("192.0.2.7", TCP, 9), (Zone::OwnSubnet, Permit::NO));
        assert_eq!(at("192.0.2.1", TCP, 9), (Zone::Gateway, Permit::NO));
        for (l4_proto, port) in [(TCP, 443), (UDP, 443), (ICMP, 0)] {
            assert_eq!(at("192.0.2.1", l4_proto, port), (Zone::Gateway, Permit::DIRECT));
        }
        assert_eq!(at("192.0.2.9", UDP, 53), (Zone::OwnSubnet, Permit::DIRECT));
        assert_eq!(at("192.0.2.9", UDP, 443), (Zone::OwnSubnet, Permit::NO));
    }

    /// Sixteen ranges of a name fit, also where they come from rules of different width.
    #[test]
    fn rules_that_leave_a_name_without_room_are_refused_as_a_list() {
        let odd = |dst: &str, ports: std::ops::Range<u16>| -> Vec<Rule> {
            ports.map(|port| rule(dst, "tcp", &(2 * port + 1).to_string())).collect()
        };
        for (wide, narrow, fits) in
            [("*.test", "a.test", true), ("*.test", "*.a.test", true), ("*.b.test", "*.a.test", false)]
        {
            let list = |count| [odd(wide, 0..8), odd(narrow, 8..count)].concat();
            assert!(fit(&permits(&list(16)).expect("rules")).is_ok(), "{wide} {narrow}");
            assert_eq!(fit(&permits(&list(17)).expect("rules")).is_err(), fits, "{wide} {narrow}");
        }
        assert!(fit(&permits(&odd("a.test", 0..17)).expect("rules")).is_err());
    }
}
