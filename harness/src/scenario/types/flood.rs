//! Many attempts, one after the other.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Family, duration_text};
use crate::scenario::schema;

/// Attempts in a loop: each is a `connect()`, or a `sendto()` of 16 bytes. A socket is used again for as long as
/// it is refused, so whatever is let through is a flow of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flood {
    /// `name:port` or `address:port`; a name is resolved first, once, as the agent.
    #[schemars(schema_with = "schema::target")]
    pub to: String,
    /// `udp` (default) or `tcp`.
    #[serde(default)]
    pub proto: FloodProto,
    /// `v4` (default), `v6`, or `mapped`: an IPv4 address from an IPv6 socket.
    #[serde(default)]
    pub family: Family,
    /// Ports, one after the other from that of `to` on, and then again. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 65_535))]
    pub ports: u16,
    /// Attempts a second, evenly spaced. Default: as many as there can be.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub rate: Option<u32>,
    /// How many attempts. Exclusive with `for`.
    #[serde(default)]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub count: Option<u32>,
    /// For how long.
    #[serde(default, rename = "for", with = "duration_text::option")]
    #[schemars(schema_with = "schema::duration")]
    pub length: Option<Duration>,
}

const fn one() -> u16 {
    1
}

/// What the attempts are made over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum FloodProto {
    /// A datagram each.
    #[default]
    Udp,
    /// A connection each.
    Tcp,
}

impl Flood {
    /// How long it takes at its own pace; without a `rate`, what a slow machine takes for so many.
    #[must_use]
    pub fn lasts(&self) -> Duration {
        const SLOWEST: Duration = Duration::from_micros(500);
        let each = self.rate.map_or(SLOWEST, |rate| Duration::from_secs(1) / rate.max(1));
        self.length.unwrap_or_else(|| each.saturating_mul(self.count.unwrap_or(0)))
    }
}
