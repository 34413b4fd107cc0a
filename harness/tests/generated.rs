//! Random cases, run like any scenario and judged like any: by the naive model, the wire, the agents' own calls,
//! and above all by the equations of the ledger. Needs root.
//!
//! `CLAWKER_CASES` says how many, `CLAWKER_SEED` which. A case that fails is made smaller, and printed: saved below
//! `scenarios/`, it is a scenario.

mod lab;
mod workload;

use std::{
    cell::Cell,
    env, fs,
    process::ExitCode,
    time::{Instant, SystemTime},
};

use harness::{
    event::{CellReport, Outcome},
    lab::{Availability, Fault, Lab},
    reexec,
    run::{RunOptions, run_cell},
    scenario,
};
use libtest_mimic::{Arguments, Failed};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use workload::Workload;

/// Cases unless told otherwise: some seconds.
const CASES: u32 = 4;
/// How often a case that fails is tried to be made smaller, and for how long, milliseconds.
const SHRINKS: u32 = 60;
const SHRINK_MS: u32 = 180_000;

fn main() -> ExitCode {
    if let Some(code) = reexec::role() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // Each case has a lab of its own, and they would be in each other's way.
    arguments.test_threads = Some(1);
    let trials = vec![
        lab::trial("whatever agents do and whatever goes wrong, the ledger closes", right),
        lab::trial("a chain that swallows records is told from one that does not", wrong),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A runner whose cases are those of a seed.
fn runner(seed: u64, cases: u32, shrinks: u32) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: shrinks,
        max_shrink_time: SHRINK_MS,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

fn seed() -> Result<u64, Failed> {
    match env::var("CLAWKER_SEED") {
        Ok(seed) => Ok(seed.parse()?),
        Err(_) => Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs()),
    }
}

fn right(availability: Availability) -> Result<(), Failed> {
    let cases = env::var("CLAWKER_CASES").map_or(Ok(CASES), |cases| cases.parse())?;
    let seed = seed()?;
    eprintln!("seed {seed}; CLAWKER_SEED={seed} makes the same cases");
    let lab = Lab::start(None).map_err(|error| format!("{error:#}"))?;
    let options = RunOptions::new(availability);
    let (ran, documents, began) = (Cell::new(0), Cell::new(0), Instant::now());
    let result = runner(seed, cases, SHRINKS).run(&workload::any(), |workload| {
        let report = run(&workload, &lab, &options).map_err(TestCaseError::fail)?;
        ran.set(ran.get() + 1);
        documents.set(documents.get() + report.documents.len());
        match report.result {
            Outcome::Pass => Ok(()),
            Outcome::Skip => Err(TestCaseError::fail(format!("skipped: {}", report.reason))),
            Outcome::Fail => Err(TestCaseError::fail(told(&report))),
        }
    });
    eprintln!("{} cases with {} documents in {:.1?}", ran.get(), documents.get(), began.elapsed());
    match result {
        Ok(()) if ran.get() == 0 => Err("no case ran".into()),
        Ok(()) => Ok(()),
        Err(TestError::Fail(reason, workload)) => Err(format!(
            "CLAWKER_SEED={seed} CLAWKER_CASES={cases} finds a case that fails:\n{reason}\n\nthe case, to be saved as it \
             is:\n\n{}",
            workload.text("a random case that failed")
        )
        .into()),
        Err(error) => Err(error.to_string().into()),
    }
}

/// The equations can fail.
fn wrong(availability: Availability) -> Result<(), Failed> {
    let lab = Lab::start(Some(Fault::RecordSwallowed)).map_err(|error| format!("{error:#}"))?;
    let options = RunOptions::new(availability);
    let result = runner(seed()?, 1, 0).run(&workload::any(), |workload| {
        let report = run(&workload, &lab, &options).map_err(TestCaseError::fail)?;
        let lost =
            report.failures.iter().any(|failure| failure.message.contains("vanished between the ring"));
        if lost { Ok(()) } else { Err(TestCaseError::fail(told(&report))) }
    });
    result.map_err(|error| format!("every second record is swallowed, and nobody says so: {error}").into())
}

/// Writes a case down, reads it as any other, and runs it.
fn run(workload: &Workload, lab: &Lab, options: &RunOptions) -> Result<CellReport, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = folder.path().join("case.yaml");
    let text = workload.text("a random case");
    fs::write(&file, &text).map_err(|error| error.to_string())?;
    let cells = scenario::load(&file).map_err(|faults| {
        faults.iter().map(|fault| fault.to_string()).collect::<Vec<_>>().join("\n") + "\n" + &text
    })?;
    let [cell] = cells.as_slice() else { return Err(format!("{} cells, not one", cells.len())) };
    Ok(run_cell(cell, Some(lab), options))
}

/// What failed, gravest first.
fn told(report: &CellReport) -> String {
    let lines = report
        .failures
        .iter()
        .map(|failure| format!("{}: {}\n{}", failure.class, failure.message, failure.detail));
    format!("{}\n{}", report.reason, lines.collect::<Vec<_>>().join("\n"))
}
