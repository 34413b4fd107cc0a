//! Steps in words, and what the naive model says of where each goes.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use abi::Verdict;
use serde::Serialize;
use serde_json::Value;

use super::{
    quoted,
    words::{Paragraph, fields, plain, rule},
};
use crate::{
    actor::raw,
    model::{Attempt, Model, Proto, Surroundings, socket_permitted},
    scenario::{
        Cell,
        address::Target,
        types::{BypassSwitch, DatagramProto, Destination, Family, Place, Rule, Step},
    },
};

/// What an agent has at a step.
struct Situation<'a> {
    label: &'a str,
    rules: &'a [Rule],
    /// When bypass ends, on the case's own clock.
    bypass: Option<Duration>,
    names: Vec<&'a str>,
}

impl<'a> Situation<'a> {
    /// A name that was looked up leads to its addresses from then on.
    fn learn(&mut self, name: &'a str) {
        if !self.names.contains(&name) {
            self.names.push(name);
        }
    }
}

/// Adds the steps.
pub(super) fn tell(cell: &Cell, text: &mut Paragraph) {
    let scenario = &cell.scenario;
    let mut agents: Vec<Situation<'_>> = scenario
        .each_agent()
        .map(|agent| Situation {
            label: &agent.agent,
            rules: &scenario.rules,
            bypass: None,
            names: Vec::new(),
        })
        .collect();
    let mut clock = Duration::ZERO;
    for (index, step) in scenario.steps.iter().enumerate() {
        let number = format!("{}.", index + 1);
        if let Some(together) = &step.together {
            text.row("steps", &format!("{number} at the same time:"));
            for step in together {
                one(cell, &mut agents, clock, "   -", step, text);
            }
        } else {
            one(cell, &mut agents, clock, &number, step, text);
        }
        clock += step.wait.unwrap_or_default();
    }
}

fn one<'a>(
    cell: &'a Cell,
    agents: &mut [Situation<'a>],
    clock: Duration,
    number: &str,
    step: &'a Step,
    text: &mut Paragraph,
) {
    let named = |agent: &Situation<'_>| step.by.as_deref().is_none_or(|by| agent.label == by);
    let Some(agent) = agents.iter_mut().find(|agent| named(agent)) else { return };
    let default = if step.exec.is_some() { "exit 0" } else { "ok" };
    let operator = step.bypass.is_some() || step.rules.is_some() || step.wait.is_some();
    let must = step.outcome.as_deref().unwrap_or(default);
    let must = if operator { String::new() } else { format!("; must end with {must}") };
    let place = if step.cgroup == Place::Nested { ", in a nested cgroup" } else { "" };
    text.row("steps", &format!("{number} {}{place}{must}", words(agent.label, step)));
    if let Some(rules) = &step.rules {
        agent.rules = rules;
    }
    match &step.bypass {
        Some(BypassSwitch::On(duration)) => agent.bypass = Some(clock + *duration),
        Some(BypassSwitch::Off) => agent.bypass = None,
        None => {}
    }
    let indent = " ".repeat(number.len() + 1);
    for verdict in verdicts(cell, agent, clock, step) {
        text.row("steps", &format!("{indent}model: {verdict}"));
    }
}

/// What happens, as a sentence.
fn words(label: &str, step: &Step) -> String {
    let agent = quoted(label);
    if let Some(connect) = &step.connect {
        format!("{agent} connects over TCP to {}{}", connect.to, fields(connect, &["to"]))
    } else if let Some(send) = &step.send {
        let datagrams =
            if send.count == 1 { "a datagram".to_owned() } else { format!("{} datagrams", send.count) };
        let rest = fields(send, &["to", "count", "bytes"]);
        let bytes = if send.bytes == 1 { "byte" } else { "bytes" };
        format!("{agent} sends {datagrams} of {} {bytes} to {}{rest}", send.bytes, send.to)
    } else if let Some(ping) = &step.ping {
        format!("{agent} pings {}{}", ping.to, fields(ping, &["to"]))
    } else if let Some(accept) = &step.accept {
        format!("{agent} listens, and {} comes{}", accept.from, fields(accept, &["from"]))
    } else if let Some(quic) = &step.quic {
        format!("{agent} speaks QUIC to {}{}", quic.to, fields(quic, &["to"]))
    } else if let Some(http3) = &step.http3 {
        format!("{agent} speaks HTTP/3 to {}{}", http3.to, fields(http3, &["to"]))
    } else if let Some(websocket) = &step.websocket {
        format!("{agent} opens a WebSocket to {}{}", websocket.to, fields(websocket, &["to"]))
    } else if let Some(stun) = &step.stun {
        format!("{agent} asks the STUN server {}{}", stun.to, fields(stun, &["to"]))
    } else if let Some(join) = &step.join {
        format!("{agent} joins the group {}{}", join.group, fields(join, &["group"]))
    } else if let Some(name) = &step.resolve {
        format!("{agent} looks {name} up")
    } else if let Some(socket) = &step.socket {
        let rest = fields(socket, &["family", "kind"]);
        format!("{agent} makes a socket ({} {}{rest})", socket.family, socket.kind)
    } else if let Some(exec) = &step.exec {
        format!("{agent} runs {:?}{}", exec.run, fields(exec, &["run"]))
    } else if let Some(switch) = &step.bypass {
        match switch {
            BypassSwitch::On(_) => {
                format!("the operator switches bypass on for {agent}, {}", value(switch, "on"))
            }
            BypassSwitch::Off => format!("the operator switches bypass off for {agent}"),
        }
    } else if let Some(rules) = &step.rules {
        let rules: Vec<String> = rules.iter().map(rule).collect();
        let rules = if rules.is_empty() { "none".to_owned() } else { rules.join("; ") };
        format!("the operator replaces the rules of {agent} by {rules}")
    } else if step.wait.is_some() {
        format!("{} pass", value(step, "wait"))
    } else {
        format!("{agent} does{}", fields(step, &["by", "outcome"]).trim_start_matches(','))
    }
}

/// A field as it is written.
fn value(of: &impl Serialize, name: &str) -> String {
    let value = serde_json::to_value(of).unwrap_or(Value::Null);
    value.get(name).and_then(plain).unwrap_or_default()
}

/// What the model says of every address that a step may go to.
fn verdicts<'a>(cell: &'a Cell, agent: &mut Situation<'a>, clock: Duration, step: &'a Step) -> Vec<String> {
    if let Some(socket) = &step.socket {
        return socket_verdict(socket).into_iter().collect();
    }
    let (to, port, l4_proto, family) = match (&step.connect, &step.send, &step.ping, &step.resolve) {
        (Some(connect), ..) => (host(&connect.to), port(&connect.to), Proto::Tcp, connect.family),
        (_, Some(send), ..) => (host(&send.to), port(&send.to), transport(send.proto), Some(send.family)),
        (.., Some(ping), _) => (ping.to.clone(), 0, Proto::Icmp, Some(ping.family)),
        (.., Some(name)) => {
            agent.learn(name);
            return Vec::new();
        }
        _ => match step.application() {
            Some(Destination { to, family, udp }) => {
                let l4_proto = if udp { Proto::Udp } else { Proto::Tcp };
                (host(to), port(to), l4_proto, Some(family))
            }
            None => return Vec::new(),
        },
    };
    let addresses: Vec<IpAddr> = match to.parse() {
        Ok(address) => vec![address],
        Err(_) => match cell.scenario.hosts.get_key_value(&to.to_ascii_lowercase()) {
            Some((name, host)) => {
                agent.learn(name);
                let v6 =
                    family == Some(Family::V6) || family.is_none() && host.addr.iter().all(IpAddr::is_ipv6);
                host.addr.iter().copied().filter(|address| address.is_ipv6() == v6).collect()
            }
            None => return vec![format!("{to} has no host, so there is nowhere to go")],
        },
    };
    let model = Model::new(agent.rules, &Surroundings::of(&cell.scenario, &[], &[]));
    let bypass = agent.bypass.is_some_and(|until| clock < until);
    addresses
        .into_iter()
        .map(|dst| {
            let leads =
                |name: &&&str| cell.scenario.host(name).is_some_and(|h| h.addr.contains(&dst.to_canonical()));
            let names = agent.names.iter().filter(leads).map(|name| (*name).to_owned()).collect();
            let judgement = model.judge(&Attempt { dst, port, l4_proto, names, bypass });
            let unrecorded = if judgement.recorded { "" } else { ", not recorded" };
            let address = match l4_proto {
                Proto::Icmp => dst.to_string(),
                _ => SocketAddr::new(dst, port).to_string(),
            };
            format!("{l4_proto} {address} {}{unrecorded}: {}", judgement.verdict, judgement.because)
        })
        .collect()
}

/// The host of a destination, without its port.
fn host(to: &str) -> String {
    match to.parse() {
        Ok(Target::Address(address)) => address.ip().to_string(),
        Ok(Target::Name(name, _)) => name,
        Err(_) => to.to_owned(),
    }
}

/// The port of a destination.
fn port(to: &str) -> u16 {
    to.parse::<Target>().map_or(0, |target| target.port())
}

/// What carries the datagrams.
const fn transport(proto: DatagramProto) -> Proto {
    match proto {
        DatagramProto::Udp => Proto::Udp,
        DatagramProto::Udplite => Proto::UdpLite,
        DatagramProto::Sctp => Proto::Sctp,
        DatagramProto::Dccp => Proto::Other,
    }
}

/// What the model says of making a socket.
fn socket_verdict(socket: &crate::scenario::types::Socket) -> Option<String> {
    let (family, kind, protocol) = raw::numbers(socket)?;
    let (verdict, why) = if socket_permitted(family, kind, protocol) {
        (Verdict::Allowed, "sockets of this kind may be made")
    } else {
        (Verdict::Denied, "sockets of this kind are not made without a rule of their own")
    };
    Some(format!("{verdict}: {why}"))
}
