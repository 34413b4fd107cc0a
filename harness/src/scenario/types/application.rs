//! Protocols of applications, spoken by the agent itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Family, Step};
use crate::scenario::schema;

/// A QUIC connection with one stream. Whatever certificate the server has is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quic {
    /// `name:port` or `address:port`; a name is resolved first, as the agent.
    #[schemars(schema_with = "schema::target")]
    pub to: String,
    /// `v4` (default), `v6`, or `mapped`: an IPv4 address from an IPv6 socket.
    #[serde(default)]
    pub family: Family,
    /// Bytes to send on the stream. Default 32.
    #[serde(default = "super::default_bytes")]
    #[schemars(range(max = 268_435_456))]
    pub send: u64,
    /// Bytes to read from it before closing. Default 0.
    #[serde(default)]
    #[schemars(range(max = 268_435_456))]
    pub receive: u64,
}

/// One HTTP/3 request, and its answer to the end. Whatever certificate the server has is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Http3 {
    /// `name:port` or `address:port`; a name is resolved first, as the agent.
    #[schemars(schema_with = "schema::target")]
    pub to: String,
    /// `v4` (default), `v6`, or `mapped`: an IPv4 address from an IPv6 socket.
    #[serde(default)]
    pub family: Family,
    /// Path and query. Default `/`.
    #[serde(default = "root")]
    pub path: String,
    /// Bytes of the request's body, sent by `POST` while the answer comes. Default 0: a `GET`.
    #[serde(default)]
    #[schemars(range(max = 268_435_456))]
    pub send: u64,
    /// Bytes that the answer's body must have, at least. Default 0.
    #[serde(default)]
    #[schemars(range(max = 268_435_456))]
    pub receive: u64,
}

fn root() -> String {
    "/".to_owned()
}

/// A gRPC call of one message each way. Over TLS, whatever certificate the server has is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Grpc {
    /// `name:port` or `address:port`; a name is resolved first, as the agent.
    #[schemars(schema_with = "schema::target")]
    pub to: String,
    /// `v4` (default), `v6`, or `mapped`: an IPv4 address from an IPv6 socket.
    #[serde(default)]
    pub family: Family,
    /// What is called, `/package.Service/Method`. Default `/test.Echo/Call`.
    #[serde(default = "echo")]
    pub path: String,
    /// Bytes of the message. Default 32.
    #[serde(default = "super::default_bytes")]
    pub bytes: u64,
    /// Over TLS, and not in the clear.
    #[serde(default)]
    pub tls: bool,
}

fn echo() -> String {
    "/test.Echo/Call".to_owned()
}

/// A WebSocket over HTTP/1.1 in the clear, from its handshake to its closing handshake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Websocket {
    /// `name:port` or `address:port`; a name is resolved first, as the agent.
    #[schemars(schema_with = "schema::target")]
    pub to: String,
    /// `v4` (default), `v6`, or `mapped`: an IPv4 address from an IPv6 socket.
    #[serde(default)]
    pub family: Family,
    /// Messages, each sent when the one before it has come back. Default 1.
    #[serde(default = "super::default_count")]
    #[schemars(range(min = 1))]
    pub messages: u32,
    /// Bytes a message. Default 32.
    #[serde(default = "super::default_bytes")]
    pub bytes: u64,
}

/// A STUN binding request (RFC 8489) by `sendto()`. Its answer must name the socket's own port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stun {
    /// `name:port` or `address:port`; a name is resolved first, as the agent.
    #[schemars(schema_with = "schema::target")]
    pub to: String,
    /// `v4` (default), `v6`, or `mapped`: an IPv4 address from an IPv6 socket.
    #[serde(default)]
    pub family: Family,
}

/// Where an application protocol goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination<'a> {
    /// `name:port` or `address:port`.
    pub to: &'a str,
    /// Address family of its look-up, and of the socket.
    pub family: Family,
    /// Over UDP, and not TCP.
    pub udp: bool,
}

impl Step {
    /// Where it goes, if it speaks an application protocol.
    #[must_use]
    pub fn application(&self) -> Option<Destination<'_>> {
        let Self { quic, http3, grpc, websocket, stun, .. } = self;
        let over = |udp| move |to, family| Destination { to, family, udp };
        let (udp, tcp) = (over(true), over(false));
        None.or_else(|| quic.as_ref().map(|quic| udp(&quic.to, quic.family)))
            .or_else(|| http3.as_ref().map(|http3| udp(&http3.to, http3.family)))
            .or_else(|| grpc.as_ref().map(|grpc| tcp(&grpc.to, grpc.family)))
            .or_else(|| websocket.as_ref().map(|websocket| tcp(&websocket.to, websocket.family)))
            .or_else(|| stun.as_ref().map(|stun| udp(&stun.to, stun.family)))
    }
}
