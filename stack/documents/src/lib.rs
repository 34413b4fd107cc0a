//! What a document of each data stream holds. A table a stream is the one source of the reader's struct, the store's
//! mapping, the page for people and what the saved searches may name.
//!
//! It knows nobody: who writes a document and who stores it know this.
#![deny(clippy::arithmetic_side_effects, clippy::unwrap_used, clippy::panic)]

mod dashboards;
mod field;
mod mapping;
mod page;
mod stream;
mod table;

pub use dashboards::{PATTERN, saved_objects};
pub use field::{Field, Kind, agree};
pub use mapping::template;
pub use page::page;
pub use stream::{Stream, Strictness};
pub use table::{CLAUDE, COREDNS, CP, EGRESS, ENVOY, OVERSEER};

/// Every stream.
pub const ALL: [Stream; 6] = [EGRESS, ENVOY, COREDNS, CLAUDE, CP, OVERSEER];

/// Name of the data source that metrics are asked of.
pub const PROMETHEUS: &str = "prometheus";
