//! The reader: drains the record ring, attributes each record to its container, exports OTLP logs.
//!
//! ```text
//! drain ──Record──▶ spool ──Entry──▶ attribute ──EgressDocument──▶ export
//! ```
//!
//! The stages meet at these types alone. `drain` has its own thread and is blocked by nothing behind
//! it; the spool gives each record its sequence number and forgets it only when the endpoint has
//! answered for it. What a stage does not hand on is counted at its [`abi::LossPoint`].
//!
//! The reader knows `abi`. It must never know the manager (it reads the files and maps that the
//! manager leaves), the policy, or the store behind the endpoint. Whatever goes wrong here, nothing
//! in the kernel changes: enforcement goes on, and the reader says what is wrong and tries again.
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

pub mod attribute;
pub mod clock;
pub mod document;
pub mod drain;
pub mod export;
pub mod observe;
mod options;
mod run;
pub mod spool;

pub use document::{EgressDocument, Field, Kind};
pub use options::{Fault, Options, TlsOptions};
pub use run::run;
