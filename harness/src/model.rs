//! What should happen: a second, naive reading of the rule list.
//!
//! It is one of the three oracles of every cell, so it may not share a line with what it judges:
//! it must know neither `policy` nor `manager`, nor how the kernel stores a rule. It is written to
//! be read next to the decision matrix, not to be fast.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use abi::{Reason, Verdict};
use ipnet::IpNet;

use crate::scenario::types::{PortSpec, Rule};

/// What carries an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Proto {
    /// `IPPROTO_TCP`.
    Tcp,
    /// `IPPROTO_UDP`.
    Udp,
    /// `IPPROTO_ICMP` and `IPPROTO_ICMPV6`.
    Icmp,
    /// `IPPROTO_SCTP`.
    Sctp,
    /// `IPPROTO_UDPLITE`.
    UdpLite,
    /// Anything else.
    Other,
}

impl Proto {
    /// The transport that documents call `name`.
    #[must_use]
    pub fn named(name: &str) -> Self {
        match name {
            "tcp" => Self::Tcp,
            "udp" => Self::Udp,
            "icmp" | "icmpv6" => Self::Icmp,
            "sctp" => Self::Sctp,
            "udplite" => Self::UdpLite,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Sctp => "sctp",
            Self::UdpLite => "udplite",
            Self::Other => "other",
        })
    }
}

/// One thing that an agent tried.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What it tried to reach, as its call said.
    pub dst: IpAddr,
    /// Destination port; of no meaning for [`Proto::Icmp`] and [`Proto::Other`].
    pub port: u16,
    /// Transport.
    pub l4_proto: Proto,
    /// The names that lead to `dst` for this agent, and are valid at this time.
    pub names: Vec<String>,
    /// Whether bypass is on for this agent at this time.
    pub bypass: bool,
}

/// What should become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// The row of the matrix that decides.
    pub reason: Reason,
    /// Whether there is a document of it. Loopback is not egress.
    pub recorded: bool,
    /// Why, in words.
    pub because: String,
}

/// What an agent's own network is.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Its prefixes.
    pub subnets: Vec<IpNet>,
    /// The host's addresses in it.
    pub gateways: Vec<IpAddr>,
    /// What the agent may reach there.
    pub infrastructure: Vec<SocketAddr>,
    /// Whether the proxy takes TCP that no rule knows.
    pub catch_all: bool,
}

/// The rules of one agent, and where it is.
#[derive(Clone, Debug)]
pub struct Model {
    rules: Vec<Rule>,
    surroundings: Surroundings,
}

impl Model {
    /// A model of this list, in these surroundings.
    pub fn new(rules: &[Rule], surroundings: &Surroundings) -> Self {
        Self { rules: rules.to_vec(), surroundings: surroundings.clone() }
    }

    /// Goes down the matrix, row by row; the first that applies decides.
    pub fn judge(&self, attempt: &Attempt) -> Judgement {
        // An IPv4 address in IPv6 clothes is the IPv4 case.
        let dst = attempt.dst.to_canonical();
        let judgement =
            |verdict, reason, because: String| Judgement { verdict, reason, recorded: true, because };

        if attempt.bypass {
            return judgement(Verdict::Bypassed, Reason::Bypass, "bypass is on".to_owned());
        }
        if attempt.port == 53 && matches!(attempt.l4_proto, Proto::Tcp | Proto::Udp) {
            return judgement(
                Verdict::Allowed,
                Reason::Dns,
                "DNS is redirected to the agent's resolver".to_owned(),
            );
        }
        if dst.is_loopback() || dst.is_unspecified() {
            let because = format!("{dst} does not leave the container");
            return Judgement { recorded: false, ..judgement(Verdict::Allowed, Reason::Loopback, because) };
        }
        let gateway = self.surroundings.gateways.iter().any(|gateway| gateway.to_canonical() == dst);
        if gateway || self.surroundings.subnets.iter().any(|subnet| subnet.contains(&dst)) {
            let here = |endpoint: &&SocketAddr| endpoint.ip().to_canonical() == dst;
            let reachable =
                self.surroundings.infrastructure.iter().filter(here).any(|endpoint| match attempt.l4_proto {
                    Proto::Tcp | Proto::Udp => endpoint.port() == attempt.port,
                    Proto::Icmp => true,
                    _ => false,
                });
            return if reachable {
                judgement(Verdict::Allowed, Reason::Infrastructure, format!("{dst} is infrastructure"))
            } else if gateway {
                judgement(Verdict::Denied, Reason::Gateway, format!("{dst} is the gateway"))
            } else {
                let because = format!("{dst} is in the agent's own network");
                judgement(Verdict::Denied, Reason::OwnSubnet, because)
            };
        }
        // Of several rules, the one listed first says where it goes.
        let direct = |rule: &Rule, reason| if rule.listener.is_some() { Reason::Redirected } else { reason };
        for name in &attempt.names {
            for rule in &self.rules {
                if names_domain(&rule.dst, name) && permits_port(rule, attempt) {
                    let because = format!("{} covers {name}, which leads to {dst}", words(rule));
                    return judgement(Verdict::Allowed, direct(rule, Reason::DomainRule), because);
                }
            }
        }
        for rule in &self.rules {
            if covers_address(&rule.dst, dst) && permits_port(rule, attempt) {
                let because = format!("{} covers {dst}", words(rule));
                return judgement(Verdict::Allowed, direct(rule, Reason::AddressRule), because);
            }
        }
        // DNS over TLS would hide what the agent asks for.
        if self.surroundings.catch_all && attempt.l4_proto == Proto::Tcp && attempt.port != 853 {
            let because = "no rule covers it, and the proxy takes what no rule covers".to_owned();
            return judgement(Verdict::Allowed, Reason::Redirected, because);
        }
        let names = if attempt.names.is_empty() { "no name".to_owned() } else { attempt.names.join(", ") };
        let because = format!("no rule covers {dst} ({names}) on {} port {}", attempt.l4_proto, attempt.port);
        judgement(Verdict::Denied, Reason::NoRule, because)
    }
}

/// Whether a socket of this kind may be made, by the numbers of `socket()`: TCP, UDP and ping, of IPv4
/// and IPv6. `protocol` 0 is the kind's own.
pub fn socket_permitted(family: i32, kind: i32, protocol: i32) -> bool {
    let internet = family == libc::AF_INET || family == libc::AF_INET6;
    let tcp = kind == libc::SOCK_STREAM && (protocol == 0 || protocol == libc::IPPROTO_TCP);
    let udp = kind == libc::SOCK_DGRAM && (protocol == 0 || protocol == libc::IPPROTO_UDP);
    let icmp = if family == libc::AF_INET { libc::IPPROTO_ICMP } else { libc::IPPROTO_ICMPV6 };
    let ping = kind == libc::SOCK_DGRAM && protocol == icmp;
    internet && (tcp || udp || ping)
}

/// `api.test` names itself; `*.test` names what is below `test`, at any depth, but not `test`.
/// DNS does not tell upper from lower case.
fn names_domain(dst: &str, name: &str) -> bool {
    let dst = dst.to_ascii_lowercase();
    let name = name.to_ascii_lowercase();
    match dst.strip_prefix("*.") {
        Some(suffix) => name.ends_with(&format!(".{suffix}")),
        None => name == dst,
    }
}

/// Whether a rule for an address or a prefix covers this one. An IPv6 prefix covers IPv6 only.
fn covers_address(dst: &str, address: IpAddr) -> bool {
    if let Ok(one) = dst.parse::<IpAddr>() {
        return one.to_canonical() == address;
    }
    dst.parse::<IpNet>().is_ok_and(|prefix| prefix.contains(&address))
}

fn permits_port(rule: &Rule, attempt: &Attempt) -> bool {
    let (l4_proto, default) = match rule.proto.as_str() {
        "tcp" => (Proto::Tcp, None),
        "udp" => (Proto::Udp, None),
        "icmp" => return attempt.l4_proto == Proto::Icmp,
        "mptcp" => (Proto::Tcp, None),
        "sctp" => (Proto::Sctp, None),
        "udplite" => (Proto::UdpLite, None),
        "https" => (Proto::Tcp, Some(443)),
        "http" => (Proto::Tcp, Some(80)),
        "ssh" => (Proto::Tcp, Some(22)),
        _ => return false,
    };
    let ports = match &rule.port {
        Some(PortSpec::One(port)) => Some((*port, *port)),
        Some(PortSpec::Range(text)) => {
            text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)))
        }
        None => default.map(|port| (port, port)),
    };
    attempt.l4_proto == l4_proto
        && ports.is_some_and(|(first, last)| first <= attempt.port && attempt.port <= last)
}

fn words(rule: &Rule) -> String {
    let port = match &rule.port {
        Some(PortSpec::One(port)) => format!(" {port}"),
        Some(PortSpec::Range(range)) => format!(" {range}"),
        None => String::new(),
    };
    format!("rule `{} {}{port}`", rule.dst, rule.proto)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(dst: &str, proto: &str, port: Option<PortSpec>) -> Rule {
        Rule { dst: dst.to_owned(), proto: proto.to_owned(), port, listener: None }
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
        for dst in ["127.0.0.1", "127.255.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "::ffff:0.0.0.0"]
        {
            let judgement =
                Model::new(&[], &Surroundings::default()).judge(&attempt(dst, 80, Proto::Tcp, &[]));
            assert_eq!((judgement.verdict, judgement.recorded), (Verdict::Allowed, false), "{dst}");
        }
        assert!(
            Model::new(&[], &Surroundings::default())
                .judge(&attempt("128.0.0.1", 80, Proto::Tcp, &[]))
                .recorded
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
        fn v4_mapped_is_v4(list in rules(), v4 in any::<std::net::Ipv4Addr>(), attempt in attempts()) {
            let plain = Model::new(&list, &Surroundings::default()).judge(&Attempt { dst: v4.into(), ..attempt.clone() });
            let mapped = Model::new(&list, &Surroundings::default()).judge(&Attempt { dst: v4.to_ipv6_mapped().into(), ..attempt });
            prop_assert_eq!(plain, mapped);
        }
    }
}
