//! What one cell left behind.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime},
};

use abi::Ledger;
use ipnet::IpNet;
use serde_json::Value;
use stack::Listeners;

use crate::{
    actor::Report,
    event::{Class, Failure},
    lab::ReaderCounters,
    plane::Series,
    scenario::types::Rule,
    scenario::{Cell, fields::EGRESS_STREAM},
    wire::WireSummary,
};

/// One step, as it went.
#[derive(Clone, Debug)]
pub struct Fired {
    /// Where it stands in the YAML: `steps[2]`, `steps[1].together[0]`.
    pub path: String,
    /// Index of the agent's container among the evidence.
    pub agent: usize,
    /// Its process, and the one that made the socket for it, where there was one.
    pub pids: Vec<u32>,
    /// What its process reported.
    pub report: Report,
    /// What the case says it must report.
    pub expected: String,
    /// What a program must have said.
    pub output: Output,
    /// Before it was started.
    pub started: SystemTime,
    /// After it had ended.
    pub ended: SystemTime,
}

/// Texts that the output of a program must contain.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// In its standard output.
    pub stdout: Option<String>,
    /// In its standard error.
    pub stderr: Option<String>,
}

/// A time during which something held.
#[derive(Clone, Debug)]
pub struct Window<T> {
    /// From when on, at the earliest and at the latest.
    pub from: (SystemTime, SystemTime),
    /// Until when; `None`: to the end.
    pub until: Option<SystemTime>,
    /// What.
    pub what: T,
}

/// One question to the authority.
#[derive(Clone, Debug)]
pub struct Query {
    /// For which name.
    pub name: String,
    /// For what: `A`, `AAAA`, …
    pub kind: String,
    /// When.
    pub asked: SystemTime,
}

impl Query {
    /// Whether its answer may hold an address: one of the other family is not in it.
    pub(super) fn leads_to(&self, address: IpAddr) -> bool {
        self.kind != if address.is_ipv6() { "A" } else { "AAAA" }
    }
}

/// What is known of one agent of the cell: of its container, where it had several one after the other.
#[derive(Clone, Debug)]
pub struct AgentEvidence {
    /// Raw label.
    pub agent: String,
    /// Raw label.
    pub project: String,
    /// Its number among the agents of the case.
    pub room: usize,
    /// Whether its container was there to the end: `false` of one that another took the place of.
    pub is_live: bool,
    /// As it was enrolled.
    pub container_id: String,
    /// Its cgroup.
    pub cgroup_id: u64,
    /// Its addresses.
    pub addresses: [IpAddr; 2],
    /// The network of its link.
    pub subnets: [IpNet; 2],
    /// The far end of its link.
    pub gateways: [IpAddr; 2],
    /// Where its DNS is sent to, IPv4 and IPv6.
    pub resolvers: [SocketAddr; 2],
    /// What its counters rose by.
    pub ledger: Ledger,
    /// Sentinels sent as this agent, which the ledger counts.
    pub sentinels: u64,
    /// Times of bypass.
    pub bypass: Vec<Window<()>>,
    /// Its rules over time, in order.
    pub rules: Vec<Window<Vec<Rule>>>,
}

/// Everything.
pub struct Evidence<'a> {
    /// The case.
    pub cell: &'a Cell,
    /// Its agents, in order, and behind them the containers that took the place of others.
    pub agents: Vec<AgentEvidence>,
    /// Every document of their cgroups but the sentinels.
    pub documents: Vec<Value>,
    /// Documents of these containers in other streams, by stream.
    pub streams: BTreeMap<String, Vec<Value>>,
    /// Series of these containers' counters.
    pub series: Vec<Series>,
    /// Where a text was found that must be nowhere.
    pub places: Vec<String>,
    /// Identities of documents that are there more than once, with their stream.
    pub repeated: Vec<String>,
    /// The sentinels' documents, which the ledger counts.
    pub sentinels: Vec<Value>,
    /// Documents of what was lost of them, and of nobody knows whom where the lab was the cell's own.
    pub losses: Vec<Value>,
    /// What arrived on the far side.
    pub wire: WireSummary,
    /// What the reader counted, for all containers; `None` if it did not answer.
    pub reader: Option<ReaderCounters>,
    /// Whether the lab was the cell's own, so that all that the reader counted is of these agents.
    pub alone: bool,
    /// The steps that had an agent act.
    pub fired: Vec<Fired>,
    /// What the authority was asked.
    pub queries: Vec<Query>,
    /// Shortest validity of an answer.
    pub ttl_floor: Duration,
    /// What arrived when the denied steps were run again, not enforced: `None` if no step was denied.
    pub control: Option<Control>,
}

/// The control: the same triggers, not enforced.
pub struct Control {
    /// How each went.
    pub fired: Vec<Fired>,
    /// What arrived.
    pub wire: WireSummary,
}

impl Evidence<'_> {
    /// A failure that points at `path` in the YAML.
    pub(super) fn failure(&self, class: Class, path: &str, message: String, detail: String) -> Failure {
        let excerpt =
            self.cell.locate(path).map(|(line, column)| self.cell.excerpt(line, column)).unwrap_or_default();
        let detail =
            [excerpt, detail].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n");
        Failure { class, message, detail }
    }

    /// Its documents in a stream.
    pub(super) fn of_stream(&self, stream: &str) -> &[Value] {
        if stream == EGRESS_STREAM {
            return &self.documents;
        }
        self.streams.get(stream).map_or(&[], Vec::as_slice)
    }

    /// Attempts that were lost and documented as such.
    pub(super) fn lost(&self) -> u64 {
        self.losses.iter().map(|loss| number(loss, "event_count")).sum()
    }

    /// Packets that arrived at an address and port.
    pub(super) fn arrived(&self, to: SocketAddr) -> u64 {
        let counts = self.wire.counts.iter().filter(|count| count.dst.parse() == Ok(to));
        counts.map(|count| count.packets).sum()
    }

    /// The agent that owns a cgroup.
    pub(super) fn owner(&self, cgroup_id: u64) -> Option<&AgentEvidence> {
        self.agents.iter().find(|agent| agent.cgroup_id == cgroup_id)
    }
}

/// An attribute of a document; null if it is absent.
pub fn attribute<'a>(document: &'a Value, name: &str) -> &'a Value {
    document.get("attributes").and_then(|attributes| attributes.get(name)).unwrap_or(&Value::Null)
}

/// An attribute as a number; 0 if it is absent.
pub(super) fn number(document: &Value, name: &str) -> u64 {
    attribute(document, name).as_u64().unwrap_or(0)
}

/// An attribute as text; empty if it is absent.
pub(super) fn text<'a>(document: &'a Value, name: &str) -> &'a str {
    attribute(document, name).as_str().unwrap_or_default()
}

/// An attribute as an address.
pub(super) fn address(document: &Value, name: &str) -> Option<IpAddr> {
    text(document, name).parse().ok()
}

/// Whether a document is a look-up that was sent to the resolver view.
pub(super) fn is_redirected_dns(document: &Value) -> bool {
    number(document, "dst_port") == 53
        && text(document, "verdict") != "DENIED"
        && number(document, "actual_dst_port") != 53
}

/// Whether a document is of a connection by which an agent sent telemetry.
pub(super) fn is_telemetry(document: &Value) -> bool {
    number(document, "dst_port") == u64::from(Listeners::default().telemetry)
        && text(document, "reason") == "infrastructure"
}

/// An address as it is written before a port.
pub fn before_port(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

/// Longest name or label in a line, characters.
const SHOWN: usize = 80;

/// One line that names a document, with nothing that differs from run to run.
pub(super) fn describe(document: &Value) -> String {
    let cut = |name| {
        let text: &str = text(document, name);
        match text.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text.to_owned(),
        }
    };
    let name = cut("dst_host");
    format!(
        "{} {} {}{}:{} reason={} close_reason={} bytes_out={} bytes_in={} agent={:?}",
        text(document, "verdict"),
        text(document, "l4_proto"),
        if name.is_empty() { String::new() } else { format!("{name} ") },
        before_port(text(document, "dst_ip")),
        number(document, "dst_port"),
        text(document, "reason"),
        text(document, "close_reason"),
        number(document, "bytes_out"),
        number(document, "bytes_in"),
        cut("agent"),
    )
}
