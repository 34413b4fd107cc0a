//! `harness run`.

use std::{collections::HashSet, path::PathBuf};

use anyhow::bail;
use harness::{
    event::{Class, Outcome, Tier},
    interrupt,
    lab::{Fault, Lab, available},
    report::{Consumer as _, Coverage, Fanout, Html, Json, Junit, Terminal, writable},
    run::{RunOptions, run},
    scenario,
    wire::{Captures, Keep},
};

use super::keep;
use crate::Which;

/// Its arguments.
#[derive(clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    which: Which,
    /// How much of the chain; default: the highest that this machine allows.
    #[arg(long)]
    tier: Option<Tier>,
    /// Cells at a time.
    #[arg(long, default_value_t = 8, value_parser = jobs)]
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
    /// Show the coverage table; by default only where all of a folder `scenarios` is run. JSON always has it.
    #[arg(long)]
    coverage: bool,
    /// Fail (2) if a place of the coverage table that could be covered is not.
    #[arg(long)]
    require_coverage: bool,
    /// Leave the worlds up, to be entered with `harness shell`, until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Switch a fault on in what ships, to see which cells catch it.
    #[arg(long)]
    fault: Option<Fault>,
}

fn jobs(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("nothing would run; at least 1 cell has to be run at a time".to_owned()),
        Ok(jobs) => Ok(jobs),
        Err(_) => Err("this is a number of cells, 1 or more".to_owned()),
    }
}

/// Runs; the exit code.
pub fn scenarios(args: &RunArgs) -> anyhow::Result<u8> {
    let listing = scenario::list(&args.which.paths);
    for diagnostic in &listing.diagnostics {
        eprintln!("{diagnostic}\n");
    }
    if !listing.diagnostics.is_empty() {
        return Ok(Class::BadCase as u8);
    }
    let cells = match args.which.selection().pick(listing.cells) {
        Ok(cells) => cells,
        Err(nothing) => {
            eprintln!("harness: {nothing}");
            return Ok(Class::BadCase as u8);
        }
    };
    let availability = available();
    let tier = args.tier.unwrap_or(availability.tier);
    let tier_reason = if args.tier.is_some() { "as asked".to_owned() } else { availability.reason.clone() };
    // Whether the servers are there is told by starting them.
    if tier.min(Tier::Lab) > availability.tier {
        bail!("tier {tier} is not possible here: {}", availability.reason);
    }
    if tier < Tier::Lab && args.require_coverage {
        bail!("--require-coverage needs the lab tier, and this is tier {tier}: {tier_reason}");
    }
    if tier < Tier::Lab && (args.fault.is_some() || args.keep) {
        bail!("--fault and --keep need the lab tier, and this is tier {tier}: {tier_reason}");
    }
    // A run may take minutes, and would have been for nothing.
    let reports = [("JSON", &args.json), ("JUnit", &args.junit), ("HTML", &args.html)];
    let mut paths = HashSet::new();
    for (what, path) in reports.iter().filter_map(|(what, path)| Some((what, path.as_ref()?))) {
        writable(path, what)?;
        if !paths.insert(path) {
            bail!("two reports would go to {}; name a file for each", path.display());
        }
    }
    let captures = captures(args)?;
    interrupt::listen(|signal| {
        eprintln!("\nharness: {signal}: ending what is under way; once more ends at once, without a report");
    })?;
    let lab = match tier {
        Tier::Model => None,
        Tier::Lab => Some(Lab::start(args.fault)?),
        Tier::Stack => Some(Lab::in_stack(args.fault, |what| eprintln!("harness: {what}"))?),
    };
    let mut report = Box::new(consumers(args));
    let options = RunOptions { tier, tier_reason, jobs: args.jobs, keep: args.keep, captures };
    let reports = run(&cells, lab.as_ref(), &options, |event| report.event(&event));
    // Before the wait, whose end by Ctrl-C is the usual one.
    let interrupted = interrupt::requested();
    report.finish()?;
    if let Some(lab) = &lab
        && args.keep
        && interrupted.is_none()
    {
        keep::keep(lab);
    }
    drop(lab);
    if let Some(signal) = interrupted {
        return Ok(interrupt::exit_code(signal));
    }
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
        bail!("--pcap needs a place: name a folder with --pcap-dir, or a report to put it beside");
    }
    Ok(folder.map(|folder| Captures::new(folder, args.pcap.unwrap_or_default())))
}

/// The terminal, and every report that was asked for.
fn consumers(args: &RunArgs) -> Fanout {
    let everything = args.which.filter.is_none()
        && args.which.tag.is_empty()
        && args.which.paths.iter().any(|path| path.file_name().is_some_and(|name| name == "scenarios"));
    let coverage = args.coverage || args.require_coverage || everything;
    let mut fanout = Fanout::default().with(Terminal::stdout().with_coverage(coverage));
    if let Some(path) = &args.json {
        fanout = fanout.with(Json::new(path.clone()));
    }
    if let Some(path) = &args.junit {
        fanout = fanout.with(Junit::new(path.clone()));
    }
    if let Some(path) = &args.html {
        fanout = fanout.with(Html::new(path.clone()).with_coverage(coverage));
    }
    fanout
}
