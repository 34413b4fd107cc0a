//! Sockets that are neither a connection nor a source of datagrams: ping, membership, and any by its numbers.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Family;
use crate::scenario::schema;

/// ICMP echo requests from a datagram socket, which needs no capability.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ping {
    /// A name or an address, without a port; a name is resolved first, as the agent.
    pub to: String,
    /// How. Default `sendto`.
    #[serde(default)]
    pub via: PingVia,
    /// Address family of the name's look-up: `v4` (default) or `v6`.
    #[serde(default)]
    pub family: Family,
    /// Bytes behind the ICMP header, a request. Default 32.
    #[serde(default = "super::default_bytes")]
    #[schemars(range(max = 65_507))]
    pub bytes: u64,
    /// Requests. Default 1.
    #[serde(default = "super::default_count")]
    #[schemars(range(min = 1, max = 100_000))]
    pub count: u32,
    /// Wait for this many answers before closing. Default 0.
    #[serde(default)]
    pub receive: u32,
}

/// System call of an echo request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum PingVia {
    /// `sendto()` with an address.
    #[default]
    Sendto,
    /// `connect()`, then `send()`.
    Connected,
}

/// Membership of a multicast group; the kernel reports it to the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The group's address.
    pub group: IpAddr,
}

/// `socket(family, type, protocol)`, by name or number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Socket {
    /// `inet`, `inet6`, `packet`, `netlink`, `unix`, `vsock` and others, or a number.
    #[schemars(schema_with = "schema::socket_family")]
    pub family: String,
    /// `stream`, `dgram`, `raw`, `rdm`, `seqpacket`, `dccp`, `packet`, or a number.
    #[schemars(schema_with = "schema::socket_kind")]
    pub kind: String,
    /// `IPPROTO_*` number or name (`icmp`, `udp`, `sctp`, `raw`, `udplite`, `mptcp`). Default 0.
    #[serde(default)]
    #[schemars(schema_with = "schema::socket_protocol")]
    pub protocol: Option<String>,
    /// Send one datagram there with it: `address:port`. From `packet`, it is an Ethernet frame
    /// that holds a UDP datagram.
    #[serde(default)]
    #[schemars(schema_with = "schema::target")]
    pub to: Option<String>,
    /// For `raw`: the agent writes the IP header itself, and a UDP datagram behind it.
    #[serde(default)]
    pub hdrincl: bool,
    /// For `packet`: past the queueing discipline (`PACKET_QDISC_BYPASS`).
    #[serde(default)]
    pub qdisc_bypass: bool,
}
