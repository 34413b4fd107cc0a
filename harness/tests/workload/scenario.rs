//! The world of every random case, and how a case is written down.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use harness::scenario::types::Rule;
use serde_json::{Value, json};

use super::{Script, Workload};

/// The only name.
pub const NAME: &str = "api.test";
/// Its addresses, IPv4 first.
pub const NAMED: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 7))];
/// Every address of a host.
pub const ADDRESSES: [IpAddr; 4] = [
    NAMED[0],
    NAMED[1],
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 9)),
];
/// Rules that a list may have: destination, transport, ports. The ranges hold what floods go to.
pub const RULES: [(&str, &str, &str); 7] = [
    ("api.test", "tcp", "443"),
    ("api.test", "udp", "123"),
    ("198.51.100.7", "tcp", "443"),
    ("2001:db8:1::7", "udp", "443"),
    ("203.0.113.0/24", "udp", "1-2000"),
    ("2001:db8:2::/48", "tcp", "100-500"),
    ("2001:db8::/32", "tcp", "1000-1100"),
];

/// The label of an agent.
pub const fn label(agent: usize) -> &'static str {
    ["one", "two", "three"][agent]
}

/// A rule as it is written.
pub fn rule(index: usize) -> Value {
    let (dst, proto, port) = RULES[index];
    match port.parse::<u16>() {
        Ok(port) => json!({"dst": dst, "proto": proto, "port": port}),
        Err(_) => json!({"dst": dst, "proto": proto, "port": port}),
    }
}

/// Rules as the model reads them.
pub fn rules(indexes: &[usize]) -> Vec<Rule> {
    indexes.iter().map(|index| serde_json::from_value(rule(*index)).expect("it is a rule")).collect()
}

impl Workload {
    /// As the text of a file, to be read by people too: one line a step.
    pub fn text(&self, name: &str) -> String {
        let script = Script::of(self);
        let mut text = format!("name: {name}\ntags: [generated]\n");
        let lines = |text: &mut String, key: &str, values: Vec<Value>| {
            if values.is_empty() {
                *text += &format!("{key}: []\n");
                return;
            }
            *text += &format!("{key}:\n");
            for value in values {
                // JSON is YAML.
                *text += &format!("  - {value}\n");
            }
        };
        let agents = (0..self.agents).map(|agent| json!({"agent": label(agent), "project": "generated"}));
        lines(&mut text, "agents", agents.collect());
        lines(&mut text, "rules", self.rules.iter().map(|index| rule(*index)).collect());
        let serve = json!([
            {"tcp": 443, "reply": "echo"}, {"tcp": 123, "reply": "echo"},
            {"udp": 443, "reply": "sink"}, {"udp": 123, "reply": "sink"},
        ]);
        let hosts = json!({
            NAME: {"addr": NAMED, "serve": serve},
            "other.test": {"addr": &ADDRESSES[2..], "serve": serve},
        });
        text += &format!("hosts: {hosts}\n");
        if let Some(ring) = self.ring {
            text += &format!("ring: {ring}\n");
        }
        lines(&mut text, "steps", script.steps);
        text += "expect:\n";
        // Denials may be folded, and look-ups are not foreseen; the ledger counts both.
        text += "  nothing_else: false\n";
        if self.may_lose() {
            text += "  losses: accounted\n";
        } else {
            let documents = script.flows.iter().map(|((agent, verdict), flows)| {
                let of = json!({"agent": label(*agent), "verdict": verdict, "direction": "outbound"});
                json!({"where": of, "at_least": flows})
            });
            lines(&mut text, "  documents", documents.collect());
        }
        let wire = script.wire.iter().map(|((to, proto), permitted)| match permitted {
            true => json!({"to": to, "proto": proto, "at_least": 1}),
            false => json!({"to": to, "proto": proto, "packets": 0}),
        });
        lines(&mut text, "  wire", wire.collect());
        text
    }
}
