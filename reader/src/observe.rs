//! What the reader says about itself: counters, health, and the two pages that show them. It never
//! shows a container's labels: those belong to documents.

mod chain;
mod counters;
mod health;
mod losses;
mod pages;
mod server;

pub(crate) use chain::{chain, with_causes};
pub use counters::{Counters, Reading};
pub use health::{Component, Health, Report};
pub use losses::Losses;
pub use pages::Pages;
pub use server::serve;
