//! Which of a container's rules the proxy serves, and on which of its ports.
//!
//! `connect()` is redirected, so the proxy sees neither the address nor the port that was asked for. A port that speaks
//! TLS or HTTP learns from the request where it goes; any other TCP destination needs a port of its own.

use std::collections::BTreeMap;

use rules::{Destination, Proto, Rule, Transport};

use crate::Container;

/// Ports of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listeners {
    /// Requests over TLS, which is ended here.
    pub https: u16,
    /// Requests.
    pub http: u16,
    /// TCP that no rule knows, to be seen and reset.
    pub catch_all: u16,
    /// Telemetry that containers send of themselves, by OTLP over TLS.
    pub telemetry: u16,
    /// First of those that hand TCP on as it is, one each destination.
    pub opaque: u16,
}

impl Default for Listeners {
    fn default() -> Self {
        Self { https: 15_443, http: 15_080, catch_all: 15_001, telemetry: 15_318, opaque: 16_000 }
    }
}

/// Where TCP is handed on to as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Handed {
    /// One name or one address.
    pub dst: Destination,
    /// Its port.
    pub port: u16,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Too many destinations.
    #[error(
        "{0} destinations of TCP need a port of the proxy each, and there is no room for so many from {1} on; permit less, or by prefix"
    )]
    NoPort(usize, u16),
    /// Two containers of one address, whose requests could not be told apart.
    #[error("the address {0} is that of two containers, {1} and {2}")]
    SharedAddress(std::net::IpAddr, String, String),
}

/// All containers, and what serves their rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The containers; each rule that the proxy serves has its listener.
    pub containers: Vec<Container>,
    /// Ports that hand on, by destination.
    pub handed: BTreeMap<Handed, u16>,
    /// The other ports.
    pub listeners: Listeners,
}

impl Plan {
    /// Gives every rule that the proxy serves its listener. `before` is the plan that holds now: a destination keeps the
    /// port that it has there, since flows are on their way to it. No other gets it either, as long as there are free ones: the
    /// kernel may be told a moment later than the proxy.
    ///
    /// # Errors
    /// If two containers have one address, or there are more destinations than ports.
    pub fn new(
        containers: &[Container],
        listeners: Listeners,
        before: Option<&Self>,
    ) -> Result<Self, PlanError> {
        let mut owners = BTreeMap::new();
        for container in containers {
            for address in &container.addresses {
                if let Some(other) = owners.insert(address.to_canonical(), &container.container_id) {
                    return Err(PlanError::SharedAddress(
                        *address,
                        other.clone(),
                        container.container_id.clone(),
                    ));
                }
            }
        }
        let handed = ports(containers, listeners, before)?;
        let containers = containers.iter().map(|container| {
            let rules = container.rules.iter().map(|rule| serve(rule, &listeners, &handed)).collect();
            Container { rules, ..container.clone() }
        });
        Ok(Self { containers: containers.collect(), handed, listeners })
    }
}

/// A port for each destination that needs one.
fn ports(
    containers: &[Container],
    listeners: Listeners,
    before: Option<&Plan>,
) -> Result<BTreeMap<Handed, u16>, PlanError> {
    let wanted = containers.iter().flat_map(|container| &container.rules).filter_map(handed_on);
    let mut ports: BTreeMap<Handed, Option<u16>> = wanted
        .map(|handed| {
            let port = before.and_then(|before| before.handed.get(&handed).copied());
            (handed, port)
        })
        .collect();
    let taken: Vec<u16> = ports.values().flatten().copied().collect();
    let reserved = [listeners.https, listeners.http, listeners.catch_all, listeners.telemetry];
    let usable =
        || (listeners.opaque..=u16::MAX).filter(|port| !taken.contains(port) && !reserved.contains(port));
    let left: Vec<u16> = before.into_iter().flat_map(|before| before.handed.values().copied()).collect();
    let mut free =
        usable().filter(|port| !left.contains(port)).chain(usable().filter(|port| left.contains(port)));
    let count = ports.len();
    for port in ports.values_mut().filter(|port| port.is_none()) {
        *port = Some(free.next().ok_or(PlanError::NoPort(count, listeners.opaque))?);
    }
    Ok(ports.into_iter().filter_map(|(handed, port)| Some((handed, port?))).collect())
}

/// Where a rule's flows are handed on to as they are, if the proxy does that for it.
fn handed_on(rule: &Rule) -> Option<Handed> {
    let opaque = matches!(rule.proto(), Proto::Tcp | Proto::Ssh)
        // Without a name there is none in the request that a certificate could be made for.
        || (rule.proto() == Proto::Https && matches!(rule.dst(), Destination::Prefix(_)));
    let is_one = match rule.dst() {
        Destination::Domain(_) => true,
        Destination::Below(_) => false,
        Destination::Prefix(prefix) => prefix.prefix_len() == prefix.max_prefix_len(),
    };
    let port = rule.ports().single()?;
    (rule.listener().is_none() && opaque && is_one).then(|| Handed { dst: rule.dst().clone(), port })
}

/// The rule with its listener. What the proxy cannot serve goes straight there: several ports or addresses, which it
/// could not tell apart, and whatever is not TCP.
fn serve(rule: &Rule, listeners: &Listeners, handed: &BTreeMap<Handed, u16>) -> Rule {
    if rule.listener().is_some() || rule.proto().transport() != Transport::Tcp {
        return rule.clone();
    }
    let named = !matches!(rule.dst(), Destination::Prefix(_));
    let listener = match rule.proto() {
        Proto::Https if named => Some(listeners.https),
        Proto::Http if named => Some(listeners.http),
        _ => handed_on(rule).and_then(|destination| handed.get(&destination).copied()),
    };
    match listener {
        // Of TCP, so it can be.
        Some(listener) => rule.clone().handed_to(listener).unwrap_or_else(|_| rule.clone()),
        None => rule.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(id: &str, address: &str, rules: &str) -> Container {
        Container {
            container_id: id.to_owned(),
            agent: format!("agent of {id}"),
            project: "demo".to_owned(),
            addresses: vec![address.parse().expect("an address")],
            rules: rules::parse(rules).expect("rules"),
        }
    }

    fn listeners_of(plan: &Plan) -> Vec<Option<u16>> {
        plan.containers.iter().flat_map(|container| &container.rules).map(Rule::listener).collect()
    }

    #[test]
    fn each_rule_has_the_listener_that_can_serve_it() {
        let rules = "
- {dst: api.test, proto: https}
- {dst: '*.cdn.test', proto: https, port: 8443}
- {dst: api.test, proto: http}
- {dst: git.test, proto: ssh}
- {dst: git.test, proto: tcp, port: 9418}
- {dst: 198.51.100.7, proto: https}
- {dst: 198.51.100.0/24, proto: tcp, port: 5432}
- {dst: ftp.test, proto: tcp, port: 50000-50100}
- {dst: '*.cdn.test', proto: tcp, port: 25}
- {dst: ntp.test, proto: udp, port: 123}
- {dst: api.test, proto: icmp}
- {dst: api.test, proto: mptcp, port: 443}
- {dst: own.test, proto: tcp, port: 1, listener: 17000}
";
        let plan =
            Plan::new(&[container("one", "198.18.0.2", rules)], Listeners::default(), None).expect("a plan");
        let expected = [
            Some(15_443),
            Some(15_443),
            Some(15_080),
            Some(16_000),
            Some(16_001),
            Some(16_002),
            None,
            None,
            None,
            None,
            None,
            None,
            Some(17_000),
        ];
        // Ports follow the order of destinations, which is not that of the list.
        let sorted = |listeners: &[Option<u16>]| {
            let mut listeners = listeners.to_vec();
            listeners.sort_unstable();
            listeners
        };
        assert_eq!(sorted(&listeners_of(&plan)), sorted(&expected));
        assert_eq!(plan.handed.len(), 3);
    }

    #[test]
    fn a_destination_keeps_its_port() {
        let two = "[{dst: m.test, proto: ssh}, {dst: z.test, proto: ssh}]";
        let before =
            Plan::new(&[container("one", "198.18.0.2", two)], Listeners::default(), None).expect("a plan");
        let other = "[{dst: a.test, proto: ssh}, {dst: z.test, proto: ssh}]";
        let after = Plan::new(&[container("one", "198.18.0.2", other)], Listeners::default(), Some(&before))
            .expect("a plan");
        let port = |plan: &Plan, name: &str| {
            plan.handed.iter().find(|(handed, _)| handed.dst.names(name)).map(|(_, port)| *port)
        };
        assert_eq!(port(&after, "z.test"), port(&before, "z.test"));
        // A new one gets neither that nor the port of one that is gone.
        let others = [port(&before, "m.test"), port(&before, "z.test")];
        assert!(!others.contains(&port(&after, "a.test")));
    }

    #[test]
    fn containers_of_one_address_are_refused() {
        let both = [container("one", "198.18.0.2", "[]"), container("two", "::ffff:198.18.0.2", "[]")];
        assert!(matches!(Plan::new(&both, Listeners::default(), None), Err(PlanError::SharedAddress(..))));
    }

    #[test]
    fn there_may_be_no_port_left() {
        let rules = "[{dst: a.test, proto: ssh}, {dst: b.test, proto: ssh}]";
        let listeners = Listeners { opaque: u16::MAX, ..Listeners::default() };
        let planned = Plan::new(&[container("one", "198.18.0.2", rules)], listeners, None);
        assert_eq!(planned, Err(PlanError::NoPort(2, u16::MAX)));
    }
}
