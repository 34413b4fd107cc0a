//! A cell as a test of its own.

use std::sync::{Arc, OnceLock};

use harness::{
    event::{CellReport, Outcome},
    lab::Lab,
    run::{RunOptions, run_cell},
    scenario::{Cell, Listing},
};
use libtest_mimic::{Completion, Failed, Trial};

/// What cells share, or why it is not there; not set where it is not needed.
pub type Shared = Arc<OnceLock<Result<Lab, String>>>;

/// Files that are no scenarios, each as a test that fails.
pub fn diagnosed(listing: &Listing) -> Vec<Trial> {
    let trial = |diagnostic: &harness::scenario::Diagnostic| {
        let text = diagnostic.to_string();
        Trial::test(format!("lint::{}", diagnostic.file.display()), move || Err(Failed::from(text)))
    };
    listing.diagnostics.iter().map(trial).collect()
}

/// A cell; `seen` is told what came of it.
pub fn trial(
    cell: Cell,
    lab: Shared,
    options: Arc<RunOptions>,
    seen: impl Fn(&CellReport) + Send + 'static,
) -> Trial {
    Trial::ignorable_test(cell.name.clone(), move || {
        let lab = match lab.get() {
            Some(Err(error)) => return Err(Failed::from(error.as_str())),
            Some(Ok(lab)) => Some(lab),
            None => None,
        };
        let report = run_cell(&cell, lab, &options);
        seen(&report);
        match report.result {
            Outcome::Pass => Ok(Completion::Completed),
            Outcome::Skip => Ok(Completion::Ignored { reason: Some(report.reason) }),
            Outcome::Fail => {
                let told = |failure: &harness::event::Failure| {
                    format!("{}: {}\n{}", failure.class, failure.message, failure.detail)
                };
                Err(Failed::from(report.failures.iter().map(told).collect::<Vec<_>>().join("\n")))
            }
        }
    })
}
