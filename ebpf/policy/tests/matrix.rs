//! Properties of the decision matrix over arbitrary worlds.

use abi::{
    Address, ICMP, ICMPV6, PORT_RANGES, PortRange, Reason, Routes, TCP, UDP, Verdict, Zone, v4_mapped,
};
use policy::{
    DNS_PORT, DNS_TLS_PORT, Decision, Destination, Facts, Permit, Route, decide, is_loopback, permits,
    socket_permitted,
};
use proptest::prelude::*;

/// A container's facts, with everything that could permit laid open.
#[derive(Clone, Debug)]
struct World {
    bypassed: bool,
    /// Of IPv4, of IPv6.
    resolver: (bool, bool),
    proxy: (bool, bool),
    zone: Zone,
    catch_all: Option<u16>,
    names: Vec<Routes>,
    prefix: Routes,
}

impl Facts for World {
    fn bypassed(&self) -> bool {
        self.bypassed
    }
    fn has_resolver(&self, dst: &Destination<'_>) -> bool {
        let v4 = std::net::Ipv6Addr::from(*dst.addr).to_ipv4_mapped().is_some();
        if v4 { self.resolver.0 } else { self.resolver.1 }
    }
    fn proxy(&self) -> (bool, bool) {
        self.proxy
    }
    fn address(&self, dst: &Destination<'_>) -> (Zone, Permit) {
        (self.zone, permits(&self.prefix, dst.l4_proto, dst.port))
    }
    fn domain(&self, dst: &Destination<'_>) -> Permit {
        let mut found = self.names.iter().map(|routes| permits(routes, dst.l4_proto, dst.port));
        found.find(|permit| *permit != Permit::NO).unwrap_or(Permit::NO)
    }
    fn catch_all(&self) -> Option<u16> {
        self.catch_all
    }
}

fn l4_proto() -> impl Strategy<Value = u8> {
    prop_oneof![Just(TCP), Just(UDP), Just(ICMP), Just(ICMPV6)]
}

fn range() -> impl Strategy<Value = PortRange> {
    (l4_proto(), any::<u16>(), any::<u16>(), prop_oneof![Just(0), any::<u16>()]).prop_map(
        |(l4_proto, a, b, listener)| PortRange {
            first: a.min(b),
            last: a.max(b),
            listener,
            l4_proto,
            pad: 0,
        },
    )
}

fn routes() -> impl Strategy<Value = Routes> {
    prop::collection::vec(range(), 0..=PORT_RANGES).prop_map(|ranges| {
        let mut routes = Routes::default();
        routes.ranges[..ranges.len()].copy_from_slice(&ranges);
        routes
    })
}

fn world() -> impl Strategy<Value = World> {
    let zone = prop_oneof![4 => Just(Zone::Elsewhere), 1 => Just(Zone::OwnSubnet), 1 => Just(Zone::Gateway)];
    let facts =
        (any::<bool>(), any::<(bool, bool)>(), any::<(bool, bool)>(), zone, prop::option::of(1..u16::MAX));
    (facts, prop::collection::vec(routes(), 0..4), routes()).prop_map(
        |((bypassed, resolver, proxy, zone, catch_all), names, prefix)| World {
            bypassed,
            resolver,
            proxy,
            zone,
            catch_all,
            names,
            prefix,
        },
    )
}

fn destination() -> impl Strategy<Value = (Address, u16, u8)> {
    let addr = prop_oneof![
        any::<[u8; 16]>(),
        any::<[u8; 4]>().prop_map(v4_mapped),
        Just(v4_mapped([127, 0, 0, 11])),
        Just([0; 16]),
    ];
    let port = prop_oneof![any::<u16>(), Just(DNS_PORT), Just(DNS_TLS_PORT)];
    (addr, port, l4_proto())
}

/// The rows as a table: condition and what follows. The first whose condition holds is expected.
fn first_row(world: &World, dst: &Destination<'_>) -> Decision {
    use Verdict::{Allowed, Bypassed, Denied};
    let row = |verdict, reason, route| Decision { verdict, reason, route, listener: 0 };
    let handed_to = |listener| Decision { listener, ..row(Allowed, Reason::Redirected, Route::Proxy) };
    let dns = dst.port == 53 && (dst.l4_proto == TCP || dst.l4_proto == UDP);
    let (zone, by_address) = world.address(dst);
    let by_name = world.domain(dst);
    let own = zone != Zone::Elsewhere;
    let proxy = match std::net::Ipv6Addr::from(*dst.addr).to_ipv4_mapped() {
        Some(_) => world.proxy.0,
        None if dst.l4_proto == TCP => world.proxy.0 || world.proxy.1,
        None => world.proxy.1,
    };
    let handed = |permit| proxy && permit != Permit::NO && permit != Permit::DIRECT;
    let other_tcp = dst.l4_proto == TCP && dst.port != 853;
    let rows = [
        (world.bypassed && dns && world.has_resolver(dst), row(Bypassed, Reason::Bypass, Route::Resolver)),
        (world.bypassed, row(Bypassed, Reason::Bypass, Route::Direct)),
        (dns && world.has_resolver(dst), row(Allowed, Reason::Dns, Route::Resolver)),
        (dns, row(Denied, Reason::Dns, Route::Direct)),
        (is_loopback(dst.addr), row(Allowed, Reason::Loopback, Route::Direct)),
        (own && by_address != Permit::NO, row(Allowed, Reason::Infrastructure, Route::Direct)),
        (zone == Zone::Gateway, row(Denied, Reason::Gateway, Route::Direct)),
        (own, row(Denied, Reason::OwnSubnet, Route::Direct)),
        (by_name == Permit::DIRECT, row(Allowed, Reason::DomainRule, Route::Direct)),
        (handed(by_name), handed_to(by_name.listener())),
        (by_address == Permit::DIRECT, row(Allowed, Reason::AddressRule, Route::Direct)),
        (handed(by_address), handed_to(by_address.listener())),
        (world.catch_all.is_some() && other_tcp && proxy, handed_to(world.catch_all.unwrap_or(0))),
        (true, row(Denied, Reason::NoRule, Route::Direct)),
    ];
    rows.into_iter().find(|(holds, _)| *holds).map(|(_, row)| row).expect("the last row always holds")
}

proptest! {
    #[test]
    fn the_first_matching_row_decides(world in world(), dst in destination()) {
        let dst = Destination { addr: &dst.0, port: dst.1, l4_proto: dst.2 };
        prop_assert_eq!(decide(&world, &dst), first_row(&world, &dst));
    }

    #[test]
    fn an_added_name_never_denies(world in world(), dst in destination(), added in routes()) {
        let dst = Destination { addr: &dst.0, port: dst.1, l4_proto: dst.2 };
        let before = decide(&world, &dst).verdict;
        let mut more = world;
        more.names.push(added);
        if before != Verdict::Denied {
            prop_assert_eq!(decide(&more, &dst).verdict, before);
        }
    }

    #[test]
    fn no_name_reaches_the_own_network(world in world(), dst in destination(), gateway in any::<bool>()) {
        let dst = Destination { addr: &dst.0, port: dst.1, l4_proto: dst.2 };
        let zone = if gateway { Zone::Gateway } else { Zone::OwnSubnet };
        let own = World { zone, bypassed: false, prefix: Routes::default(), ..world };
        let decision = decide(&own, &dst);
        prop_assert!(decision.verdict == Verdict::Denied || dst.is_dns() || is_loopback(dst.addr), "{decision:?}");
    }

    #[test]
    fn bypass_never_denies(world in world(), dst in destination()) {
        let dst = Destination { addr: &dst.0, port: dst.1, l4_proto: dst.2 };
        prop_assert_eq!(decide(&World { bypassed: true, ..world }, &dst).verdict, Verdict::Bypassed);
    }

    #[test]
    fn only_dns_goes_to_the_resolver(world in world(), dst in destination()) {
        let dst = Destination { addr: &dst.0, port: dst.1, l4_proto: dst.2 };
        prop_assert_eq!(decide(&world, &dst).route == Route::Resolver, dst.is_dns() && world.has_resolver(&dst));
    }

    #[test]
    fn a_rule_for_icmp_is_for_icmpv6_too(routes in routes(), port in any::<u16>()) {
        prop_assert_eq!(permits(&routes, ICMPV6, port), permits(&routes, ICMP, port));
    }

    #[test]
    fn loopback_is_what_the_standard_library_says_but_for_dockers_resolver(addr in destination().prop_map(|(addr, ..)| addr)) {
        let ip = std::net::Ipv6Addr::from(addr);
        let expected = match ip.to_ipv4_mapped() {
            Some(v4) => (v4.is_loopback() && v4.octets() != [127, 0, 0, 11]) || v4.is_unspecified(),
            None => ip.is_loopback() || ip.is_unspecified(),
        };
        prop_assert_eq!(is_loopback(&addr), expected);
    }

    #[test]
    fn only_listed_sockets_are_made(family in 0u32..45, kind in 0u32..11, protocol in 0u32..300, kinds in 0u32..8) {
        let expected = match (family, kind, protocol) {
            (2 | 10, 1, 6) | (2 | 10, 2, 17) | (2, 2, 1) | (10, 2, 58) => true,
            (2 | 10, 1, 262) => kinds & 1 != 0,
            (2 | 10, 1 | 5, 132) => kinds & 2 != 0,
            (2 | 10, 2, 136) => kinds & 4 != 0,
            _ => false,
        };
        prop_assert_eq!(socket_permitted(family, kind, protocol, kinds), expected);
    }
}
