//! Every cell of `scenarios/` as a test of its own, found at run time, in the highest tier that this
//! machine allows. A run without a cell is not green, and neither is a whole run in the lab that leaves
//! a place of the coverage table blank.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use harness::{
    event::{Outcome, Tier},
    lab::{Lab, available},
    reexec,
    report::Coverage,
    run::{RunOptions, run_cell},
    scenario,
};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

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
    let lab: Arc<OnceLock<Result<Lab, String>>> = Arc::default();
    if tier == Tier::Lab && !arguments.list {
        // Here, not in a test's thread: the reader dies with the thread that started it.
        let _ = lab.set(Lab::start(None).map_err(|error| format!("{error:#}")));
    }
    let coverage: Arc<Mutex<Coverage>> = Arc::default();
    let mut trials: Vec<Trial> = listing
        .diagnostics
        .iter()
        .map(|diagnostic| {
            let text = diagnostic.to_string();
            Trial::test(format!("lint::{}", diagnostic.file.display()), move || Err(Failed::from(text)))
        })
        .collect();
    trials.extend(listing.cells.into_iter().map(|cell| {
        let (lab, coverage) = (Arc::clone(&lab), Arc::clone(&coverage));
        let options = Arc::clone(&options);
        Trial::ignorable_test(cell.name.clone(), move || {
            let lab = match lab.get() {
                Some(Err(error)) => return Err(Failed::from(error.as_str())),
                Some(Ok(lab)) => Some(lab),
                None => None,
            };
            let report = run_cell(&cell, lab, &options);
            coverage.lock().unwrap_or_else(PoisonError::into_inner).add(&report);
            match report.result {
                Outcome::Pass => Ok(Completion::Completed),
                Outcome::Skip => Ok(Completion::Ignored { reason: Some(report.reason) }),
                Outcome::Fail => {
                    let lines = report
                        .failures
                        .iter()
                        .map(|failure| format!("{}: {}\n{}", failure.class, failure.message, failure.detail));
                    Err(Failed::from(lines.collect::<Vec<_>>().join("\n")))
                }
            }
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
