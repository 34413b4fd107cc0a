//! Fires YAML scenarios at the real chain and judges what came of it: the agents' own calls, the
//! documents, the wire, and a naive model of what should have happened.
//!
//! The harness knows every other crate, and none of them knows it.

pub mod actor;
pub mod docker;
pub mod endpoint;
pub mod event;
pub mod explain;
pub mod far;
pub mod fire;
pub mod interrupt;
pub mod judge;
pub mod lab;
pub mod model;
pub mod owner;
mod pidfd;
pub mod plane;
pub mod reexec;
pub mod report;
pub mod run;
pub mod scenario;
pub mod shell;
pub mod template;
pub mod transport;
pub mod wire;
pub mod world;
