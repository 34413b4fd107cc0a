//! What the subcommands do.

pub mod keep;
pub mod run;
