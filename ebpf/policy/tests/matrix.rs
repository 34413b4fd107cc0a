//! Properties of the decision matrix over arbitrary worlds.

use abi::{Address, PORT_RANGES, PortRange, Reason, Routes, Verdict, v4_mapped};
use policy::{DNS_PORT, Decision, Destination, Facts, decide, is_loopback, permits, socket_permitted};
use proptest::prelude::*;

/// A container's facts, with everything that could permit laid open.
#[derive(Clone, Debug)]
struct World {
    bypassed: bool,
    /// Of IPv4, of IPv6.
    resolver: (bool, bool),
    names: Vec<Routes>,
    prefixes: Vec<Routes>,
}

impl Facts for World {
    fn bypassed(&self) -> bool {
        self.bypassed
    }
    fn has_resolver(&self, dst: &Destination<'_>) -> bool {
        let v4 = std::net::Ipv6Addr::from(*dst.addr).to_ipv4_mapped().is_some();
        if v4 { self.resolver.0 } else { self.resolver.1 }
    }
    fn domain_permits(&self, dst: &Destination<'_>) -> bool {
        self.names.iter().any(|routes| permits(routes, dst.l4_proto, dst.port))
    }
    fn address_permits(&self, dst: &Destination<'_>) -> bool {
        self.prefixes.iter().any(|routes| permits(routes, dst.l4_proto, dst.port))
    }
}

fn range() -> impl Strategy<Value = PortRange> {
    (prop_oneof![Just(abi::TCP), Just(abi::UDP)], any::<u16>(), any::<u16>())
        .prop_map(|(l4_proto, a, b)| PortRange { first: a.min(b), last: a.max(b), l4_proto, pad: [0; 3] })
}

fn routes() -> impl Strategy<Value = Routes> {
    prop::collection::vec(range(), 0..=PORT_RANGES).prop_map(|ranges| {
        let mut routes = Routes::default();
        routes.ranges[..ranges.len()].copy_from_slice(&ranges);
        routes
    })
}

fn world() -> impl Strategy<Value = World> {
    (
        any::<bool>(),
        any::<(bool, bool)>(),
        prop::collection::vec(routes(), 0..4),
        prop::collection::vec(routes(), 0..4),
    )
        .prop_map(|(bypassed, resolver, names, prefixes)| World { bypassed, resolver, names, prefixes })
}

fn destination() -> impl Strategy<Value = (Address, u16, u8)> {
    let addr = prop_oneof![
        any::<[u8; 16]>(),
        any::<[u8; 4]>().prop_map(v4_mapped),
        Just(v4_mapped([127, 0, 0, 11])),
        Just([0; 16]),
    ];
    let port = prop_oneof![any::<u16>(), Just(DNS_PORT)];
    let l4_proto = prop_oneof![Just(abi::TCP), Just(abi::UDP)];
    (addr, port, l4_proto)
}

/// The rows as a table: condition and what follows. The first whose condition holds is expected.
fn first_row(world: &World, dst: &Destination<'_>) -> (Verdict, Reason) {
    let dns = dst.port == DNS_PORT;
    let rows = [
        (world.bypassed, (Verdict::Bypassed, Reason::Bypass)),
        (dns && world.has_resolver(dst), (Verdict::Allowed, Reason::Dns)),
        (dns, (Verdict::Denied, Reason::Dns)),
        (is_loopback(dst.addr), (Verdict::Allowed, Reason::Loopback)),
        (world.domain_permits(dst), (Verdict::Allowed, Reason::DomainRule)),
        (world.address_permits(dst), (Verdict::Allowed, Reason::AddressRule)),
        (true, (Verdict::Denied, Reason::NoRule)),
    ];
    rows.into_iter().find(|(holds, _)| *holds).map(|(_, row)| row).expect("the last row always holds")
}

proptest! {
    #[test]
    fn the_first_matching_row_decides(world in world(), dst in destination()) {
        let dst = Destination { addr: &dst.0, port: dst.1, l4_proto: dst.2 };
        let Decision { verdict, reason, .. } = decide(&world, &dst);
        prop_assert_eq!((verdict, reason), first_row(&world, &dst));
    }

    #[test]
    fn an_added_rule_never_denies(world in world(), dst in destination(), added in routes(), domain in any::<bool>()) {
        let dst = Destination { addr: &dst.0, port: dst.1, l4_proto: dst.2 };
        let before = decide(&world, &dst).verdict;
        let mut more = world;
        if domain { more.names.push(added) } else { more.prefixes.push(added) }
        if before != Verdict::Denied {
            prop_assert_eq!(decide(&more, &dst).verdict, before);
        }
    }

    #[test]
    fn bypass_never_denies(world in world(), dst in destination()) {
        let dst = Destination { addr: &dst.0, port: dst.1, l4_proto: dst.2 };
        prop_assert_eq!(decide(&World { bypassed: true, ..world }, &dst).verdict, Verdict::Bypassed);
    }

    #[test]
    fn only_dns_goes_to_the_resolver(world in world(), dst in destination()) {
        let dst = Destination { addr: &dst.0, port: dst.1, l4_proto: dst.2 };
        let decision = decide(&world, &dst);
        prop_assert_eq!(decision.to_resolver, dst.port == DNS_PORT && world.has_resolver(&dst));
    }

    #[test]
    fn loopback_is_what_the_standard_library_says(addr in destination().prop_map(|(addr, ..)| addr)) {
        let ip = std::net::Ipv6Addr::from(addr);
        let expected = match ip.to_ipv4_mapped() {
            Some(v4) => v4.is_loopback() || v4.is_unspecified(),
            None => ip.is_loopback() || ip.is_unspecified(),
        };
        prop_assert_eq!(is_loopback(&addr), expected);
    }

    #[test]
    fn only_tcp_and_udp_sockets_are_made(family in 0u32..45, kind in 0u32..11, protocol in 0u32..300) {
        let expected = matches!((family, kind, protocol), (2 | 10, 1, 6) | (2 | 10, 2, 17));
        prop_assert_eq!(socket_permitted(family, kind, protocol), expected);
    }
}
