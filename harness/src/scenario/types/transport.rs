//! Transports other than plain TCP and UDP, sockets that come from elsewhere, and what comes in.

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
    #[schemars(range(min = 1))]
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

/// What the agent takes from the far side: exactly one of the ports. The step also makes the far
/// side connect, once the agent listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = schema::one_server)]
pub struct Accept {
    /// TCP port to listen on.
    #[serde(default)]
    #[schemars(schema_with = "schema::server_port")]
    pub tcp: Option<u16>,
    /// UDP port to listen on.
    #[serde(default)]
    #[schemars(schema_with = "schema::server_port")]
    pub udp: Option<u16>,
    /// The host that comes.
    pub from: String,
    /// `v4` (default), `v6`, or `mapped`: over IPv4, to an IPv6 socket.
    #[serde(default)]
    pub family: Family,
    /// Payload bytes that the far side sends. Default 32.
    #[serde(default = "super::default_bytes")]
    pub receive: u64,
    /// Payload bytes that the agent answers. Default 0: no answer, and for UDP none is waited for.
    #[serde(default)]
    pub send: u64,
    /// `before`: the agent listens before it is enrolled. Default `inside`.
    #[serde(default)]
    pub origin: Origin,
}

/// Membership of a multicast group; the kernel reports it to the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The group's address.
    pub group: IpAddr,
}

/// Transport of datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum DatagramProto {
    /// UDP.
    #[default]
    Udp,
    /// UDP-Lite (RFC 3828).
    Udplite,
    /// SCTP, one-to-many.
    Sctp,
    /// DCCP; always connected.
    Dccp,
}

/// Who made a socket, and when, relative to the agent's cgroup and its enrolment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Made and used by the agent, after enrolment.
    #[default]
    Inside,
    /// Made by a process outside the cgroup, which passes it in (`SCM_RIGHTS`).
    Outside,
    /// Made by the agent, and passed to a process outside the cgroup, which uses it.
    PassedOut,
    /// The process makes it outside, and is then moved into the cgroup.
    MovedIn,
    /// The process makes it inside, and is then moved out of the cgroup.
    MovedOut,
    /// The process connects outside, and is then moved into the cgroup.
    ConnectedOutside,
    /// Made before the agent was enrolled, used after.
    Before,
    /// Connected before the agent was enrolled, used after.
    ConnectedBefore,
}

impl Origin {
    /// Whether the step begins before the agent is enrolled.
    #[must_use]
    pub const fn is_early(self) -> bool {
        matches!(self, Self::Before | Self::ConnectedBefore)
    }

    /// Whether the socket is connected when the step holds.
    #[must_use]
    pub const fn is_connected(self) -> bool {
        matches!(self, Self::ConnectedBefore | Self::ConnectedOutside)
    }

    /// Whether one process makes the socket, and another uses it.
    #[must_use]
    pub const fn is_passed(self) -> bool {
        matches!(self, Self::Outside | Self::PassedOut)
    }
}

/// The cgroup of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The agent's own.
    #[default]
    Own,
    /// A child of it, made for the step and removed after it.
    Nested,
}

/// An escape that the case shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Leak {
    /// It is known: the wire sees it and no document tells of it, until it is closed.
    Known,
}
