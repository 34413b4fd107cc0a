//! Fires YAML scenarios at the real chain and judges what came of it: the agents' own calls, the
//! documents, the wire, and a naive model of what should have happened.
//!
//! The harness knows every other crate, and none of them knows it.

pub mod event;
pub mod model;
pub mod scenario;
