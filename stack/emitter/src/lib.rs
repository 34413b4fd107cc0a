//! What our own programs tell the telemetry plane of themselves: events (what was done, and what works less than it
//! should) and logs.
//!
//! An event is in a file when [`Events::record`] returns, and stays there until the plane has answered for it. So whoever
//! records one neither waits for the plane nor fails because of it, and a program that is killed loses none. Log lines
//! are in memory alone, and never wait.
//!
//! It knows `documents`, for what a document holds. It must never know what is recorded, or who records it.
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

mod channel;
mod event;
mod field;
mod folder;
mod later;
mod logs;
mod options;
mod otlp;
mod ship;
mod telemetry;

pub use channel::{ChannelError, Tls, channel};
pub use event::{Event, Outcome, Owner, What};
pub use field::{Moment, Words};
pub use folder::{Bound, Events};
pub use later::{Keeping, Later};
pub use logs::{Logs, OTHERS_WORDS};
pub use options::Options;
pub use telemetry::{Running, StartError, Telemetry};

/// Nanoseconds since 1970, as OTLP has times.
fn now_unix_ns() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// An error and what lies beneath it.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    with_causes(error.to_string(), error)
}

/// `text`, which tells of `error`, and every layer beneath it that says something new: layers often repeat each other.
#[must_use]
pub fn with_causes(mut text: String, error: &dyn std::error::Error) -> String {
    let mut beneath = error.source();
    while let Some(error) = beneath {
        let layer = error.to_string();
        if !text.contains(&layer) {
            text.push_str(": ");
            text.push_str(&layer);
        }
        beneath = error.source();
    }
    text
}
