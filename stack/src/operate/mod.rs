//! What the `stack` command does.

pub mod apply;
mod commands;
mod configure;
mod docker;
pub mod down;
pub mod export;
mod files;
mod listed;
pub mod lost;
mod plan;
mod ready;
mod service;
mod settings;
pub mod status;
mod store;
mod trust;
pub mod up;

use std::io::{self, Write as _};

use anyhow::Context as _;
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

/// Prints text on standard output.
fn say(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout();
    unless_closed(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// A reader of standard output that has what it wanted, such as `head`, is none of our trouble.
fn unless_closed(written: io::Result<()>) -> anyhow::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// What a person has to change: the command line or a file.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Wrong(pub String);
