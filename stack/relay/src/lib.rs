//! The relay: keeps the log records of lanes whose senders cannot send again, until the store has answered for them.
//!
//! ```text
//! collector ─▶ service ─▶ lane (store on disk) ─▶ forward ─▶ collector's second receiver ─▶ store
//! ```
//!
//! A request is answered once its records are on the disk. Each record gets its `event_id` there, and leaves only when the
//! endpoint has answered for it. Lanes share nothing: a file, a thread and a forwarder each.
//!
//! It knows OTLP and nothing of what a record says: that is the collector's, before it and behind it. It must never log
//! what is in a record.
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

mod bound;
mod client;
mod dead_letters;
mod forward;
mod lane;
mod options;
mod pages;
mod record;
mod run;
mod service;
mod store;

pub use options::{Endpoint, Options};
pub use run::run;
