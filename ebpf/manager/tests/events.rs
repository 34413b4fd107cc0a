//! What the command tells of what it did: written before it ends, sent by `ebpf-manager run`, lost by nobody. Needs root.
#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

#[path = "../../../stack/emitter/tests/support/endpoint.rs"]
#[expect(dead_code, reason = "this test uses its own part of it")]
mod endpoint;
#[expect(dead_code, reason = "this test uses its own part of it")]
mod support;

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Child, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use endpoint::{Endpoint, text, until};
use serde_json::{Value, json};
use support::{BINARY, Set};

/// Events on their way, the oldest first.
fn unix_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos().try_into().unwrap()
}

fn waiting(set: &Set) -> Vec<Value> {
    let folder = set.state.path().join("events/manager");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let read = |path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap()["event"].clone();
    paths.into_iter().map(read).collect()
}

fn words(event: &Value) -> (&str, &str) {
    (event["event"].as_str().unwrap(), event["outcome"].as_str().unwrap())
}

/// `ebpf-manager run`, killed on drop.
struct Running(Child);

impl Running {
    fn start(set: &Set, url: &str) -> Self {
        let mut command =
            set.command(Path::new(BINARY), &["run", "--events-endpoint", url, "--logs-endpoint", url]);
        Self(command.stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn each_change_is_an_event_also_one_that_is_refused() {
    let set = Set::new("told");
    let rules = set.state.path().join("rules.yaml");
    fs::write(&rules, "- {dst: api.test, proto: https}\n- {dst: ntp.test, proto: udp, port: 123}\n").unwrap();
    let rules = rules.to_str().unwrap();
    let hostile = "a\u{1b}[0m\"'\\é";
    set.run(&["bypass", "off", "7"]);
    set.run(&["load"]);
    set.enrol(&["--rules", rules, "--agent", hostile, "--project", ""]);
    set.enrol(&["--agent", "thief"]);
    set.enrol(&["--rules", "/nowhere"]);
    let id = set.status()["containers"][0]["cgroup_id"].to_string();
    set.run(&["rules", "apply", rules, "--cgroup-id", &id]);
    let began = unix_ns();
    let mut sudo = set.command(Path::new(BINARY), &["bypass", "on", &id, "--for", "600"]);
    assert!(sudo.env("SUDO_UID", "1000").status().unwrap().success());
    set.run(&["bypass", "off", &id]);
    // Nothing was on.
    assert_eq!(set.run(&["bypass", "off", &id]).1, Some(0));
    assert_eq!(set.run(&["bypass", "off", "999999999"]).1, Some(3));
    set.run(&["retire", &id]);
    set.run(&["retire", &id]);
    set.run(&["status"]);
    set.run(&["unload"]);
    let told = waiting(&set);
    let expected = [
        ("bypass_off", "refused"),
        ("loaded", "done"),
        ("enrolled", "done"),
        ("enrolled", "refused"),
        ("enrolled", "failed"),
        ("rules_applied", "done"),
        ("bypass_on", "done"),
        ("bypass_off", "done"),
        ("bypass_off", "refused"),
        ("retired", "done"),
        ("retired", "refused"),
        ("unloaded", "done"),
    ];
    assert_eq!(told.iter().map(words).collect::<Vec<_>>(), expected);
    let enrolled = &told[2];
    assert_eq!((&enrolled["agent"], &enrolled["project"]), (&json!(hostile), &json!("")));
    assert_eq!((&enrolled["container_id"], enrolled["cgroup_id"].to_string()), (&json!("c1"), id.clone()));
    assert_eq!((&enrolled["rules"], &enrolled["rules_hash"]), (&json!(2), &told[5]["rules_hash"]));
    assert!(told[3]["detail"].as_str().unwrap().contains("enrolled already"), "{}", told[3]);
    assert_eq!((&told[3]["agent"], &told[9]["agent"]), (&json!("thief"), &json!(hostile)));
    assert_eq!((&told[6]["actor"], &told[6]["actor_claimed"]), (&json!(0), &json!(1000)));
    let until = told[6]["until"].as_u64().unwrap() - 600_000_000_000;
    assert!((began..=unix_ns()).contains(&until), "{}", told[6]);
    let ids: BTreeSet<_> = told.iter().map(|event| event["event_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), told.len());
}

#[test]
fn a_container_that_can_go_around_the_hooks_is_accepted_by_an_event() {
    let set = Set::new("accepted");
    set.run(&["load"]);
    // This process is in the host's network namespace, and so is its child.
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    fs::write(set.cgroup.join("cgroup.procs"), child.id().to_string()).unwrap();
    let (refused, accepted) = (set.enrol(&[]), set.enrol(&["--accept-unobserved"]));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!((refused.1, accepted.1), (Some(3), Some(0)), "{refused:?}");
    let told = waiting(&set);
    let expected = [("enrolled", "refused"), ("unobserved_accepted", "done"), ("enrolled", "done")];
    assert_eq!(told[1..].iter().map(words).collect::<Vec<_>>(), expected);
    assert!(told[2]["detail"].as_str().unwrap().contains(&child.id().to_string()), "{}", told[2]);
    assert_eq!(told[2]["container_id"], "c1");
}

#[test]
fn what_a_killed_daemon_had_not_sent_the_next_one_sends() {
    let set = Set::new("sent");
    set.run(&["load"]);
    set.enrol(&["--agent", "scout"]);
    let id = set.status()["containers"][0]["cgroup_id"].to_string();
    // Nobody takes anything yet.
    let address = Endpoint::start(|_| None).address;
    let url = format!("http://{address}");
    let daemon = Running::start(&set, &url);
    set.run(&["bypass", "on", &id, "--for", "0.1"]);
    // The daemon sees it end, and is killed before anybody has taken any of it.
    until(|| waiting(&set).iter().any(|event| event["event"] == "bypass_ended"));
    drop(daemon);
    let expected: Vec<_> = waiting(&set);
    let expected: Vec<_> =
        expected.iter().map(|event| (words(event).0.to_owned(), event["event_id"].to_string())).collect();
    let endpoint = Endpoint::on(address, |_| None);
    let _daemon = Running::start(&set, &url);
    until(|| waiting(&set).is_empty());
    let taken = endpoint.taken.lock().unwrap().clone();
    let of = |record, key| text(record, key).unwrap_or_default();
    let events: Vec<_> = taken
        .iter()
        .filter(|record| text(record, "event").is_some())
        .map(|record| (of(record, "event"), json!(of(record, "event_id")).to_string()))
        .collect();
    assert_eq!(events, expected);
    assert_eq!(
        expected.iter().map(|(word, _)| word.as_str()).collect::<Vec<_>>(),
        ["loaded", "enrolled", "bypass_on", "bypass_ended"]
    );
    // Its own lines went there as well, by the other option.
    until(|| {
        let taken = endpoint.taken.lock().unwrap();
        taken.iter().any(|record| endpoint::body(record).starts_with("manager_running"))
    });
}
