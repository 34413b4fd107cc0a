use proptest::prelude::*;

use super::*;

fn rule(dst: &str, proto: &str, port: Option<PortSpec>) -> Rule {
    Rule {
        dst: dst.to_owned(),
        proto: proto.to_owned(),
        port,
        listener: None,
        path_rules: Vec::new(),
        path_default: None,
    }
}

fn range(text: &str) -> Option<PortSpec> {
    Some(PortSpec::Range(text.to_owned()))
}

fn attempt(dst: &str, port: u16, l4_proto: Proto, names: &[&str]) -> Attempt {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Attempt { dst: dst.parse().unwrap(), port, l4_proto, names, bypass: false }
}

fn reason(rules: &[Rule], attempt: &Attempt) -> Reason {
    Model::new(rules, &Surroundings::default()).judge(attempt).reason
}

#[test]
fn rows_decide_in_order() {
    let rules = [rule("api.test", "https", None), rule("198.51.100.0/24", "udp", range("100-200"))];
    let at = |dst, port, l4_proto, names| reason(&rules, &attempt(dst, port, l4_proto, names));
    assert_eq!(at("198.51.100.7", 53, Proto::Udp, &[]), Reason::Dns);
    assert_eq!(at("127.0.0.11", 53, Proto::Tcp, &[]), Reason::Dns);
    assert_eq!(at("127.9.9.9", 53, Proto::Other, &[]), Reason::Loopback);
    assert_eq!(at("203.0.113.9", 443, Proto::Tcp, &["API.test"]), Reason::DomainRule);
    assert_eq!(at("203.0.113.9", 443, Proto::Udp, &["api.test"]), Reason::NoRule);
    assert_eq!(at("203.0.113.9", 443, Proto::Tcp, &[]), Reason::NoRule);
    assert_eq!(at("198.51.100.7", 100, Proto::Udp, &[]), Reason::AddressRule);
    assert_eq!(at("::ffff:198.51.100.7", 200, Proto::Udp, &[]), Reason::AddressRule);
    assert_eq!(at("198.51.100.7", 99, Proto::Udp, &[]), Reason::NoRule);
    assert_eq!(at("198.51.100.7", 201, Proto::Udp, &[]), Reason::NoRule);
    let bypassed = Attempt { bypass: true, ..attempt("198.51.100.7", 53, Proto::Udp, &[]) };
    assert_eq!(reason(&rules, &bypassed), Reason::Bypass);
}

#[test]
fn loopback_passes_in_every_form_and_is_not_recorded() {
    for dst in ["127.0.0.1", "127.255.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "::ffff:0.0.0.0"] {
        let judgement = Model::new(&[], &Surroundings::default()).judge(&attempt(dst, 80, Proto::Tcp, &[]));
        assert_eq!((judgement.verdict, judgement.recorded), (Verdict::Allowed, false), "{dst}");
    }
    assert!(
        Model::new(&[], &Surroundings::default()).judge(&attempt("128.0.0.1", 80, Proto::Tcp, &[])).recorded
    );
}

#[test]
fn a_wildcard_covers_what_is_below_it() {
    for (name, covered) in
        [("a.test", true), ("a.b.TEST", true), ("test", false), ("xtest", false), ("a.test.org", false)]
    {
        assert_eq!(names_domain("*.test", name), covered, "{name}");
    }
    assert!(names_domain("API.test", "api.TEST"));
    assert!(!names_domain("api.test", "v1.api.test"));
}

#[test]
fn rules_say_nothing_of_the_own_network() {
    let surroundings = Surroundings {
        subnets: vec!["198.51.100.0/24".parse().unwrap()],
        gateways: vec!["198.51.100.1".parse().unwrap()],
        infrastructure: vec!["198.51.100.1:53".parse().unwrap(), "198.51.100.9:9".parse().unwrap()],
        catch_all: true,
    };
    let rules = [rule("0.0.0.0/0", "tcp", range("1-65535")), rule("a.test", "tcp", range("1-65535"))];
    let at = |dst, port, l4_proto| {
        Model::new(&rules, &surroundings).judge(&attempt(dst, port, l4_proto, &["a.test"])).reason
    };
    assert_eq!(at("198.51.100.7", 9, Proto::Tcp), Reason::OwnSubnet);
    assert_eq!(at("198.51.100.9", 9, Proto::Tcp), Reason::Infrastructure);
    assert_eq!(at("198.51.100.9", 9, Proto::Udp), Reason::Infrastructure);
    assert_eq!(at("198.51.100.9", 0, Proto::Icmp), Reason::Infrastructure);
    assert_eq!(at("198.51.100.9", 8, Proto::Tcp), Reason::OwnSubnet);
    assert_eq!(at("198.51.100.1", 443, Proto::Tcp), Reason::Gateway);
    assert_eq!(at("203.0.113.1", 9, Proto::Tcp), Reason::DomainRule);
    let none = Model::new(&[], &surroundings);
    let reason = |port, l4_proto| none.judge(&attempt("203.0.113.1", port, l4_proto, &[])).reason;
    assert_eq!(reason(443, Proto::Tcp), Reason::Redirected);
    assert_eq!(reason(853, Proto::Tcp), Reason::NoRule);
    assert_eq!(reason(443, Proto::Udp), Reason::NoRule);
}

#[test]
fn any_valid_name_permits() {
    let rules = [rule("b.test", "tcp", Some(PortSpec::One(9)))];
    assert_eq!(
        reason(&rules, &attempt("198.51.100.7", 9, Proto::Tcp, &["a.test", "b.test"])),
        Reason::DomainRule
    );
}

#[test]
fn sockets_are_tcp_udp_and_ping() {
    use libc::{AF_INET, AF_INET6, AF_PACKET, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM};
    for family in [AF_INET, AF_INET6] {
        let ping = (SOCK_DGRAM, if family == AF_INET { 1 } else { 58 });
        let tcp_and_udp = [(SOCK_STREAM, 0), (SOCK_STREAM, 6), (SOCK_DGRAM, 0), (SOCK_DGRAM, 17)];
        for (kind, protocol) in tcp_and_udp.into_iter().chain([ping]) {
            assert!(socket_permitted(family, kind, protocol), "{family} {kind} {protocol}");
        }
        for (kind, protocol) in [
            (SOCK_RAW, 1),
            (SOCK_RAW, 6),
            (SOCK_RAW, 255),
            (SOCK_DGRAM, if family == AF_INET { 58 } else { 1 }),
            (SOCK_DGRAM, 136),
            (SOCK_STREAM, 132),
            (SOCK_STREAM, 262),
            (SOCK_STREAM, 17),
            (SOCK_DGRAM, 6),
        ] {
            assert!(!socket_permitted(family, kind, protocol), "{family} {kind} {protocol}");
        }
    }
    assert!(!socket_permitted(AF_PACKET, SOCK_DGRAM, 0));
}

// Few names, addresses and ports, so that rules and attempts meet often.
fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let dst = prop::sample::select(vec![
        "a.test",
        "b.a.test",
        "*.test",
        "*.a.test",
        "198.51.100.7",
        "198.51.100.0/24",
        "0.0.0.0/0",
        "::/0",
        "2001:db8::/32",
        "::ffff:198.51.100.7",
    ]);
    let proto = prop::sample::select(vec!["tcp", "udp", "https", "http", "ssh"]);
    let port = prop::option::of(prop_oneof![
        prop::sample::select(vec![22_u16, 53, 80, 443]).prop_map(PortSpec::One),
        (0_u16..500, 0_u16..500).prop_map(|(first, last)| PortSpec::Range(format!("{first}-{last}"))),
    ]);
    let any = (dst, proto, port).prop_map(|(dst, proto, port)| rule(dst, proto, port));
    prop::collection::vec(any, 0..6)
}

fn attempts() -> impl Strategy<Value = Attempt> {
    let near =
        ["198.51.100.7", "::ffff:198.51.100.7", "203.0.113.1", "127.0.0.1", "::1", "::", "2001:db8::1"];
    let dst = prop_oneof![
        prop::sample::select(near.to_vec()).prop_map(|text| text.parse().unwrap()),
        any::<IpAddr>(),
    ];
    let port = prop_oneof![prop::sample::select(vec![22_u16, 53, 80, 443]), 0_u16..500, any::<u16>()];
    let l4_proto = prop::sample::select(vec![Proto::Tcp, Proto::Udp, Proto::Other]);
    let name = prop::sample::select(vec!["a.test", "A.TEST", "b.a.test", "test", "c.org"]);
    let names = prop::collection::vec(name.prop_map(str::to_owned), 0..3);
    (dst, port, l4_proto, names, any::<bool>()).prop_map(|(dst, port, l4_proto, names, bypass)| Attempt {
        dst,
        port,
        l4_proto,
        names,
        bypass,
    })
}

proptest! {
    /// A list that grows, anywhere, permits no less.
    #[test]
    fn a_rule_more_never_denies(list in rules(), more in rules(), attempt in attempts(), at in any::<prop::sample::Index>()) {
        let before = Model::new(&list, &Surroundings::default()).judge(&attempt);
        let mut longer = list.clone();
        let at = at.index(list.len() + 1);
        longer.splice(at..at, more);
        let after = Model::new(&longer, &Surroundings::default()).judge(&attempt);
        prop_assert!(before.verdict == Verdict::Denied || after.verdict == before.verdict, "{before:?} {after:?}");
    }

    /// Bypass lets everything pass, and says so.
    #[test]
    fn bypass_never_denies(list in rules(), attempt in attempts()) {
        let judgement = Model::new(&list, &Surroundings::default()).judge(&Attempt { bypass: true, ..attempt });
        prop_assert_eq!((judgement.verdict, judgement.reason), (Verdict::Bypassed, Reason::Bypass));
    }

    /// Every attempt has a judgement whose parts agree, whatever the rules' text is.
    #[test]
    fn judgements_are_total(dst in "\\PC{0,20}", proto in "\\PC{0,6}", port in "\\PC{0,12}", list in rules(), attempt in attempts()) {
        let mut list = list;
        list.push(rule(&dst, &proto, range(&port)));
        let judgement = Model::new(&list, &Surroundings::default()).judge(&attempt);
        let fits = match judgement.verdict {
            Verdict::Denied => judgement.reason == Reason::NoRule,
            Verdict::Bypassed => judgement.reason == Reason::Bypass,
            Verdict::Allowed => matches!(
                judgement.reason,
                Reason::Dns | Reason::Loopback | Reason::DomainRule | Reason::AddressRule
            ),
        };
        prop_assert!(fits && !judgement.because.is_empty(), "{judgement:?}");
        prop_assert_eq!(judgement.recorded, judgement.reason != Reason::Loopback);
    }

    /// Which clothes an IPv4 address wears makes no difference.
    #[test]
    fn v4_mapped_is_v4(list in rules(), v4 in any::<Ipv4Addr>(), attempt in attempts()) {
        let plain = Model::new(&list, &Surroundings::default()).judge(&Attempt { dst: v4.into(), ..attempt.clone() });
        let mapped = Model::new(&list, &Surroundings::default()).judge(&Attempt { dst: v4.to_ipv6_mapped().into(), ..attempt });
        prop_assert_eq!(plain, mapped);
    }
}
