//! TCP connections.

use std::{net::Ipv6Addr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Family, Origin, duration_text};
use crate::scenario::schema;

/// A TCP connection and what is done with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// `name:port` or `address:port`; a name is resolved first, as the agent.
    #[schemars(schema_with = "schema::target")]
    pub to: String,
    /// How it is made, or how it sends. Default `connect`.
    #[serde(default)]
    pub via: ConnectVia,
    /// `v4`, `v6`, or `mapped`: an IPv4 address from an IPv6 socket. Default: IPv4, if the name has it.
    #[serde(default)]
    pub family: Option<Family>,
    /// For `via: routing_header`: the IPv6 address where the packets go first.
    #[serde(default)]
    pub route: Option<Ipv6Addr>,
    /// Where the socket comes from. Default `inside`.
    #[serde(default)]
    pub origin: Origin,
    /// Payload bytes to send.
    #[serde(default)]
    #[schemars(range(max = 268_435_456))]
    pub send: u64,
    /// Payload bytes to read before going on.
    #[serde(default)]
    #[schemars(range(max = 268_435_456))]
    pub receive: u64,
    /// Stay connected and silent for this long after that.
    #[serde(default, with = "duration_text::option")]
    #[schemars(schema_with = "schema::duration")]
    pub pause: Option<Duration>,
    /// Payload bytes to send after the pause.
    #[serde(default)]
    pub send_after: u64,
    /// How it ends. Default `close`.
    #[serde(default)]
    pub end: End,
    /// Give up after this long (`TCP_USER_TIMEOUT` and read time-out). Default 5s.
    #[serde(default, with = "duration_text::option")]
    #[schemars(schema_with = "schema::duration")]
    pub timeout: Option<Duration>,
}

impl Connect {
    /// [`timeout`](Self::timeout) where the case says nothing.
    pub const TIMEOUT: Duration = Duration::from_secs(5);
}

/// System call of a TCP connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum ConnectVia {
    /// `connect()` on a blocking socket.
    #[default]
    Connect,
    /// `connect()` on a non-blocking socket, then `poll()`.
    Nonblock,
    /// `bind()` first.
    Bind,
    /// An io_uring connects and sends.
    IoUring,
    /// The same, and it makes the socket (Linux 5.19).
    IoUringSocket,
    /// An io_uring connects and sends, with a kernel thread that polls the ring.
    IoUringSqpoll,
    /// TCP Fast Open by `sendto(MSG_FASTOPEN)`: the first data is in the SYN.
    FastOpen,
    /// TCP Fast Open by `TCP_FASTOPEN_CONNECT`: the first `send()` connects.
    FastOpenConnect,
    /// Multipath TCP.
    Mptcp,
    /// Data goes through a pipe and `splice()`.
    Splice,
    /// Data goes from a file, by `sendfile()`.
    Sendfile,
    /// Data goes by `send(MSG_ZEROCOPY)`.
    Zerocopy,
    /// Connects, disconnects with `AF_UNSPEC`, and connects the same socket again.
    Reconnect,
    /// An IPv6 routing header sends the packets to `route` first.
    RoutingHeader,
}

/// How the agent ends a TCP connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// `shutdown(SHUT_WR)`, read to the peer's end, `close()`.
    #[default]
    Close,
    /// `close()` with linger 0: a reset.
    Reset,
    /// The process is killed with SIGKILL.
    Kill,
    /// The peer closes first.
    Peer,
}
