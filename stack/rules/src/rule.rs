//! One rule.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::{Action, Destination, PathRule, Ports, Proto, Transport};

/// `{dst: api.test, proto: https}`, `{dst: 198.51.100.0/24, proto: udp, port: 8000-8100}`: where a container may go,
/// and how. What no rule permits is denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Rule {
    dst: Destination,
    proto: Proto,
    ports: Ports,
    listener: Option<u16>,
    path_rules: Vec<PathRule>,
    path_default: Action,
}

/// As it stands in a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// A domain, a wildcard (`*.test`), an address or a prefix.
    dst: Destination,
    /// See [`Proto`].
    proto: Proto,
    /// One port or a range. Required where the proto has no usual one; `icmp` has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<Ports>,
    /// Port of the proxy's listener that its flows are handed to; absent: they go straight there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    listener: Option<u16>,
    /// Paths that are allowed or denied; `https` and `http` alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    path_rules: Vec<PathRule>,
    /// What becomes of a path that none covers: denied if some are allowed, else allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_default: Option<Action>,
}

impl Rule {
    /// Where.
    #[must_use]
    pub const fn dst(&self) -> &Destination {
        &self.dst
    }

    /// How.
    #[must_use]
    pub const fn proto(&self) -> Proto {
        self.proto
    }

    /// Which ports.
    #[must_use]
    pub const fn ports(&self) -> Ports {
        self.ports
    }

    /// Port of the proxy's listener that its flows are handed to.
    #[must_use]
    pub const fn listener(&self) -> Option<u16> {
        self.listener
    }

    /// The same rule, whose flows are handed to this listener.
    ///
    /// # Errors
    /// If its transport is neither TCP nor UDP, or the port is 0.
    pub fn handed_to(mut self, listener: u16) -> Result<Self, String> {
        self.listener = Some(check_listener(listener, self.proto)?);
        Ok(self)
    }

    /// Rules for paths, as they were listed.
    #[must_use]
    pub fn path_rules(&self) -> &[PathRule] {
        &self.path_rules
    }

    /// What becomes of a path that none of [`Rule::path_rules`] covers.
    #[must_use]
    pub const fn path_default(&self) -> Action {
        self.path_default
    }

    /// The first rule of a list whose path rules nobody would ever be held to, since earlier ones that say otherwise have all
    /// its ports: its place, and what is wrong with it.
    #[must_use]
    pub fn without_effect(rules: &[Self]) -> Option<(usize, String)> {
        let mut earlier: HashMap<(&Destination, Proto), Vec<&Self>> = HashMap::new();
        for (place, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.proto.has_requests()) {
            let before = earlier.entry((&rule.dst, rule.proto)).or_default();
            let says =
                |one: &&Self| one.path_rules == rule.path_rules && one.path_default == rule.path_default;
            let has = |port| before.iter().any(|one| one.ports.range().contains(&port));
            if !before.iter().all(says) && rule.ports.range().all(has) {
                let Self { dst, proto, ports, .. } = rule;
                return Some((
                    place,
                    format!(
                        "{proto} to {dst}, port {ports}: its path rules have no effect, for an earlier rule has the same destination and ports; make one rule of both"
                    ),
                ));
            }
            before.push(rule);
        }
        None
    }
}

impl TryFrom<Written> for Rule {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { dst, proto, port, listener, path_rules, path_default } = written;
        if proto == Proto::Icmp && port.is_some() {
            return Err("proto icmp has no port".to_owned());
        }
        let ports = port
            .or(proto.usual_ports())
            .ok_or_else(|| format!("proto {proto} needs a port, such as `port: 443` or `port: 8000-8100`"))?;
        let listener = listener.map(|listener| check_listener(listener, proto)).transpose()?;
        if !proto.has_requests() && (!path_rules.is_empty() || path_default.is_some()) {
            return Err(format!("proto {proto} has no paths; path rules are for https and http"));
        }
        if path_default.is_some() && path_rules.is_empty() {
            return Err("path_default says nothing without path_rules".to_owned());
        }
        if let Some(problem) = path_rules.iter().find_map(PathRule::problem) {
            return Err(problem);
        }
        for (rule, before) in path_rules.iter().zip(0..) {
            if path_rules.iter().take(before).any(|other| other.path == rule.path) {
                return Err(format!("path `{}` is listed twice", rule.path));
            }
        }
        let some_allowed = path_rules.iter().any(|rule| rule.action == Action::Allow);
        let path_default = path_default.unwrap_or(if some_allowed { Action::Deny } else { Action::Allow });
        Ok(Self { dst, proto, ports, listener, path_rules, path_default })
    }
}

impl From<Rule> for Written {
    fn from(rule: Rule) -> Self {
        let Rule { dst, proto, ports, listener, path_rules, path_default } = rule;
        let port = (Some(ports) != proto.usual_ports()).then_some(ports);
        let path_default = (!path_rules.is_empty()).then_some(path_default);
        Self { dst, proto, port, listener, path_rules, path_default }
    }
}

fn check_listener(listener: u16, proto: Proto) -> Result<u16, String> {
    if !matches!(proto.transport(), Transport::Tcp | Transport::Udp) {
        return Err(format!("proto {proto} cannot be handed to a proxy"));
    }
    if listener == 0 { Err("listener: 0 is not a port".to_owned()) } else { Ok(listener) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(json: &str) -> Result<Rule, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for (json, told) in [
            (r#"{"dst":"a.test","proto":"tcp"}"#, "proto tcp needs a port"),
            (r#"{"dst":"a.test","proto":"icmp","port":1}"#, "icmp has no port"),
            (r#"{"dst":"a.test","proto":"sctp","port":1,"listener":2}"#, "sctp cannot be handed"),
            (r#"{"dst":"a.test","proto":"tcp","port":1,"listener":0}"#, "0 is not a port"),
            (
                r#"{"dst":"a.test","proto":"ssh","path_rules":[{"path":"/a","action":"deny"}]}"#,
                "ssh has no paths",
            ),
            (r#"{"dst":"a.test","proto":"https","path_default":"deny"}"#, "nothing without path_rules"),
            (r#"{"dst":"a.test","proto":"quic","port":1}"#, "unknown variant `quic`"),
            (r#"{"dst":"a.test","proto":"https","path":"/"}"#, "unknown field `path`"),
            (
                r#"{"dst":"a.test","proto":"https","path_rules":[{"path":"/a","action":"deny"},{"path":"/a","action":"allow"}]}"#,
                "listed twice",
            ),
        ] {
            let error = rule(json).expect_err(json).to_string();
            assert!(error.contains(told), "{json}: {error}");
        }
    }

    #[test]
    fn a_rule_is_written_as_it_was_read() {
        for json in [
            r#"{"dst":"a.test","proto":"https"}"#,
            r#"{"dst":"*.a.test","proto":"tcp","port":"1-2","listener":15001}"#,
            r#"{"dst":"198.51.100.0/24","proto":"icmp"}"#,
            r#"{"dst":"a.test","proto":"https","path_rules":[{"path":"/v1","action":"deny"}],"path_default":"allow"}"#,
        ] {
            assert_eq!(serde_json::to_string(&rule(json).expect(json)).expect("JSON"), json);
        }
    }
}
