//! What comes in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Family, Origin};
use crate::scenario::schema;

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
    #[schemars(range(max = 268_435_456))]
    pub receive: u64,
    /// Payload bytes that the agent answers. Default 0: no answer, and for UDP none is waited for.
    #[serde(default)]
    #[schemars(range(max = 268_435_456))]
    pub send: u64,
    /// `before`: the agent listens before it is enrolled. Default `inside`.
    #[serde(default)]
    pub origin: Origin,
}
