//! The `harness` command.

mod cli;

use std::{
    ffi::OsString,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use harness::{
    event::Class,
    explain, reexec,
    scenario::{self, Selection},
    shell, template,
};
use tracing_subscriber::EnvFilter;

/// Fires YAML scenarios at the real chain and judges documents, wire and model.
///
/// Exit codes, the gravest failure of a run counts: 0 all passed; 7 leak: arrived, but not allowed; 6 lost:
/// no document and no accounted loss; 8 over-block: allowed, but did not arrive; 9 mis-record: a document
/// that another witness contradicts; 4 trigger: an agent's own call, or its control, went otherwise; 5
/// expectation: not as the case says; 3 environment; 2 bad-case: a scenario file is wrong, or nothing ran.
/// 130 and 143: interrupted by SIGINT or SIGTERM; what had run by then is in the reports.
#[derive(Parser)]
#[command(name = "harness", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run scenarios.
    Run(cli::run::RunArgs),
    /// Check scenario files without running them.
    Lint {
        /// Files or folders.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// List the cells that would run.
    List(Which),
    /// Say what each cell does and what is expected of it, without running it.
    Explain(Which),
    /// Write a scenario to start from: scenarios/NAME.yaml.
    Template {
        /// Its path below scenarios/, such as `sendmsg/ntp`.
        name: PathBuf,
    },
    /// Print the JSON Schema of scenario files, for editors.
    Schema,
    /// Enter a world that `run --keep` left up, as an agent or on the far side.
    Shell {
        /// The world, as `run --keep` names it.
        world: String,
        /// An agent's label or number, or `far`; default: the first agent.
        agent: Option<String>,
        /// Program and arguments in place of an interactive $SHELL.
        #[arg(last = true)]
        command: Vec<OsString>,
    },
}

/// Which cells.
#[derive(Args)]
struct Which {
    /// Files or folders.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Only cells whose name contains this.
    #[arg(long)]
    filter: Option<String>,
    /// Only cells with one of these tags.
    #[arg(long)]
    tag: Vec<String>,
}

impl Which {
    fn selection(&self) -> Selection {
        Selection { filter: self.filter.clone(), tags: self.tag.clone() }
    }

    /// Prints something of every cell that is meant, and what is wrong with the files; the exit code.
    fn print(&self, print: impl Fn(&[scenario::Cell]) -> String) -> anyhow::Result<u8> {
        let listing = scenario::list(&self.paths);
        for diagnostic in &listing.diagnostics {
            eprintln!("{diagnostic}\n");
        }
        match self.selection().pick(listing.cells) {
            Ok(cells) => say(&print(&cells))?,
            // Files that are wrong have no cells, and that was said.
            Err(nothing) if listing.diagnostics.is_empty() => {
                eprintln!("harness: {nothing}");
                return Ok(Class::BadCase as u8);
            }
            Err(_) => {}
        }
        Ok(if listing.diagnostics.is_empty() { 0 } else { Class::BadCase as u8 })
    }
}

/// Prints text on standard output. A reader that has what it wanted, such as `head`, is none of our trouble.
fn say(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

fn main() -> ExitCode {
    if let Some(code) = reexec::role() {
        return code;
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    let result = match Cli::parse().command {
        Command::Run(args) => cli::run::scenarios(&args),
        Command::Lint { paths } => {
            let report = scenario::lint(&paths);
            say(&format!("{report}\n")).map(|()| if report.is_clean() { 0 } else { Class::BadCase as u8 })
        }
        Command::List(which) => which.print(|cells| {
            let names: String = cells.iter().map(|cell| format!("{}\n", cell.name)).collect();
            format!("{names}\ncells: {}\n", cells.len())
        }),
        Command::Explain(which) => which.print(explain::cells),
        Command::Template { name } => {
            template::write(&name).and_then(|told| say(&format!("{told}\n"))).map(|()| 0)
        }
        Command::Schema => say(&scenario::schema::text()).map(|()| 0),
        Command::Shell { world, agent, command } => Err(shell::enter(&world, agent.as_deref(), &command)),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("harness: {error:#}");
            ExitCode::from(Class::Environment as u8)
        }
    }
}
