//! What should happen: a second, naive reading of the rule list.
//!
//! It is one of the three oracles of every cell, so it may not share a line with what it judges:
//! it must know neither `policy` nor `manager`, nor how the kernel stores a rule. It is written to
//! be read next to the decision matrix, not to be fast.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use abi::{Reason, Verdict};
use ipnet::IpNet;

use crate::scenario::types::{PortSpec, Rule, Scenario};

/// Docker's own resolver: a socket of the daemon's in the container, by which a question leaves the machine.
const DOCKER_RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

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

impl Surroundings {
    /// Those of a case's agents: the `subnets` and `gateways` of the agent's link, and what the case adds.
    #[must_use]
    pub fn of(scenario: &Scenario, subnets: &[IpNet], gateways: &[IpAddr]) -> Self {
        let network = &scenario.network;
        Self {
            subnets: subnets.iter().chain(&network.subnets).copied().collect(),
            gateways: gateways.iter().chain(&network.gateways).copied().collect(),
            infrastructure: scenario.infrastructure(gateways),
            catch_all: scenario.proxy.as_ref().is_some_and(|proxy| proxy.catch_all.is_some()),
        }
    }
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
        if (dst.is_loopback() && dst != DOCKER_RESOLVER) || dst.is_unspecified() {
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
mod tests;
