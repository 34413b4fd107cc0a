//! This program as its own agents and reader: one file to build, and the same code that ships.

use std::process::ExitCode;

use clap::Parser as _;

/// This program, for starting it again.
pub(crate) const PROGRAM: &str = "/proc/self/exe";
/// First argument that makes a process an agent's.
pub(crate) const ACTOR: &str = "__actor";
/// First argument that makes a process the reader.
pub(crate) const READER: &str = "__reader";

/// Runs as an agent or as the reader if this process was started as one. Call first in `main`.
pub fn role() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    arguments.next();
    match arguments.next()?.to_str()? {
        ACTOR => crate::actor::main(),
        READER => {
            let options = reader::Options::parse_from(std::iter::once("reader".into()).chain(arguments));
            match reader::run(options) {
                Ok(()) => Some(ExitCode::SUCCESS),
                Err(error) => {
                    eprintln!("reader: {error:#}");
                    Some(ExitCode::FAILURE)
                }
            }
        }
        _ => None,
    }
}
