//! The harness can catch what it claims to catch: with each fault switched on in what ships, a
//! scenario fails; with none, the same scenarios pass. Needs root.

mod lab;

use std::{path::PathBuf, process::ExitCode};

use harness::{
    event::{Class, Outcome},
    lab::{Availability, Fault, Lab},
    reexec,
    run::{RunOptions, run},
    scenario,
};
use libtest_mimic::{Arguments, Failed};

/// The cases that are run under each fault.
const WATCH: [&str; 8] = [
    "connect/allowed.yaml",
    "connect/denied.yaml",
    "connect/direct_address.yaml",
    "sendmsg/denied.yaml",
    "sendmsg/at_once.yaml",
    "egress/ping.yaml",
    "proxy/listener.yaml",
    "attribution/two_agents.yaml",
];

/// Cells at a time: they wait more than they work.
const JOBS: usize = 8;

/// Each fault, and the classes one of which most of the cells that it fails must say.
const FAULTS: [(Fault, &[Class]); 10] = [
    (Fault::VerdictFlipped, &[Class::Leak, Class::OverBlock]),
    (Fault::PortByteOrder, &[Class::MisRecord]),
    (Fault::V6ByteOrder, &[Class::MisRecord, Class::OverBlock]),
    // A flow is known by its cookie: what one socket may, all may.
    (Fault::CookieConfused, &[Class::MisRecord, Class::Lost, Class::Leak]),
    (Fault::IcmpUnrecorded, &[Class::Lost]),
    (Fault::IntendedLost, &[Class::MisRecord]),
    (Fault::HookNotAttached, &[Class::OverBlock]),
    (Fault::LabelSwapped, &[Class::MisRecord]),
    (Fault::RecordSwallowed, &[Class::Lost]),
    (Fault::DeadLabel, &[Class::MisRecord]),
];

fn main() -> ExitCode {
    if let Some(code) = reexec::role() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // One lab at a time: its reader dies with the thread that started it, and pins carry the process id.
    arguments.test_threads = Some(1);
    let faults = [None].into_iter().chain(FAULTS.map(Some));
    let trials = faults.map(|fault| {
        let name = fault
            .map_or_else(|| "no fault, no failure".to_owned(), |(fault, _)| format!("{fault} is caught"));
        lab::trial(name, move |availability| check(fault, availability))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn check(fault: Option<(Fault, &[Class])>, availability: Availability) -> Result<(), Failed> {
    let scenarios = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios"));
    let files: Vec<PathBuf> = WATCH.iter().map(|file| scenarios.join(file)).collect();
    let listing = scenario::list(&files);
    if let Some(diagnostic) = listing.diagnostics.first() {
        return Err(diagnostic.to_string().into());
    }
    let lab = Lab::start(fault.map(|(fault, _)| fault)).map_err(|error| format!("{error:#}"))?;
    let options = RunOptions { jobs: JOBS, ..RunOptions::new(availability) };
    let reports = run(&listing.cells, Some(&lab), &options, |_| {});
    let failed: Vec<_> = reports.iter().filter(|report| report.result == Outcome::Fail).collect();
    let Some((fault, right)) = fault else {
        return match failed.first() {
            Some(report) => Err(format!("{}: {}", report.name, report.reason).into()),
            None if reports.is_empty() => Err("nothing ran".into()),
            None => Ok(()),
        };
    };
    let rightly = failed.iter().filter(|report| report.class.is_some_and(|class| right.contains(&class)));
    let rightly = rightly.count();
    let told =
        format!("{fault}: {} of {} cells fail, {rightly} of them as {right:?}", failed.len(), reports.len());
    if rightly == 0 || rightly * 2 < failed.len() {
        let classes: Vec<_> = failed.iter().map(|report| (&report.class, &report.name)).collect();
        return Err(format!("{told}: {classes:?}").into());
    }
    eprintln!("{told}");
    Ok(())
}
