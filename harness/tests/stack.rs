//! Cells in the stack tier: agents are containers, and documents are what a search finds in OpenSearch. Those with the tag
//! `smoke`, and those that only this tier can run; with `CLAWKER_STACK=all`, all of them. Needs root, Docker and the images of `ci/images`.

mod cells;

use std::{
    env,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use harness::{
    docker::Docker,
    event::Tier,
    lab::{Availability, Lab, available},
    plane, reexec,
    run::RunOptions,
    scenario::{self, Cell},
};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use serde_json::Value;

/// Cells at a time: each has a container.
const AT_A_TIME: usize = 4;
/// How long a line may take from the reader to the store.
const LINES_LIMIT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    if let Some(code) = reexec::role() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_A_TIME);
    let mut listing = scenario::list(&[PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios"))]);
    if env::var_os("CLAWKER_STACK").is_none_or(|which| which != "all") {
        let is_own =
            |cell: &Cell| matches!(cell.topic.as_str(), "coredns" | "envoy" | "overseer" | "telemetry");
        listing.cells.retain(|cell| is_own(cell) || cell.scenario.tags.iter().any(|tag| tag == "smoke"));
    }
    let mut trials = cells::diagnosed(&listing);
    let missing = missing();
    let lab = cells::Shared::default();
    if missing.is_none() && !arguments.list {
        // Here, not in a test's thread: the reader dies with the thread that started it.
        let started = Lab::in_stack(None, |what| eprintln!("{what}"));
        let _ = lab.set(started.map_err(|error| format!("{error:#}")));
    }
    let options = RunOptions::new(Availability { tier: Tier::Stack, reason: "Docker is there".to_owned() });
    let options = Arc::new(options);
    trials.extend(listing.cells.into_iter().map(|cell| match &missing {
        Some(why) => Trial::ignorable_test(cell.name, {
            let why = why.clone();
            move || Ok(Completion::Ignored { reason: Some(why) })
        }),
        None => cells::trial(cell, Arc::clone(&lab), Arc::clone(&options), |_| {}),
    }));
    let of_lines = Arc::clone(&lab);
    trials.push(Trial::ignorable_test("the_reader_s_lines_are_in_their_stream", move || match missing {
        Some(reason) => Ok(Completion::Ignored { reason: Some(reason) }),
        None => lines(&of_lines).map(|()| Completion::Completed),
    }));
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(lab);
    conclusion.exit_code()
}

/// What the reader logged when it started is a document of its own, by the lane of logs.
fn lines(lab: &cells::Shared) -> Result<(), Failed> {
    let lab = match lab.get() {
        Some(Ok(lab)) => lab,
        Some(Err(error)) => return Err(Failed::from(error.as_str())),
        None => return Err(Failed::from("there is no lab")),
    };
    let is_listening = |document: &Value| {
        document["body"].as_str().is_some_and(|body| body.starts_with("listening"))
            && document["attributes"]["component"] == "reader"
    };
    let found = lab.endpoint.wait_for(documents::CP.name, is_listening, Instant::now() + LINES_LIMIT);
    let document = found.ok_or("the reader's first line is not in the store")?;
    assert_eq!(document["attributes"]["level"], "INFO");
    assert_eq!(document["resource"]["service.name"], documents::CP.name);
    Ok(())
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
