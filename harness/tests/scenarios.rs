//! Every cell of `scenarios/` as a test of its own, found at run time, in the highest tier that this
//! machine allows. A run without a cell is not green, and neither is a whole run in the lab that leaves
//! a place of the coverage table blank.

mod cells;

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use harness::{
    event::Tier,
    lab::{Lab, available},
    reexec,
    report::Coverage,
    run::RunOptions,
    scenario,
};
use libtest_mimic::Arguments;

fn main() -> ExitCode {
    if let Some(code) = reexec::role() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // Cells wait more than they work.
    arguments.test_threads.get_or_insert(8);
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios"));
    let listing = scenario::list(&[folder]);
    let availability = available();
    eprintln!("tier {}: {}", availability.tier, availability.reason);

    let tier = availability.tier;
    let options = Arc::new(RunOptions::new(availability));
    let lab = cells::Shared::default();
    if tier == Tier::Lab && !arguments.list {
        // Here, not in a test's thread: the reader dies with the thread that started it.
        let _ = lab.set(Lab::start(None).map_err(|error| format!("{error:#}")));
    }
    let coverage: Arc<Mutex<Coverage>> = Arc::default();
    let mut trials = cells::diagnosed(&listing);
    trials.extend(listing.cells.into_iter().map(|cell| {
        let coverage = Arc::clone(&coverage);
        cells::trial(cell, Arc::clone(&lab), Arc::clone(&options), move |report| {
            coverage.lock().unwrap_or_else(PoisonError::into_inner).add(report);
        })
    }));
    let whole =
        !arguments.list && arguments.filter.is_none() && arguments.skip.is_empty() && !arguments.exact;
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(lab);
    if whole && conclusion.num_passed + conclusion.num_failed == 0 {
        eprintln!("no cell was executed, so nothing was shown");
        return ExitCode::FAILURE;
    }
    if whole && tier == Tier::Lab {
        let coverage = coverage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(problem) = coverage.require() {
            eprintln!("{problem}");
            return ExitCode::FAILURE;
        }
    }
    conclusion.exit_code()
}
