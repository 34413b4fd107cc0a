//! What the reader says about itself: counters, health, and the two pages that show them. It never
//! shows a container's labels: those belong to documents.

mod counters;
mod health;
mod losses;
mod pages;
mod server;

pub use counters::{Counters, Reading};
pub use health::{Component, Health, Report};
pub use losses::Losses;
pub use pages::Pages;
pub use server::serve;
