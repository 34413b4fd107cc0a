//! The `stack` command: runs the telemetry plane on a machine with Docker.
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

mod operate;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand, builder::PossibleValuesParser};
use operate::{Given, Outcome, Wrong};

const EXIT_CODES: &str = "\
Exit codes:
  0  done, and as it should be
  1  failed: Docker, a service, a file
  2  cannot be done: the command line, a file of containers
  3  answered, and something is not as it should be (status, lost, down)";

/// Runs the telemetry plane: the store, the collector, the proxy, the resolver, and what they are told.
#[derive(Parser)]
#[command(name = "stack", version, after_help = EXIT_CODES)]
struct Cli {
    /// Folder of everything that a stack is made of and keeps.
    #[arg(long, global = true, default_value = "/var/lib/clawker/stack")]
    dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make it run: what is missing is made, what differs is made anew, nothing is destroyed. What is not said is as it was the last time.
    Up {
        #[command(flatten)]
        given: Given,
        /// Have the store's templates be ours again where somebody changed them. No document and no index is changed: the next
        /// ones are made by them.
        #[arg(long)]
        overwrite_templates: bool,
    },
    /// Have the proxy and the resolver serve these containers, and no others. Connections go on: those that a change replaces the
    /// way of for a day, the others for as long as they like.
    Apply {
        /// YAML: a list of containers, each with container_id, agent, project, addresses and rules.
        containers: PathBuf,
    },
    /// Show how every part stands.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show what the proxy and the resolver lost in their own memory.
    Lost {
        /// How far back: 90s, 30min, 1h, 7d.
        #[arg(long, default_value = "1h", value_parser = duration)]
        since: Duration,
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// A store elsewhere, as http://HOST:PORT.
        #[arg(long)]
        store: Option<String>,
    },
    /// Write the documents of a stream, one a line as JSON, the oldest first: for `ebpf-manager audit --documents`, or `jq`.
    Export {
        #[arg(default_value = "clawker-egress", value_parser = PossibleValuesParser::new(documents::ALL.map(|stream| stream.name)))]
        stream: String,
        /// How far back: 90s, 30min, 1h, 7d. Default: all that is there.
        #[arg(long, value_parser = duration)]
        since: Option<Duration>,
        /// A store elsewhere, as http://HOST:PORT.
        #[arg(long)]
        store: Option<String>,
    },
    /// Roll over and remove what is old enough, where the store does not do so itself. To be run daily.
    Keep,
    /// End it, and remove its containers and networks. Its data stays.
    Down {
        /// Remove the data too: documents, metrics, what waits to be sent.
        #[arg(long)]
        remove_data: bool,
    },
}

fn main() -> ExitCode {
    let Cli { dir, command } = Cli::parse();
    let done = match command {
        Command::Up { given, overwrite_templates } => operate::up::up(&dir, &given, overwrite_templates),
        Command::Apply { containers } => operate::apply::apply(&dir, &containers),
        Command::Status { json } => operate::status::status(&dir, json),
        Command::Lost { since, json, store } => operate::lost::lost(&dir, store.as_deref(), since, json),
        Command::Export { stream, since, store } => {
            operate::export::export(&dir, store.as_deref(), &stream, since)
        }
        Command::Keep => operate::keep(&dir),
        Command::Down { remove_data } => operate::down::down(&dir, remove_data),
    };
    match done {
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::Bad) => ExitCode::from(3),
        Err(error) => {
            eprintln!("stack: {error:#}");
            if error.is::<Wrong>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// A number and its unit.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no length of time, such as 90s, 30min, 1h or 7d");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    seconds.map(Duration::from_secs).ok_or_else(wrong)
}
