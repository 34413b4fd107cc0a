//! Owns the kernel side: loads, pins and attaches the programs, enrols containers, turns egress
//! rules into maps, switches bypass, answers DNS and sweeps flows.
//!
//! It knows `abi`, `policy`, `rules` and, to tell what it did, `emitter`; of readers and documents only what its audit counts: the
//! spool's files and an export's lines. Everything lives in
//! pins and in small state files, so that any command can be its own process and enforcement
//! outlives them all.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod apply;
mod attach;
pub mod audit;
mod bypass;
mod clock;
mod compiled;
mod containers;
mod daemon;
mod dump;
mod error;
mod load;
mod lock;
mod names;
mod network;
mod permit;
mod pins;
mod ready;
mod refuse;
pub mod resolver;
mod retired;
mod routes;
mod state;
mod status;
mod sweep;
mod tell;
mod view;

pub use attach::Program;
pub use audit::{Audit, AuditRequest};
pub use compiled::Compiled;
pub use containers::EnrolRequest;
pub use daemon::{Daemon, ViewState};
pub use dump::Dump;
pub use error::{Error, Kind};
pub use load::LoadOptions;
pub use network::{Network, Proxy};
pub use pins::Pins;
pub use resolver::ResolverAddresses;
pub use retired::{Gone, Totals};
pub use status::{ContainerStatus, Status};
pub use sweep::Swept;

/// The eBPF object that ships.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("CLAWKER_OBJECT"));

/// One loaded set of programs, by where it is pinned and where its state files are. Cheap: every
/// operation opens what it needs.
#[derive(Clone, Debug)]
pub struct Manager {
    pins: Pins,
    state_dir: std::path::PathBuf,
    events: emitter::Events,
}
