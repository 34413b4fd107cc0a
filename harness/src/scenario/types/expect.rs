//! What must be true afterwards.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stack::lost::Emitter;

use crate::scenario::{
    fields::{self, EGRESS_STREAM},
    schema,
};

/// What must be true afterwards.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Documents that must be there.
    #[serde(default)]
    pub documents: Vec<DocumentExpectation>,
    /// No other document of these agents in `clawker-egress`, redirected DNS aside. Default true.
    #[serde(default = "default_true")]
    pub nothing_else: bool,
    /// Series that Prometheus has of these agents' counters.
    #[serde(default)]
    pub metrics: Vec<MetricExpectation>,
    /// A text that is in no document of any stream, in no series nor beside one, on no disk between and in no log of a server, in
    /// any form: one that no other case has.
    #[serde(default)]
    pub absent_everywhere: Option<String>,
    /// What the far side saw.
    #[serde(default)]
    pub wire: Vec<WireExpectation>,
    /// `known`: what `wire` says arrives by an escape that is known. If it is closed, the case fails.
    #[serde(default)]
    pub leak: Option<Leak>,
    /// `closed` (default): attempts = documents + accounted losses + open flows.
    #[serde(default)]
    pub ledger: LedgerExpectation,
    /// Flows that a server of the telemetry plane took and has told nothing of, because it died before: as `stack lost`
    /// counts them.
    #[serde(default)]
    pub lost: Option<LostExpectation>,
    /// No document may be there twice. For cases where nothing has a sender send again. Default false.
    #[serde(default)]
    pub nothing_twice: bool,
    /// `none` (default), or `accounted`: records may be lost where the chain says so, which the ledger checks.
    #[serde(default)]
    pub losses: Losses,
}

const fn default_true() -> bool {
    true
}

/// An escape that the case shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Leak {
    /// It is known: the wire sees it and no document tells of it, until it is closed.
    Known,
}

/// A set of documents and what each of them must say.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = schema::expectation)]
pub struct DocumentExpectation {
    /// Data stream. Default `clawker-egress`.
    #[serde(default = "default_stream")]
    #[schemars(schema_with = "schema::stream")]
    pub stream: String,
    /// Which documents are meant: attribute = value.
    #[serde(default, rename = "where", deserialize_with = "fields::attributes")]
    #[schemars(schema_with = "schema::attributes")]
    pub filter: BTreeMap<String, serde_json::Value>,
    /// How many there must be, exactly.
    #[serde(default)]
    pub exactly: Option<u64>,
    /// How many there must be, at least. Default 1 where `exactly` is absent.
    #[serde(default)]
    pub at_least: Option<u64>,
    /// What each of them must say: attribute = value.
    #[serde(default, rename = "match", deserialize_with = "fields::attributes")]
    #[schemars(schema_with = "schema::attributes")]
    pub fields: BTreeMap<String, serde_json::Value>,
    /// Indices of the stream that they lie in, at least.
    #[serde(default)]
    #[schemars(range(min = 2))]
    pub at_least_indices: Option<u64>,
}

/// What a step waits for.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Until {
    /// Data stream. Default `clawker-egress`.
    #[serde(default = "default_stream")]
    #[schemars(schema_with = "schema::stream")]
    pub stream: String,
    /// Which document is meant: attribute = value.
    #[serde(default, rename = "where", deserialize_with = "fields::attributes")]
    #[schemars(schema_with = "schema::attributes")]
    pub filter: BTreeMap<String, serde_json::Value>,
}

fn default_stream() -> String {
    EGRESS_STREAM.to_owned()
}

/// A series of a counter.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricExpectation {
    /// Its name, as Prometheus has it: `claude_code_token_usage_tokens_total`.
    pub series: String,
    /// Labels of it, byte for byte; an empty one is one that is not there.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What it has counted. Without `exactly`, there must be one such series.
    #[serde(default)]
    pub value: Option<f64>,
    /// How many there must be.
    #[serde(default)]
    pub exactly: Option<u64>,
}

/// What the far side saw.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = schema::seen)]
pub struct WireExpectation {
    /// Host name, `name:port`, or `address[:port]`.
    pub to: String,
    /// Only packets of this protocol: `tcp`, `udp`, `icmp`, `udplite`, `sctp`, `dccp`, `igmp`, or a number.
    #[serde(default)]
    pub proto: Option<String>,
    /// Packets from the agents to it, exactly (ARP, ND and bare resets aside).
    #[serde(default)]
    pub packets: Option<u64>,
    /// Packets, at least.
    #[serde(default)]
    pub at_least: Option<u64>,
    /// L4 payload bytes from the agents to it, each counted once.
    #[serde(default)]
    pub bytes: Option<u64>,
}

impl WireExpectation {
    /// Whether something must arrive.
    pub fn wants_packets(&self) -> bool {
        let more = |least: Option<u64>| least.is_some_and(|least| least > 0);
        more(self.packets) || more(self.at_least) || more(self.bytes)
    }
}

/// Whether the ledger must close.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LedgerExpectation {
    /// attempts = documents + accounted losses + open flows, exactly.
    #[default]
    Closed,
    /// Not judged in this case.
    Any,
}

/// What servers lost in their own memory, and told nothing of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LostExpectation {
    /// Flows to the proxy.
    #[serde(default)]
    pub envoy: Option<LostCount>,
    /// Flows to CoreDNS.
    #[serde(default)]
    pub coredns: Option<LostCount>,
}

impl LostExpectation {
    /// Of each server, what is said.
    pub fn each(&self) -> impl Iterator<Item = (Emitter, LostCount)> {
        let of = |emitter| {
            let count = match emitter {
                Emitter::Proxy => self.envoy,
                Emitter::Resolver => self.coredns,
            };
            Some((emitter, count?))
        };
        Emitter::ALL.into_iter().filter_map(of)
    }
}

/// A number, or `{at_most: 3}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum LostCount {
    /// So many.
    Exactly(u64),
    /// So many, or fewer.
    Within(AtMost),
}

/// `{at_most: 3}`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AtMost {
    /// The most.
    pub at_most: u64,
}

impl LostCount {
    /// Whether that many are as expected.
    #[must_use]
    pub const fn takes(self, count: u64) -> bool {
        match self {
            Self::Exactly(exactly) => count == exactly,
            Self::Within(AtMost { at_most }) => count <= at_most,
        }
    }
}

impl fmt::Display for LostCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(exactly) => write!(f, "{exactly}"),
            Self::Within(AtMost { at_most }) => write!(f, "at most {at_most}"),
        }
    }
}

/// Whether records may be lost that the chain accounts for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Losses {
    /// Not one.
    #[default]
    None,
    /// As many as are counted at a loss point.
    Accounted,
}
