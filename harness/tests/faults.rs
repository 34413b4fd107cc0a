//! The harness can catch what it claims to catch: with each fault switched on in what ships, a
//! scenario fails; with none, the same scenarios pass. Needs root.

use std::{path::PathBuf, process::ExitCode};

use harness::{
    event::{Outcome, Tier},
    lab::{Fault, Lab, available},
    reexec,
    run::{RunOptions, run},
    scenario,
};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// The cases that are run under each fault: a TCP and a UDP topic, allowed and denied.
const WATCH: [&str; 4] =
    ["connect/allowed.yaml", "connect/denied.yaml", "sendmsg/denied.yaml", "attribution/two_agents.yaml"];

fn main() -> ExitCode {
    if let Some(code) = reexec::role() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // One lab at a time: its reader dies with the thread that started it, and pins carry the process id.
    arguments.test_threads = Some(1);
    let faults = [None].into_iter().chain([
        Some(Fault::VerdictFlipped),
        Some(Fault::PortByteOrder),
        Some(Fault::HookNotAttached),
        Some(Fault::LabelSwapped),
        Some(Fault::RecordSwallowed),
    ]);
    let trials = faults.map(|fault| {
        let name =
            fault.map_or_else(|| "no fault, no failure".to_owned(), |fault| format!("{fault} is caught"));
        Trial::ignorable_test(name, move || check(fault))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn check(fault: Option<Fault>) -> Result<Completion, Failed> {
    let availability = available();
    if availability.tier < Tier::Lab {
        return Ok(Completion::Ignored { reason: Some(availability.reason) });
    }
    let scenarios = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios"));
    let files: Vec<PathBuf> = WATCH.iter().map(|file| scenarios.join(file)).collect();
    let listing = scenario::list(&files);
    if let Some(diagnostic) = listing.diagnostics.first() {
        return Err(diagnostic.to_string().into());
    }
    let lab = Lab::start(fault).map_err(|error| format!("{error:#}"))?;
    let options = RunOptions {
        tier: Tier::Lab,
        tier_reason: availability.reason,
        jobs: 8,
        keep: false,
        captures: None,
    };
    let reports = run(&listing.cells, Some(&lab), &options, |_| {});
    let failed: Vec<_> = reports.iter().filter(|report| report.result == Outcome::Fail).collect();
    match (fault, failed.first()) {
        (None, Some(report)) => Err(format!("{}: {}", report.name, report.reason).into()),
        (Some(fault), None) => {
            Err(format!("{} cells passed although {fault} is switched on", reports.len()).into())
        }
        (Some(fault), Some(report)) => {
            eprintln!(
                "{fault}: {} of {} cells fail, e.g. {}: {}",
                failed.len(),
                reports.len(),
                report.name,
                report.reason
            );
            Ok(Completion::Completed)
        }
        (None, None) => Ok(Completion::Completed),
    }
}
