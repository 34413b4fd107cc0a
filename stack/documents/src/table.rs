//! The tables, a file a stream.

mod claude;
mod coredns;
mod cp;
mod egress;
mod envoy;
mod overseer;

pub use claude::CLAUDE;
pub use coredns::COREDNS;
pub use cp::CP;
pub use egress::EGRESS;
pub use envoy::ENVOY;
pub use overseer::OVERSEER;

use crate::{
    Field,
    field::{CUT, UNCUT, WORD, keyword},
};

// Whose a document is, under the same names in every stream: one filter narrows them all.
const AGENT: Field =
    keyword("agent", UNCUT, "Raw label `dev.clawker.agent`, byte for byte; empty if it is nobody's.");
const PROJECT: Field =
    keyword("project", UNCUT, "Raw label `dev.clawker.project`, byte for byte; empty if it is nobody's.");
const CONTAINER_ID: Field =
    keyword("container_id", WORD, "The container runtime's identifier; empty if it is nobody's.");
/// Given by whoever keeps the record until the store has answered for it: the reader's spool, or the relay.
const EVENT_ID: Field = keyword(
    "event_id",
    CUT,
    "Identity of the event, given where it happened. Delivery may repeat; count distinct values.",
);
