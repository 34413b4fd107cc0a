//! The telemetry plane around the evidence chain: what its parts are told, made from one list of containers and their
//! rules.
//!
//! It knows `rules` and `documents`, and nothing of the kernel's records. What parts are told is text that they read themselves; their own
//! checkers (Envoy's validate mode, CoreDNS's start) have the last word. The store alone is asked: it is made ready, and what servers
//! lost is found in it.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used, clippy::panic)]

pub mod certificates;
mod collector;
mod container;
pub mod coredns;
pub mod digest;
mod envoy;
pub mod lost;
mod plan;
mod prometheus;
pub mod store;
mod stream;

pub use collector::{
    AGENTS_MEMORY, AGENTS_OWN_METRICS, AGENTS_VARIABLE, Collector, HEALTH, Login, OUR_MEMORY, OUR_VARIABLE,
    RELAY,
};
pub use container::{Container, containers};
pub use envoy::{AdminError, DUMP, Envoy, LOG_LOST, LogLost, PROXY_MEMORY, Shown, Telemetry, Upstream, ask};
pub use plan::{Handed, Listeners, Plan, PlanError};
pub use prometheus::Prometheus;
pub use stream::Lane;
