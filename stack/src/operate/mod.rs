//! What the `stack` command does.

pub mod apply;
mod configure;
mod docker;
pub mod down;
mod files;
pub mod lost;
mod plan;
mod ready;
mod service;
mod settings;
pub mod status;
mod store;
mod trust;
pub mod up;

pub use settings::Given;
pub use store::keep;

/// How what was asked for came out, beside what failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Good,
    /// Answered, and something is not as it should be.
    Bad,
}

/// What a person has to change: the command line or a file.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Wrong(pub String);
