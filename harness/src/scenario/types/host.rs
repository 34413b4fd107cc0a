//! The far side: hosts and their servers.

use std::net::IpAddr;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scenario::schema;

/// A host on the far side.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Its addresses, from the documentation ranges.
    #[schemars(length(min = 1))]
    pub addr: Vec<IpAddr>,
    /// What its name resolves to from the second question of each type on, as who rebinds a name has it: also loopback,
    /// link-local and unspecified addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rebinds: Vec<IpAddr>,
    /// DNS time to live, seconds. Default 300.
    #[serde(default = "default_ttl")]
    pub ttl: u32,
    /// Its servers. A port without one refuses.
    #[serde(default)]
    pub serve: Vec<Serve>,
    /// Drops every packet: nothing answers, not even a reset.
    #[serde(default)]
    pub silent: bool,
}

const fn default_ttl() -> u32 {
    300
}

/// One server: exactly one of the port fields.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = schema::one_server)]
pub struct Serve {
    /// TCP port.
    #[serde(default)]
    #[schemars(schema_with = "schema::server_port")]
    pub tcp: Option<u16>,
    /// UDP port.
    #[serde(default)]
    #[schemars(schema_with = "schema::server_port")]
    pub udp: Option<u16>,
    /// Plain HTTP/1.1 port.
    #[serde(default)]
    #[schemars(schema_with = "schema::server_port")]
    pub http: Option<u16>,
    /// HTTP/1.1 over TLS port, with a certificate for the host's name, of an authority that Envoy trusts and agents do not.
    #[serde(default)]
    #[schemars(schema_with = "schema::server_port")]
    pub tls: Option<u16>,
    /// UDP port of a QUIC server that sends back what comes on each stream.
    #[serde(default)]
    #[schemars(schema_with = "schema::server_port")]
    pub quic: Option<u16>,
    /// UDP port of an HTTP/3 server, which sends a request's body back.
    #[serde(default)]
    #[schemars(schema_with = "schema::server_port")]
    pub h3: Option<u16>,
    /// TCP port of a gRPC server, in the clear or over TLS, whichever comes. It sends a call's message back.
    #[serde(default)]
    #[schemars(schema_with = "schema::server_port")]
    pub grpc: Option<u16>,
    /// TCP port of a WebSocket server over plain HTTP/1.1, which sends every message back.
    #[serde(default)]
    #[schemars(schema_with = "schema::server_port")]
    pub websocket: Option<u16>,
    /// UDP port of a STUN server, which answers binding requests.
    #[serde(default)]
    #[schemars(schema_with = "schema::server_port")]
    pub stun: Option<u16>,
    /// What a TCP or UDP server does. Default `echo`.
    #[serde(default)]
    pub reply: Reply,
    /// Bytes that `source`, `http`, `tls` and `h3` send as their body. Default 0.
    #[serde(default)]
    pub bytes: u64,
    /// HTTP status. Default 200.
    #[serde(default)]
    #[schemars(range(min = 200, max = 599))]
    pub status: Option<u16>,
    /// Status of a gRPC server's answer. Default 0, which is success.
    #[serde(default)]
    #[schemars(range(max = 16))]
    pub grpc_status: u8,
    /// A real server program and its arguments in place of the harness's own; no shell. It runs as
    /// `nobody` and may bind low ports; `/srv` is its own, for it alone, and its `HOME`. The world is
    /// ready when it listens on the port at every address of the host.
    #[serde(default)]
    pub run: Vec<String>,
    /// Programs that run before it, one after the other, in the same place: keys, a repository.
    #[serde(default)]
    pub prepare: Vec<Vec<String>>,
    /// Files that it finds: path, below `/srv` or from `/`, to content. A file from `/` must exist on
    /// the machine; the program sees this one in its place, and nobody else does.
    #[serde(default)]
    pub files: IndexMap<String, String>,
}

/// What a TCP or UDP server does with a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Send back what comes.
    #[default]
    Echo,
    /// Read, never send.
    Sink,
    /// Send `bytes` on accept (TCP) or on each datagram (UDP), and read.
    Source,
    /// TCP: read what the agent sends first, then reset.
    Reset,
    /// TCP: accept, then neither read nor close.
    Hold,
    /// TCP: send `bytes`, then close at once.
    Close,
}
