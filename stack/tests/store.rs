//! The store, made ready: on real servers, without security and with it.

#[path = "store/collected.rs"]
mod collected;
#[path = "servers/opensearch.rs"]
mod opensearch;
#[path = "store/plain.rs"]
mod plain;
#[path = "store/secured.rs"]
mod secured;
mod servers;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They share a server, in this order.
    arguments.test_threads = Some(1);
    let mut trials = plain::trials();
    trials.extend(secured::trials());
    libtest_mimic::run(&arguments, trials).exit_code()
}
