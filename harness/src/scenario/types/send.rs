//! Datagrams.

use std::{net::Ipv6Addr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Family, Origin, default_bytes, default_count, duration_text};
use crate::scenario::schema;

/// Datagrams from one socket to one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Send {
    /// `name:port` or `address:port`; a name is resolved first, as the agent.
    #[schemars(schema_with = "schema::target")]
    pub to: String,
    /// `udp` (default), `udplite`, `sctp` or `dccp`.
    #[serde(default)]
    pub proto: DatagramProto,
    /// How. Default `sendto`.
    #[serde(default)]
    pub via: SendVia,
    /// `v4` (default), `v6`, or `mapped`: an IPv4 address from an IPv6 socket.
    #[serde(default)]
    pub family: Family,
    /// Another `address:port`: where `connected_other` and `unspec` connect to first, and where
    /// `cork` sends its second half.
    #[serde(default)]
    pub other: Option<String>,
    /// For `via: routing_header`: the IPv6 address where the packets go first.
    #[serde(default)]
    pub route: Option<Ipv6Addr>,
    /// Where the socket comes from. Default `inside`.
    #[serde(default)]
    pub origin: Origin,
    /// Payload bytes a datagram. Default 32.
    #[serde(default = "default_bytes")]
    #[schemars(range(max = 65_507))]
    pub bytes: u64,
    /// Datagrams. Default 1.
    #[serde(default = "default_count")]
    #[schemars(range(min = 1, max = 100_000))]
    pub count: u32,
    /// Wait for this many answers before closing. Default 0.
    #[serde(default)]
    pub receive: u32,
    /// Time between datagrams.
    #[serde(default, with = "duration_text::option")]
    #[schemars(schema_with = "schema::duration")]
    pub pause: Option<Duration>,
}

impl Send {
    /// One UDP datagram of the default size, by `sendto()`.
    pub fn to(to: impl Into<String>) -> Self {
        Self {
            to: to.into(),
            proto: DatagramProto::Udp,
            via: SendVia::Sendto,
            family: Family::V4,
            other: None,
            route: None,
            origin: Origin::Inside,
            bytes: default_bytes(),
            count: default_count(),
            receive: 0,
            pause: None,
        }
    }
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

/// System call of a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum SendVia {
    /// `sendto()` with an address.
    #[default]
    Sendto,
    /// `sendmsg()` with an address.
    Sendmsg,
    /// One `sendmmsg()` for all datagrams.
    Sendmmsg,
    /// `connect()`, then `send()`.
    Connected,
    /// `connect()` to `other`, then `sendto()` with an address.
    ConnectedOther,
    /// `sendto()` with an address whose family is `AF_UNSPEC`.
    Unspec,
    /// An io_uring's `sendmsg` with an address.
    IoUring,
    /// The same, with a kernel thread that polls the ring.
    IoUringSqpoll,
    /// An io_uring's zero-copy send with an address (Linux 6.0).
    IoUringZerocopy,
    /// `sendto(MSG_ZEROCOPY)` with an address.
    Zerocopy,
    /// One `sendto()` that the kernel cuts into datagrams (`UDP_SEGMENT`).
    Gso,
    /// `connect()`, then a pipe and `splice()`.
    Splice,
    /// Each datagram from two `sendto()`, the first with `MSG_MORE`.
    Cork,
    /// An IPv6 routing header sends the packets to `route` first.
    RoutingHeader,
}
