//! From rules to the port ranges that the maps hold.

use std::net::IpAddr;

use abi::{Address, PORT_RANGES, PortRange, PrefixKey, Routes, v4_mapped};
use aya::maps::lpm_trie::Key;
use ipnet::{IpNet, Ipv4Net};

use crate::{
    error::{Error, Result},
    rules::{Permit, Target},
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
    pack(name, permits.iter().filter(|permit| permit.target.names(name)).map(|permit| permit.range))
}

/// What each prefix is permitted. The trie answers with the longest prefix alone, so each entry also
/// holds what every wider prefix of its family permits: a narrower rule never takes away.
pub(crate) fn of_prefixes(permits: &[Permit], cgroup_id: u64) -> Result<Vec<(Key<PrefixKey>, Routes)>> {
    let prefixes = || {
        permits.iter().filter_map(|permit| match permit.target {
            Target::Prefix(prefix) => Some((prefix, permit.range)),
            _ => None,
        })
    };
    let mut wanted: Vec<IpNet> = prefixes().map(|(prefix, _)| prefix).collect();
    // IPv4 lies inside the IPv6 space here, but `::/0` says nothing of it: its own root stops the look-up.
    wanted.push(IpNet::V4(Ipv4Net::default()));
    wanted.sort();
    wanted.dedup();
    let entry = |wanted: IpNet| {
        let covering = prefixes().filter(|(prefix, _)| prefix.contains(&wanted)).map(|(_, range)| range);
        let (length, addr) = mapped(wanted);
        let key = PrefixKey { cgroup_id_be: cgroup_id.to_be_bytes(), addr };
        Ok((Key::new(length.saturating_add(64), key), pack("an address range", covering)?))
    };
    wanted.into_iter().map(entry).collect()
}

/// The trie's answer for an address: the entry with the longest prefix that holds it.
pub(crate) fn longest(entries: &[(Key<PrefixKey>, Routes)], addr: &Address) -> Option<Routes> {
    entries
        .iter()
        .filter(|(key, _)| same_prefix(&key.data().addr, addr, key.prefix_len().saturating_sub(64)))
        .max_by_key(|(key, _)| key.prefix_len())
        .map(|(_, routes)| *routes)
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

/// Merges what overlaps or touches, and packs it.
fn pack(what: &str, ranges: impl Iterator<Item = PortRange>) -> Result<Routes> {
    let mut sorted: Vec<PortRange> = ranges.collect();
    sorted.sort_by_key(|range| (range.l4_proto, range.first, range.last));
    let mut merged: Vec<PortRange> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match merged.last_mut() {
            Some(last) if last.l4_proto == range.l4_proto && range.first <= last.last.saturating_add(1) => {
                last.last = last.last.max(range.last);
            }
            _ => merged.push(range),
        }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rules::{Port, Rule, permits};

    fn rule(dst: &str, proto: &str, port: &str) -> Rule {
        Rule { dst: dst.to_owned(), proto: proto.to_owned(), port: Some(Port::Range(port.to_owned())) }
    }

    #[test]
    fn the_v6_default_says_nothing_of_v4() {
        let permits = permits(&[rule("::/0", "tcp", "443")]).expect("well-formed");
        let entries = of_prefixes(&permits, 7).expect("one range");
        let permitted = |ip: &str| {
            longest(&entries, &address(ip.parse().expect("an address")))
                .is_some_and(|routes| policy::permits(&routes, abi::TCP, 443))
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
            let entries = of_prefixes(&permits, 7).expect("few ranges");
            let dst = if near && !specs.is_empty() { specs[pick.index(specs.len())].0 } else { other };
            let ip = IpAddr::from(dst);
            let l4_proto = if udp { abi::UDP } else { abi::TCP };
            let naive = permits.iter().any(|permit| matches!(permit.target, Target::Prefix(net) if net.contains(&ip))
                && permit.range.l4_proto == l4_proto && (permit.range.first..=permit.range.last).contains(&port));
            let looked_up = longest(&entries, &address(ip)).is_some_and(|routes| policy::permits(&routes, l4_proto, port));
            prop_assert_eq!(looked_up, naive);
        }
    }

    #[test]
    fn wildcards_mean_subdomains_only() {
        let permits = permits(&[rule("*.test", "tcp", "443")]).expect("well-formed");
        let permitted = |name| policy::permits(&of_name(&permits, name).expect("one range"), abi::TCP, 443);
        assert!(permitted("a.test") && permitted("a.b.test"));
        assert!(
            !permitted("test") && !permitted(".test") && !permitted("atest") && !permitted("a.test.evil")
        );
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
    fn rules_that_cannot_be_are_refused() {
        for (dst, proto, port) in [
            ("a.test", "quic", "443"),
            ("a.test", "tcp", "0"),
            ("a.test", "tcp", "9-8"),
            ("a.test", "tcp", "65536"),
            ("a b", "tcp", "1"),
            ("*.*.test", "tcp", "1"),
            ("", "tcp", "1"),
            ("198.51.100.0/33", "tcp", "1"),
        ] {
            assert!(permits(&[rule(dst, proto, port)]).is_err(), "{dst} {proto} {port}");
        }
        assert!(permits(&[Rule { dst: "a.test".into(), proto: "udp".into(), port: None }]).is_err());
    }
}
