//! Egress rules: what a person writes, understood once. The maps, the proxy's configuration and the resolver's are made
//! of these types.
//!
//! A rule that exists is one that can be: what contradicts itself does not become a [`Rule`].
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used, clippy::panic)]

mod destination;
mod file;
pub mod forbidden;
mod path;
mod ports;
mod proto;
mod rule;

pub use destination::Destination;
pub use file::{Error, parse, read};
pub use path::{Action, PathRule};
pub use ports::Ports;
pub use proto::{Proto, Transport};
pub use rule::Rule;
