//! Containers come and go: no record is ever another's, and nothing of them stays in the kernel. Needs root.

mod lab;

use std::{
    collections::BTreeMap,
    env,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use harness::{
    actor::Action,
    lab::Lab,
    reexec,
    scenario::{
        fields::EGRESS_STREAM,
        types::{Agent, Host},
    },
    world::World,
};
use indexmap::IndexMap;
use libtest_mimic::{Arguments, Failed};
use manager::EnrolRequest;
use rules::Rule;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Longer than any action here takes.
const LONG: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    if let Some(code) = reexec::role() {
        return code;
    }
    let trial = lab::trial("containers that come and go keep their records", |_| come_and_go());
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}

/// How many containers live and end; 10,000 in the nightly run.
fn cycles() -> u64 {
    env::var("CLAWKER_CYCLES").ok().and_then(|text| text.parse().ok()).unwrap_or(60)
}

fn from<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("the test's own JSON")
}

/// How often a life is denied: the first two of each 32 more often than is recorded one by one. All documents are kept
/// in memory, which every fork of this process costs time.
fn denied(life: u64) -> u64 {
    if life % 32 < 2 { 200 } else { 4 }
}

/// Each life is enrolled, does what is permitted once and what is denied several times; and is retired. Every second
/// one takes the cgroup of the one before it, and with it its cgroup id.
fn come_and_go() -> Result<(), Failed> {
    let lab = Lab::start(None)?;
    let hosts: IndexMap<String, Host> =
        from(json!({"api.test": {"addr": ["198.51.100.7"], "serve": [{"udp": 7, "reply": "sink"}]}}));
    let agents: [Agent; 1] = [from(json!({"agent": "scout"}))];
    let rules: Vec<Rule> = from(json!([{"dst": "198.51.100.7", "proto": "udp", "port": 7}]));
    let mut kept: Option<World> = None;
    for life in 0..cycles() {
        let world = match kept.take().filter(|_| life % 2 == 1) {
            Some(world) => world,
            None => World::new(&format!("cycle-{life}"), &hosts, &agents)?,
        };
        let mut request = EnrolRequest::new(&world.agent(0).cgroup, format!("life-{life}"));
        request.agent = format!("agent-{life}");
        request.rules = rules.clone();
        request.accept_unobserved = true;
        let enrolment = lab.manager.enrol(&request)?;
        for (to, count) in [("198.51.100.7:7", 1), ("198.51.100.9:9", denied(life))] {
            let action: Action = from(json!({"send": {"to": to, "count": count}}));
            world.spawn_actor(0, &action)?.wait(LONG)?;
        }
        lab.manager.retire(enrolment.cgroup_id)?;
        kept = Some(world);
    }
    drop(kept);

    let deadline = Instant::now() + LONG;
    while lab.manager.dump()?.0["ledger"].len() > 1 {
        if Instant::now() > deadline {
            return Err(format!("these counters do not leave: {:?}", lab.manager.dump()?.0["ledger"]).into());
        }
        lab.manager.clear_retired()?;
        thread::sleep(Duration::from_millis(50));
    }
    for map in ["folds", "fold_readings", "budgets", "container_map", "flows"] {
        let dump = lab.manager.dump()?.0;
        // What has no container is counted under 0.
        let left: Vec<_> = dump[map].iter().filter(|row| row["cgroup_id"] != 0).collect();
        if !left.is_empty() {
            return Err(format!("{map} still holds {left:?}").into());
        }
    }
    let attempts: u64 = (0..cycles()).map(|life| 1 + denied(life)).sum();
    let status = lab.manager.status()?.retired;
    let counted = status.totals.denied + status.totals.opened;
    if (status.containers, counted) == (0, 0) || counted != attempts {
        return Err(format!("{attempts} attempts were made, and {status:?} is what is kept of them").into());
    }
    let mut of_each: BTreeMap<u64, u64> = BTreeMap::new();
    let counts = |document: &Value| document["attributes"]["event_count"].as_u64().unwrap_or(0);
    let arrived = || lab.endpoint.documents(EGRESS_STREAM, |_| true).iter().map(counts).sum::<u64>();
    while arrived() < attempts && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    let mut unknown = 0;
    for document in lab.endpoint.documents(EGRESS_STREAM, |_| true) {
        let said = &document["attributes"];
        // The next life of a cgroup id may be enrolled before the reader has read who held it before: then it does
        // not know, and says so.
        if said["attribution"] == "unknown" && said["agent"] == "" && said["container_id"] == "" {
            unknown += counts(&document);
            continue;
        }
        let (container, agent) = (said["container_id"].as_str(), said["agent"].as_str());
        let named: Option<u64> = container.and_then(|id| id.strip_prefix("life-")?.parse().ok());
        let agrees = |life: &u64| agent == Some(format!("agent-{life}").as_str());
        let Some(life) = named.filter(agrees) else {
            return Err(format!("a document of {container:?} names {agent:?}: {document}").into());
        };
        *of_each.entry(life).or_default() += counts(&document);
    }
    eprintln!(
        "{attempts} attempts of {} lives, of {unknown} it is said that their owner is not known",
        cycles()
    );
    let told: u64 = of_each.values().sum();
    let more: Vec<_> = of_each.iter().filter(|(life, count)| **count > 1 + denied(**life)).collect();
    if told + unknown != attempts || !more.is_empty() {
        return Err(format!(
            "{told} attempts are told of, {unknown} of nobody; and of these too many: {more:?}"
        )
        .into());
    }
    if unknown > attempts / 20 {
        return Err(format!("the owner of {unknown} of {attempts} attempts is not known").into());
    }
    Ok(())
}
