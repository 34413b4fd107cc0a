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
    actor::{Action, raw},
    model::{Attempt, Model, Proto, Surroundings, socket_permitted},
    scenario::{
        Cell,
        address::Target,
        types::{
            Answer, BypassSwitch, DatagramProto, Destination, Disturbance, Family, FloodProto, Outage, Place,
            Process, Recreated, Rule, Step, Stopped, duration_text,
        },
    },
};

/// What an agent has at a step.
struct Situation<'a> {
    label: &'a str,
    rules: &'a [Rule],
    /// When bypass ends, on the case's own clock.
    bypass: Option<Duration>,
    /// Names that it looked up, and whether for IPv6 or for IPv4, where not for both.
    names: Vec<(&'a str, Option<bool>)>,
}

impl<'a> Situation<'a> {
    /// Of a container that has just begun.
    const fn new(label: &'a str, rules: &'a [Rule]) -> Self {
        Self { label, rules, bypass: None, names: Vec::new() }
    }

    /// A name that was looked up leads to its addresses from then on.
    fn learn(&mut self, name: &'a str, v6: Option<bool>) {
        if !self.names.contains(&(name, v6)) {
            self.names.push((name, v6));
        }
    }
}

/// Adds the steps.
pub(super) fn tell(cell: &Cell, text: &mut Paragraph) {
    let scenario = &cell.scenario;
    let mut agents: Vec<Situation<'_>> =
        scenario.each_agent().map(|agent| Situation::new(&agent.agent, &scenario.rules)).collect();
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
    let operator = Action::of(step).is_none();
    let must = step.outcome.as_deref().unwrap_or(default);
    let must = if operator { String::new() } else { format!("; must end with {must}") };
    let place = if step.cgroup == Place::Nested { ", in a nested cgroup" } else { "" };
    text.row("steps", &format!("{number} {}{place}{must}", words(agent.label, step)));
    if let Some(rules) = &step.rules {
        agent.rules = rules;
    }
    if step.recreate.is_some() {
        *agent = Situation::new(agent.label, &cell.scenario.rules);
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
    } else if let Some(grpc) = &step.grpc {
        format!("{agent} makes a gRPC call to {}{}", grpc.to, fields(grpc, &["to"]))
    } else if let Some(websocket) = &step.websocket {
        format!("{agent} opens a WebSocket to {}{}", websocket.to, fields(websocket, &["to"]))
    } else if let Some(stun) = &step.stun {
        format!("{agent} asks the STUN server {}{}", stun.to, fields(stun, &["to"]))
    } else if let Some(join) = &step.join {
        format!("{agent} joins the group {}{}", join.group, fields(join, &["group"]))
    } else if let Some(name) = &step.resolve {
        format!("{agent} looks {name} up")
    } else if let Some(ask) = &step.ask {
        format!("{agent} asks for {}{}", ask.name, fields(ask, &["name"]))
    } else if let Some(socket) = &step.socket {
        let rest = fields(socket, &["family", "kind"]);
        format!("{agent} makes a socket ({} {}{rest})", socket.family, socket.kind)
    } else if let Some(exec) = &step.exec {
        format!("{agent} runs {:?}{}", exec.run, fields(exec, &["run"]))
    } else if let Some(telemetry) = &step.telemetry {
        format!("{agent} sends telemetry: {}{}", telemetry.fixture, fields(telemetry, &["fixture"]))
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
    } else if let Some(flood) = &step.flood {
        let attempts = flood.count.map_or_else(|| "all it can".to_owned(), |count| format!("{count} times"));
        format!("{agent} attempts {} {attempts}{}", flood.to, fields(flood, &["to", "count"]))
    } else if let Some(disturbance) = step.disturbance() {
        disturbed(disturbance)
    } else if let Some(Recreated::Container) = step.recreate {
        format!("the container of {agent} ends, and another takes its place")
    } else if let Some(until) = &step.until {
        let filter: Vec<String> = until
            .filter
            .iter()
            .map(|(name, value)| format!("{name}={}", plain(value).unwrap_or_default()))
            .collect();
        format!("a document of {agent} with {} is waited for, in {}", filter.join(" "), until.stream)
    } else if step.wait.is_some() {
        format!("{} pass", value(step, "wait"))
    } else {
        format!("{agent} does{}", fields(step, &["by", "outcome"]).trim_start_matches(','))
    }
}

/// What is done to the chain.
fn disturbed(disturbance: Disturbance) -> String {
    match disturbance {
        Disturbance::Kill(kill) if kill.times == 1 => "the reader is killed, and started again".to_owned(),
        Disturbance::Kill(kill) => {
            format!("the reader is killed at random instants ({kill}), and started again")
        }
        Disturbance::Restart(Process::Reader) => "the reader is ended, and started again".to_owned(),
        Disturbance::Restart(Process::Coredns) => "CoreDNS is ended, and started again".to_owned(),
        Disturbance::Restart(Process::Envoy) => "the proxy is killed, and started again".to_owned(),
        Disturbance::Stop(Outage { part: part @ (Stopped::Coredns | Stopped::Envoy), length }) => {
            let server = if part == Stopped::Envoy { "the proxy" } else { "CoreDNS" };
            format!("{server} is killed, and started again after {}", duration_text::text(&length))
        }
        Disturbance::Stop(outage) => format!("the chain loses its {outage}, from now on"),
        Disturbance::Rollover(rollover) if rollover.times == 1 => {
            format!("{} goes on in another index", rollover.lane.stream())
        }
        Disturbance::Rollover(rollover) => {
            let (stream, within) = (rollover.lane.stream(), duration_text::text(&rollover.within));
            format!(
                "{stream} goes on in other indices, {} times in {within}, at random instants",
                rollover.times
            )
        }
        Disturbance::Endpoint(Answer::Accept) => "the endpoint accepts again".to_owned(),
        Disturbance::Endpoint(answer) => {
            format!("the endpoint answers `{answer}` from now on; at least one record must meet that")
        }
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
            agent.learn(name, None);
            return Vec::new();
        }
        _ if let Some(flood) = &step.flood => {
            let l4_proto = if flood.proto == FloodProto::Tcp { Proto::Tcp } else { Proto::Udp };
            (host(&flood.to), port(&flood.to), l4_proto, Some(flood.family))
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
                let v6 =
                    family == Some(Family::V6) || family.is_none() && host.addr.iter().all(IpAddr::is_ipv6);
                agent.learn(name, Some(v6));
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
            let leads = |(name, v6): &&(&str, Option<bool>)| {
                v6.is_none_or(|v6| dst.to_canonical().is_ipv6() == v6)
                    && cell
                        .scenario
                        .host(name)
                        .is_some_and(|host| cell.scenario.leads(host, dst.to_canonical()))
            };
            let mut names: Vec<String> =
                agent.names.iter().filter(leads).map(|(name, _)| (*name).to_owned()).collect();
            names.dedup();
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
