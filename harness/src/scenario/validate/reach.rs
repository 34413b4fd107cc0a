//! Whether what is expected can come of the steps at all.

use std::{collections::BTreeSet, net::IpAddr};

use serde_json::Value;

use super::Check;
use crate::scenario::{
    address::{AUTHORITY, Target},
    types::{DocumentExpectation, Scenario},
};

pub(super) fn check(check: &mut Check<'_>) {
    let scenario = check.scenario;
    let documents = &scenario.expect.documents;
    let bypass = scenario.each_step().any(|(_, step)| step.bypass.is_some());
    let destinations = Destinations::of(scenario);
    for (i, document) in documents.iter().enumerate() {
        let path = format!("expect.documents[{i}]");
        let same = |other: &&DocumentExpectation| {
            (&other.stream, &other.filter) == (&document.stream, &document.filter)
                && other.exactly.is_some()
                && document.exactly.is_some()
                && other.exactly != document.exactly
        };
        if documents[..i].iter().any(|other| same(&other)) {
            let message = "another number of the same documents is expected above";
            check.fault(&format!("{path}.exactly"), message);
        }
        // None is what is expected, and none is what there can be.
        if document.exactly == Some(0) {
            continue;
        }
        for (part, fields) in [("where", &document.filter), ("match", &document.fields)] {
            for (name, word) in [("verdict", "BYPASSED"), ("reason", "bypass")] {
                if !bypass && fields.get(name).is_some_and(|value| value == word) {
                    let message = "no step switches bypass on, so no document can say this";
                    check.fault(&format!("{path}.{part}.{name}"), message).help =
                        Some("add a step `bypass: {on: 5s}`".to_owned());
                }
            }
            // What `where` selects is said there.
            let own =
                |name| fields.get(name).filter(|_| part == "where" || !document.filter.contains_key(name));
            let inbound = [&document.filter, &document.fields]
                .iter()
                .any(|fields| fields.get("direction").is_some_and(|direction| direction != "outbound"));
            if let Some(destinations) = destinations.as_ref().filter(|_| !inbound) {
                port(check, &format!("{path}.{part}.dst_port"), own("dst_port"), destinations);
                address(check, &format!("{path}.{part}.dst_ip"), own("dst_ip"), destinations);
            }
        }
    }
}

/// Where steps go by their own words.
struct Destinations {
    ports: BTreeSet<u16>,
    addresses: BTreeSet<IpAddr>,
}

impl Destinations {
    /// `None` if a step may go anywhere: a program, or what this does not know.
    fn of(scenario: &Scenario) -> Option<Self> {
        let mut found = Self { ports: BTreeSet::new(), addresses: BTreeSet::new() };
        for (_, step) in scenario.each_step() {
            let server = step.ask.as_ref().and_then(|ask| ask.at);
            found.addresses.extend(server.map(|server| server.to_canonical()));
            let to = match (&step.connect, &step.send) {
                // A routing header leads elsewhere, and another destination of the socket may be met too.
                (Some(connect), _) if connect.route.is_none() => &connect.to,
                (_, Some(send)) if send.route.is_none() && send.other.is_none() => &send.to,
                _ if step.application().is_some() => {
                    step.application().map_or("", |destination| destination.to)
                }
                _ if step.flood.as_ref().is_some_and(|flood| flood.ports == 1) => {
                    step.flood.as_ref().map_or("", |flood| &flood.to)
                }
                _ if step.resolve.is_some()
                    || step.ask.is_some()
                    || step.bypass.is_some()
                    || step.rules.is_some()
                    || step.recreate.is_some()
                    || step.disturbance().is_some()
                    || step.wait.is_some() =>
                {
                    continue;
                }
                _ => return None,
            };
            let target: Target = to.parse().ok()?;
            found.ports.insert(target.port());
            if let Target::Address(address) = target {
                found.addresses.insert(address.ip().to_canonical());
            }
        }
        (!scenario.steps.is_empty()).then_some(found)
    }
}

fn port(check: &mut Check<'_>, path: &str, value: Option<&Value>, destinations: &Destinations) {
    let Some(port) = value.and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok()) else { return };
    // Names are looked up at port 53.
    if port != 53 && !destinations.ports.contains(&port) {
        let fault =
            check.fault(path, format!("no step goes to port {port}, so there can be no such document"));
        fault.expected = destinations.ports.iter().map(u16::to_string).collect();
    }
}

fn address(check: &mut Check<'_>, path: &str, value: Option<&Value>, destinations: &Destinations) {
    let Some(address) = value.and_then(|value| value.as_str()?.parse::<IpAddr>().ok()) else { return };
    let known: BTreeSet<IpAddr> = check
        .scenario
        .hosts
        .values()
        .flat_map(|host| host.addr.iter().copied())
        .chain(destinations.addresses.iter().copied())
        .chain([IpAddr::V4(AUTHORITY)])
        .collect();
    if !known.contains(&address.to_canonical()) {
        let message = format!("nothing here is at {address}, so there can be no such document");
        check.fault(path, message).expected = known.iter().map(IpAddr::to_string).collect();
    }
}
