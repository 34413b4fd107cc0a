//! The grammar of a scenario file, after matrix expansion. Field names here are the YAML's.

mod accept;
mod agent;
mod application;
mod ask;
mod connect;
pub mod duration_text;
mod expect;
mod fault;
mod flood;
mod host;
mod send;
mod socket;
mod step;
mod telemetry;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use indexmap::IndexMap;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stack::Listeners;

use super::{
    address,
    needs::{Requirement, UnknownRequirement},
    schema,
};
pub use accept::Accept;
pub use agent::{
    Agent, Network, PathAction, PathRule, PortSpec, Proxy, ProxyServer, Resolver, ResolverServer, Rule,
};
pub use application::{Destination, Grpc, Http3, Quic, Stun, Websocket};
pub use ask::{Ask, NoName};
pub use connect::{Connect, ConnectVia, End};
pub use expect::{
    DocumentExpectation, Expect, Leak, LedgerExpectation, Losses, LostCount, LostExpectation,
    MetricExpectation, Until, WireExpectation,
};
pub use fault::{Answer, Kill, NoFault, Outage, Process, Recreated, Rollover, Stopped};
pub use flood::{Flood, FloodProto};
pub use host::{Host, Reply, Serve};
pub use send::{DatagramProto, Send, SendVia};
pub use socket::{Join, Ping, PingVia, Socket};
pub use step::{BypassSwitch, Disturbance, Exec, Family, Origin, Place, Step};
pub use telemetry::{NoTelemetry, Telemetry, TelemetryTo, TelemetryVia};

/// One cell: a scenario with its matrix variables put in.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = schema::scenario)]
pub struct Scenario {
    /// What is claimed, in one line; unique within the file's folder.
    pub name: String,
    /// Why the case exists.
    #[serde(default)]
    pub about: String,
    /// The gap of the tracker it shows, 1 to 11.
    #[serde(default)]
    #[schemars(range(min = 1, max = 11))]
    pub gap: Option<u32>,
    /// Words to select it by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// What the machine must have; the cell is skipped where it has not.
    #[serde(default)]
    pub needs: Vec<Need>,
    /// The container under test; its labels and process attributes.
    #[serde(default)]
    pub agent: Option<Agent>,
    /// Several containers in one world; exclusive with `agent`.
    #[serde(default)]
    pub agents: Vec<Agent>,
    /// The egress rules of every agent here.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// What belongs to every agent's own network, besides the link to the far side.
    #[serde(default)]
    pub network: Network,
    /// The proxy that flows are handed to; absent: there is none.
    #[serde(default)]
    pub proxy: Option<Proxy>,
    /// What DNS is sent to; absent: the agents' resolver views.
    #[serde(default)]
    pub resolver: Option<Resolver>,
    /// The far side, by DNS name.
    #[serde(default)]
    pub hosts: IndexMap<String, Host>,
    /// Times that a test wants shorter than production.
    #[serde(default)]
    pub settings: Settings,
    /// Bytes of the ring between kernel and reader: a power of two. Default 1 MiB.
    #[serde(default)]
    #[schemars(range(min = 4096, max = 67_108_864))]
    pub ring: Option<u32>,
    /// Variables and their values; each combination is one cell. Empty once expanded.
    #[serde(default)]
    #[schemars(schema_with = "schema::matrix")]
    pub matrix: IndexMap<String, Vec<serde_json::Value>>,
    /// What the agent does, in order.
    #[schemars(length(min = 1))]
    pub steps: Vec<Step>,
    /// What must be true afterwards.
    pub expect: Expect,
}

impl Scenario {
    /// Whether its proxy is Envoy.
    #[must_use]
    pub fn has_envoy(&self) -> bool {
        self.proxy.as_ref().is_some_and(|proxy| proxy.server == ProxyServer::Envoy)
    }

    /// What an agent reaches in its own network: what is written, and where Envoy takes telemetry, on the far ends of its
    /// link.
    #[must_use]
    pub fn infrastructure(&self, gateways: &[IpAddr]) -> Vec<SocketAddr> {
        let telemetry = gateways.iter().filter(|_| self.has_envoy());
        let telemetry = telemetry.map(|far| SocketAddr::new(*far, Listeners::default().telemetry));
        self.network.infrastructure.iter().copied().chain(telemetry).collect()
    }

    /// Networks that no name leads an agent to: what is written, and beside Envoy that of its stack.
    pub fn forbidden(&self) -> impl Iterator<Item = IpNet> {
        self.network
            .forbidden
            .iter()
            .copied()
            .chain(address::plane().into_iter().filter(|_| self.has_envoy()))
    }

    /// Whether a host's name leads an agent to this address.
    #[must_use]
    pub fn leads(&self, host: &Host, address: IpAddr) -> bool {
        host.addr.contains(&address) && !self.forbidden().any(|network| network.contains(&address))
    }

    /// Whether what agents tell of themselves is looked at.
    #[must_use]
    pub fn tells(&self) -> bool {
        let of_agents = |one: &DocumentExpectation| one.stream == documents::CLAUDE.name;
        self.each_step().any(|(_, step)| step.telemetry.is_some())
            || self.expect.documents.iter().any(of_agents)
            || !self.expect.metrics.is_empty()
            || self.expect.absent_everywhere.is_some()
    }

    /// Whether CoreDNS stands in front of its agents' resolver views.
    #[must_use]
    pub fn has_coredns(&self) -> bool {
        self.resolver.as_ref().is_some_and(|resolver| resolver.server == ResolverServer::Coredns)
    }

    /// Whether its cells need a chain of their own, because what they do to it would be felt by others.
    #[must_use]
    pub fn disturbs(&self) -> bool {
        let disturbs = |step: &Step| step.disturbance().is_some() || step.flood.is_some();
        self.ring.is_some() || self.each_step().any(|(_, step)| disturbs(step))
    }

    /// Whether a step stops a part of the telemetry plane.
    #[must_use]
    pub fn stops_plane(&self) -> bool {
        let stops = |step: &Step| matches!(step.disturbance(), Some(Disturbance::Stop(outage)) if outage.part.is_of_plane());
        self.each_step().any(|(_, step)| stops(step))
    }

    /// Whether a stream goes on in another index.
    #[must_use]
    pub fn rolls_over(&self) -> bool {
        self.each_step().any(|(_, step)| step.rollover.is_some())
    }

    /// Whether it says what must be in this stream.
    #[must_use]
    pub fn expects(&self, stream: &str) -> bool {
        self.expect.documents.iter().any(|document| document.stream == stream)
    }

    /// The host of that name, in capitals or not, as DNS has it.
    #[must_use]
    pub fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|(host, _)| host.eq_ignore_ascii_case(name)).map(|(_, host)| host)
    }
}

/// Something that not every machine has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Need {
    /// A feature (`mptcp`) or versions (`kernel>=6.1`, `kernel<6.1`) of the kernel.
    Kernel(#[schemars(schema_with = "schema::need")] String),
    /// `{program: nmap}`.
    Program(NeededProgram),
}

/// A program that a step runs and that not every machine has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NeededProgram {
    /// Its name; looked for in the harness's `PATH`.
    pub program: String,
}

impl Need {
    /// What is asked for.
    pub fn requirement(&self) -> Result<Requirement, UnknownRequirement> {
        match self {
            Self::Kernel(text) => text.parse(),
            Self::Program(needed) => Ok(Requirement::Program(needed.program.clone())),
        }
    }
}

/// Times that a test wants shorter than production.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// UDP flows idle for this long end. Default 30s.
    #[serde(default, with = "duration_text::option")]
    #[schemars(schema_with = "schema::duration")]
    pub udp_idle: Option<Duration>,
    /// Shortest enforcement validity of a DNS answer. Default 60s.
    #[serde(default, with = "duration_text::option")]
    #[schemars(schema_with = "schema::duration")]
    pub dns_ttl_floor: Option<Duration>,
    /// Most flows open at once, per agent. Default: the manager's.
    #[serde(default)]
    pub flow_quota: Option<u64>,
}

const fn default_bytes() -> u64 {
    32
}
const fn default_count() -> u32 {
    1
}
