//! The `harness` command.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use harness::{
    event::{Class, Outcome, Tier},
    lab::{Fault, Lab, available},
    reexec,
    report::{Consumer as _, Coverage, Fanout, Html, Json, Junit, Terminal},
    run::{RunOptions, run},
    scenario::{self, Cell},
    wire::{Captures, Keep},
};
use tracing_subscriber::EnvFilter;

/// Fires YAML scenarios at the real chain and judges documents, wire and model.
///
/// Exit codes, the gravest failure of a run counts: 0 all passed; 7 leak: arrived, but not allowed; 6 lost:
/// no document and no accounted loss; 8 over-block: allowed, but did not arrive; 9 mis-record: a document
/// that another witness contradicts; 4 trigger: an agent's own call, or its control, went otherwise; 5
/// expectation: not as the case says; 3 environment; 2 bad-case: a scenario file is wrong, or nothing ran.
#[derive(Parser)]
#[command(name = "harness", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run scenarios.
    Run(RunArgs),
    /// Check scenario files without running them.
    Lint {
        /// Files or folders.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// List the cells that would run.
    List {
        /// Files or folders.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
}

#[derive(Args)]
struct RunArgs {
    /// Files or folders.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// How much of the chain; default: the highest that this machine allows.
    #[arg(long)]
    tier: Option<Tier>,
    /// Only cells whose name contains this.
    #[arg(long)]
    filter: Option<String>,
    /// Only cells with one of these tags.
    #[arg(long)]
    tag: Vec<String>,
    /// Cells at a time.
    #[arg(long, default_value_t = 8)]
    jobs: usize,
    /// Write a JSON report.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write a JUnit report.
    #[arg(long)]
    junit: Option<PathBuf>,
    /// Write an HTML report.
    #[arg(long)]
    html: Option<PathBuf>,
    /// Keep the capture of each cell's world as a pcap file [default: failed].
    #[arg(long, value_enum)]
    pcap: Option<Keep>,
    /// Folder of the pcap files; default: beside the first report, `<report>.pcaps`.
    #[arg(long)]
    pcap_dir: Option<PathBuf>,
    /// Show the coverage table; by default only where all of a folder `scenarios` is run.
    #[arg(long)]
    coverage: bool,
    /// Fail (2) if a place of the coverage table that could be covered is not.
    #[arg(long)]
    require_coverage: bool,
    /// Leave the worlds up until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Switch a fault on in what ships, to see which cells catch it.
    #[arg(long)]
    fault: Option<Fault>,
}

fn main() -> ExitCode {
    if let Some(code) = reexec::role() {
        return code;
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let result = match Cli::parse().command {
        Command::Run(args) => run_scenarios(&args),
        Command::Lint { paths } => {
            let report = scenario::lint(&paths);
            println!("{report}");
            Ok(if report.is_clean() { 0 } else { Class::BadCase as u8 })
        }
        Command::List { paths } => {
            let listing = scenario::list(&paths);
            println!("{listing}");
            Ok(if listing.diagnostics.is_empty() { 0 } else { Class::BadCase as u8 })
        }
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("harness: {error:#}");
            ExitCode::from(Class::Environment as u8)
        }
    }
}

fn run_scenarios(args: &RunArgs) -> anyhow::Result<u8> {
    let listing = scenario::list(&args.paths);
    for diagnostic in &listing.diagnostics {
        eprintln!("{diagnostic}\n");
    }
    if !listing.diagnostics.is_empty() {
        return Ok(Class::BadCase as u8);
    }
    let wanted = |cell: &Cell| {
        args.filter.as_ref().is_none_or(|filter| cell.name.contains(filter))
            && (args.tag.is_empty() || cell.scenario.tags.iter().any(|tag| args.tag.contains(tag)))
    };
    let cells: Vec<Cell> = listing.cells.into_iter().filter(wanted).collect();
    if cells.is_empty() {
        eprintln!(
            "harness: no cell is left to run; `harness list` shows their names and tags may be misspelt"
        );
        return Ok(Class::BadCase as u8);
    }
    let availability = available();
    let tier = args.tier.unwrap_or(availability.tier);
    let tier_reason = if args.tier.is_some() { "as asked".to_owned() } else { availability.reason.clone() };
    if tier > availability.tier {
        anyhow::bail!("tier {tier} is not possible here: {}", availability.reason);
    }
    if tier < Tier::Lab && args.require_coverage {
        anyhow::bail!("--require-coverage needs the lab tier, and this is tier {tier}: {tier_reason}");
    }
    if tier < Tier::Lab && (args.fault.is_some() || args.keep) {
        anyhow::bail!("--fault and --keep need the lab tier, and this is tier {tier}: {tier_reason}");
    }
    let captures = captures(args)?;
    let lab = if tier == Tier::Lab { Some(Lab::start(args.fault)?) } else { None };
    let mut report = Box::new(consumers(args));
    let options = RunOptions { tier, tier_reason, jobs: args.jobs, keep: args.keep, captures };
    let reports = run(&cells, lab.as_ref(), &options, |event| report.event(&event));
    if args.keep {
        wait_for_interrupt()?;
    }
    drop(lab);
    report.finish()?;
    if reports.iter().all(|report| report.result == Outcome::Skip) {
        eprintln!("harness: every cell was skipped, so nothing was shown");
        return Ok(Class::BadCase as u8);
    }
    let mut code = reports.iter().filter_map(|report| report.class).max().map_or(0, |class| class as u8);
    if args.require_coverage
        && let Err(problem) = Coverage::of(&reports).require()
    {
        eprintln!("harness: {problem}");
        code = code.max(Class::BadCase as u8);
    }
    Ok(code)
}

/// Where captures go; without a report and a folder, nowhere.
fn captures(args: &RunArgs) -> anyhow::Result<Option<Captures>> {
    let beside = args.html.as_ref().or(args.json.as_ref()).or(args.junit.as_ref()).map(|report| {
        let mut name = report.clone().into_os_string();
        name.push(".pcaps");
        PathBuf::from(name)
    });
    let folder = args.pcap_dir.clone().or(beside);
    if folder.is_none() && args.pcap.is_some_and(|keep| keep != Keep::None) {
        anyhow::bail!("--pcap needs a place: name a folder with --pcap-dir, or a report to put it beside");
    }
    Ok(folder.map(|folder| Captures::new(folder, args.pcap.unwrap_or_default())))
}

/// The terminal, and every report that was asked for.
fn consumers(args: &RunArgs) -> Fanout {
    let everything = args.filter.is_none()
        && args.tag.is_empty()
        && args.paths.iter().any(|path| path.file_name().is_some_and(|name| name == "scenarios"));
    let coverage = args.coverage || args.require_coverage || everything;
    let mut fanout = Fanout::default().with(Terminal::stdout().with_coverage(coverage));
    if let Some(path) = &args.json {
        fanout = fanout.with(Json::new(path.clone()));
    }
    if let Some(path) = &args.junit {
        fanout = fanout.with(Junit::new(path.clone()));
    }
    if let Some(path) = &args.html {
        fanout = fanout.with(Html::new(path.clone()));
    }
    fanout
}

fn wait_for_interrupt() -> anyhow::Result<()> {
    eprintln!("the worlds are up: `ip netns` lists their namespaces (clw…). Ctrl-C removes them.");
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(tokio::signal::ctrl_c())?;
    Ok(())
}
