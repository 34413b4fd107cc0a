//! When things happen does not change what is judged: with a random delay at every stage of the reader,
//! a case that is right never fails and a case that is wrong never passes. Needs root.
//!
//! `CLAWKER_RUNS` says how often each is run.

mod lab;

use std::{env, path::Path, process::ExitCode};

use harness::{
    event::Outcome,
    lab::{Availability, Fault, Lab},
    reexec,
    run::{RunOptions, run},
    scenario,
};
use libtest_mimic::{Arguments, Failed};

/// Runs of each case unless told otherwise: some seconds.
const RUNS: usize = 40;
/// Cells at a time: they wait more than they work.
const JOBS: usize = 8;

fn main() -> ExitCode {
    if let Some(code) = reexec::role() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // One lab at a time: its reader dies with the thread that started it, and pins carry the process id.
    arguments.test_threads = Some(1);
    let trials = [("right", Outcome::Pass), ("wrong", Outcome::Fail)].map(|(case, expected)| {
        let name = format!("a case that is {case} is always told so");
        lab::trial(name, move |availability| check(case, expected, availability))
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

fn check(case: &str, expected: Outcome, availability: Availability) -> Result<(), Failed> {
    let runs = env::var("CLAWKER_RUNS").map_or(Ok(RUNS), |runs| runs.parse())?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/delays/{case}.yaml"));
    let listing = scenario::list(&[file]);
    if let Some(diagnostic) = listing.diagnostics.first() {
        return Err(diagnostic.to_string().into());
    }
    let cells: Vec<_> = std::iter::repeat_n(listing.cells, runs).flatten().collect();
    let lab = Lab::start(Some(Fault::Delayed)).map_err(|error| format!("{error:#}"))?;
    let options = RunOptions { jobs: JOBS, ..RunOptions::new(availability) };
    let reports = run(&cells, Some(&lab), &options, |_| {});
    let other: Vec<_> = reports.iter().filter(|report| report.result != expected).collect();
    match other.first() {
        _ if reports.len() != runs || runs == 0 => Err(format!("{} of {runs} runs", reports.len()).into()),
        Some(report) => {
            let told = format!(
                "{} of {runs} runs: {:?}, not {expected:?}: {}",
                other.len(),
                report.result,
                report.reason
            );
            Err(told.into())
        }
        None => Ok(()),
    }
}
