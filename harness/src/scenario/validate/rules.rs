//! Egress rules, of the scenario and of a step.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Check;
use crate::scenario::{
    address,
    cell::printable,
    types::{PortSpec, Rule},
};

/// The transports and the names that fix one.
pub(crate) const PROTOS: [&str; 9] =
    ["tcp", "udp", "icmp", "https", "http", "ssh", "mptcp", "sctp", "udplite"];
/// Those that need no port.
const PORTLESS: [&str; 4] = ["icmp", "https", "http", "ssh"];

pub(super) fn check(check: &mut Check<'_>, path: &str, rules: &[Rule]) {
    for (i, rule) in rules.iter().enumerate() {
        let path = format!("{path}[{i}]");
        if let Err(why) = destination(&rule.dst) {
            let message = format!("`{}` is no destination of a rule: {why}", printable(&rule.dst));
            check.fault(&format!("{path}.dst"), message);
        }
        if !PROTOS.contains(&rule.proto.as_str()) {
            let message = format!("unknown proto `{}`", printable(&rule.proto));
            check.fault(&format!("{path}.proto"), message).suggest(&rule.proto, PROTOS);
        } else if rule.port.is_none() && !PORTLESS.contains(&rule.proto.as_str()) {
            let message = format!("a rule for `{}` needs a port", rule.proto);
            check.fault(&path, message).help =
                Some("add `port: 443`, or a range: `port: \"8000-8100\"`".to_owned());
        }
        if rule.proto == "icmp" && rule.port.is_some() {
            check.fault(&format!("{path}.port"), "icmp has no port");
        }
        if (!rule.path_rules.is_empty() || rule.path_default.is_some()) && !check.scenario.has_envoy() {
            let part = if rule.path_rules.is_empty() { "path_default" } else { "path_rules" };
            check.fault_of_key(&format!("{path}.{part}"), "nothing here reads requests").help =
                Some("add `proxy: {server: envoy}` to the scenario".to_owned());
        }
        if let Some(listener) = rule.listener {
            let at = format!("{path}.listener");
            if check.scenario.has_envoy() {
                check.fault(&at, "Envoy's listeners are given by the plan that ships").help =
                    Some("leave `listener` out".to_owned());
            } else if check.scenario.proxy.is_none() {
                check.fault(&at, "there is no proxy for a listener").help =
                    Some("add `proxy: {}` to the scenario".to_owned());
            } else if listener == 0 {
                check.fault(&at, "a port is from 1 to 65535");
            } else if matches!(rule.proto.as_str(), "icmp" | "sctp" | "udplite") {
                let message = format!("`{}` cannot be handed to a proxy", rule.proto);
                check.fault(&at, message);
            } else if rule.dst.parse::<IpAddr>().is_err() {
                check.require_host(&format!("{path}.dst"), &rule.dst);
            }
        }
        if let Some(port) = &rule.port
            && let Err(why) = ports(port)
        {
            check.fault(&format!("{path}.port"), why);
        }
    }
}

fn destination(dst: &str) -> Result<(), String> {
    if dst.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    if dst.contains('/') {
        let prefix: IpNet =
            dst.parse().map_err(|_| "it is not a prefix such as 198.51.100.0/24".to_owned())?;
        return if prefix == prefix.trunc() {
            Ok(())
        } else {
            Err(format!("bits are set behind the prefix; write {}", prefix.trunc()))
        };
    }
    address::domain(dst.strip_prefix("*.").unwrap_or(dst)).map_err(str::to_owned)
}

fn ports(port: &PortSpec) -> Result<(), String> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    match port {
        PortSpec::One(0) => Err("a port is from 1 to 65535".to_owned()),
        PortSpec::One(_) => Ok(()),
        PortSpec::Range(text) => {
            let shown = printable(text);
            let Some((first, last)) = text.split_once('-') else {
                let hint = if number(text).is_some() { "; write one port without quotes" } else { "" };
                return Err(format!("`{shown}` is not a range such as \"8000-8100\"{hint}"));
            };
            match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last => Ok(()),
                (Some(first), Some(last)) => {
                    Err(format!("the range `{shown}` is backwards; write \"{last}-{first}\""))
                }
                _ => Err(format!("`{shown}` is not a range of ports from 1 to 65535")),
            }
        }
    }
}
