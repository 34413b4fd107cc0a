//! Cells in the stack tier: agents are containers, and documents are what a search finds in OpenSearch. Those with the tag
//! `smoke`, and those that only this tier can run; with `CLAWKER_STACK=all`, all of them. Needs root, Docker and the images of `ci/images`.

mod cells;

use std::{env, path::PathBuf, process::ExitCode, sync::Arc};

use harness::{
    docker::Docker,
    event::Tier,
    lab::{Availability, Lab, available},
    plane, reexec,
    run::RunOptions,
    scenario::{self, Cell},
};
use libtest_mimic::{Arguments, Trial};

/// Cells at a time: each has a container.
const AT_A_TIME: usize = 4;

fn main() -> ExitCode {
    if let Some(code) = reexec::role() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_A_TIME);
    let mut listing = scenario::list(&[PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios"))]);
    if env::var_os("CLAWKER_STACK").is_none_or(|which| which != "all") {
        let is_own = |cell: &Cell| matches!(cell.topic.as_str(), "envoy" | "telemetry");
        listing.cells.retain(|cell| is_own(cell) || cell.scenario.tags.iter().any(|tag| tag == "smoke"));
    }
    let mut trials = cells::diagnosed(&listing);
    let missing = missing();
    let lab = cells::Shared::default();
    if missing.is_none() && !arguments.list {
        // Here, not in a test's thread: the reader dies with the thread that started it.
        let started = Lab::in_stack(None, |what| eprintln!("starting {what}"));
        let _ = lab.set(started.map_err(|error| format!("{error:#}")));
    }
    let options = RunOptions::new(Availability { tier: Tier::Stack, reason: "Docker is there".to_owned() });
    let options = Arc::new(options);
    trials.extend(listing.cells.into_iter().map(|cell| match &missing {
        Some(why) => Trial::ignorable_test(cell.name, {
            let why = why.clone();
            move || Ok(libtest_mimic::Completion::Ignored { reason: Some(why) })
        }),
        None => cells::trial(cell, Arc::clone(&lab), Arc::clone(&options), |_| {}),
    }));
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(lab);
    conclusion.exit_code()
}

/// Why there is no such tier here.
fn missing() -> Option<String> {
    let availability = available();
    if availability.tier < Tier::Lab {
        return Some(availability.reason);
    }
    Docker::connect()
        .and_then(|docker| docker.has_images(&plane::IMAGES))
        .err()
        .map(|error| error.to_string())
}
