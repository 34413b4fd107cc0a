//! The container under test: labels, rules, network and proxy.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scenario::schema;

/// A container: raw labels, and what its processes may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Label `dev.clawker.agent`, byte for byte; also what a step's `by` names.
    pub agent: String,
    /// Label `dev.clawker.project`, byte for byte.
    #[serde(default)]
    pub project: String,
    /// User its processes run as. Default 65534.
    #[serde(default)]
    #[schemars(range(max = 4_294_967_294_u32))]
    pub uid: Option<u32>,
    /// Capabilities beyond Docker's default less NET_RAW, e.g. `net_raw`.
    #[serde(default)]
    #[schemars(schema_with = "schema::capabilities")]
    pub caps: Vec<String>,
}

/// One egress rule; the same list that `ebpf-manager rules apply` reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// A domain (`api.test`), a wildcard (`*.test`), an address or a prefix.
    #[schemars(schema_with = "schema::rule_destination")]
    pub dst: String,
    /// `tcp`, `udp`, `icmp`, a name that fixes transport and default port (`https` 443, `http` 80, `ssh` 22),
    /// or a transport whose sockets are not made unless a rule names it: `mptcp`, `sctp`, `udplite`.
    #[schemars(schema_with = "schema::proto")]
    pub proto: String,
    /// One port, or an inclusive range (`8000-8100`). Required where the proto has no default; `icmp` has none.
    #[serde(default)]
    #[schemars(schema_with = "schema::rule_port")]
    pub port: Option<PortSpec>,
    /// Port of the proxy's listener that its flows are handed to; absent: they go straight there.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub listener: Option<u16>,
    /// What becomes of requests by their path, of `https` and `http`; the longest path that covers one decides.
    #[serde(default)]
    pub path_rules: Vec<PathRule>,
    /// What becomes of a path that none covers. Default: denied if some are allowed, else allowed.
    #[serde(default)]
    pub path_default: Option<PathAction>,
}

/// What becomes of a path, and of those below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PathRule {
    /// Begins with `/`.
    pub path: String,
    /// What becomes of it.
    pub action: PathAction,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PathAction {
    /// It goes on.
    Allow,
    /// It is answered with 403.
    Deny,
}

/// `443` or `"8000-8100"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, from = "PortText")]
pub enum PortSpec {
    /// One port.
    One(u16),
    /// An inclusive range, `first-last`.
    Range(String),
}

/// A port as it is written: one that a variable put between quotes is a port all the same.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum PortText {
    One(u16),
    Text(String),
}

impl From<PortText> for PortSpec {
    fn from(written: PortText) -> Self {
        match written {
            PortText::One(port) => Self::One(port),
            PortText::Text(text) => text.parse().map_or(Self::Range(text), Self::One),
        }
    }
}

/// An agent's own network. Whatever rules say, it reaches nothing there but `infrastructure`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Prefixes of it.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub subnets: Vec<IpNet>,
    /// The host's addresses in it.
    #[serde(default)]
    pub gateways: Vec<IpAddr>,
    /// What the agent may reach there, as `address:port`: over TCP and UDP, and the address over ICMP.
    #[serde(default)]
    pub infrastructure: Vec<SocketAddr>,
    /// Networks that no name leads the agent to, beside loopback and its like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub forbidden: Vec<IpNet>,
}

/// A proxy on the far side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    /// Which. Default `lab`.
    #[serde(default)]
    pub server: ProxyServer,
    /// Port that takes TCP that no rule knows, and resets it. Absent: that is denied.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub catch_all: Option<u16>,
}

/// What serves as the proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProxyServer {
    /// The lab's own: a listener that a rule names forwards to that rule's host and first port.
    #[default]
    Lab,
    /// Envoy, in the stack tier: rules have the listeners that ship, and a catch-all.
    Envoy,
}

/// What stands where DNS is sent to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resolver {
    /// Which. Default `lab`.
    #[serde(default)]
    pub server: ResolverServer,
}

/// What answers agents' questions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResolverServer {
    /// Each agent's resolver view itself.
    #[default]
    Lab,
    /// CoreDNS, in the stack tier: with the Corefile that ships, and the views behind it.
    Coredns,
}
