//! Events and lines through a real connection: each is sent once it can be, and no sooner forgotten.
#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

#[path = "support/endpoint.rs"]
mod endpoint;

use std::{
    collections::VecDeque,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use emitter::{Event, Events, Options, Owner, Telemetry, What};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use tonic::Status;
use tracing_subscriber::layer::SubscriberExt as _;

use endpoint::{Endpoint, LONG, body, text, until};

fn events(state: &Path) -> Events {
    Events::of(state, "manager", Some("node"))
}

fn left(state: &Path) -> Vec<String> {
    let names = std::fs::read_dir(state.join("events/manager")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "lock").collect()
}

fn shipping(state: &Path, url: String) -> emitter::Running {
    let options = Options { events_endpoint: Some(url), ..Options::default() };
    Telemetry::new(&options, events(state)).start().unwrap()
}

fn event(what: What, agent: &str) -> Event {
    Event::new(what).of(Owner { agent: Some(agent.to_owned()), ..Owner::default() })
}

#[test]
fn an_event_waits_for_the_endpoint_is_sent_whole_and_forgotten() {
    let state = tempfile::tempdir().unwrap();
    let hostile = "a\u{1b}[31m\"'\\\u{0}é";
    events(state.path()).record(event(What::BypassOn, hostile).until(1_700_000_000_000_000_000).by_caller());
    // Whoever listens there first takes nothing.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    let running = shipping(state.path(), format!("http://{address}"));
    for _ in 0..2 {
        // The second attempt is after the first one's end.
        drop(nobody.accept().unwrap());
    }
    drop(nobody);
    assert_eq!(left(state.path()).len(), 1, "it waits");
    let endpoint = Endpoint::on(address, |_| None);
    let record = endpoint.taken(1).remove(0);
    until(|| left(state.path()).is_empty());
    running.stop();
    assert_eq!(text(&record, "agent").as_deref(), Some(hostile));
    assert_eq!(text(&record, "until").as_deref(), Some("2023-11-14T22:13:20Z"));
    assert_eq!(text(&record, "actor").unwrap(), nix::unistd::getuid().to_string());
    assert!(text(&record, "event_id").unwrap().starts_with("node/manager/"));
    assert_eq!((body(&record).as_str(), record.severity_text.as_str()), ("bypass_on", "WARN"));
}

#[test]
fn what_is_refused_is_kept_and_what_is_lost_on_the_way_is_sent_again() {
    let state = tempfile::tempdir().unwrap();
    let mut answers: VecDeque<_> = [
        Err(Status::internal("Permanent error: no store")),
        Err(Status::unavailable("not now")),
        Err(Status::internal("Permanent error: no store")),
    ]
    .into();
    let endpoint = Endpoint::start(move |_| answers.pop_front());
    events(state.path()).record(event(What::Retired, "one"));
    let running = shipping(state.path(), endpoint.url());
    assert_eq!(endpoint.taken(1).len(), 1);
    until(|| left(state.path()).is_empty());
    running.stop();
}

#[test]
fn one_that_cannot_be_taken_does_not_hold_up_others_and_is_told() {
    let state = tempfile::tempdir().unwrap();
    let is_poison = |record: &LogRecord| text(record, "agent").as_deref() == Some("poison");
    let endpoint = Endpoint::start(move |records| {
        records.iter().any(is_poison).then(|| Err(Status::internal("mapper_parsing_exception")))
    });
    let running = shipping(state.path(), endpoint.url());
    events(state.path()).record(event(What::Enrolled, "poison"));
    // Others come, one after the other, so that it is seen to be refused while they are taken.
    let mut sent = 0;
    until(|| left(state.path()).iter().any(|name| name.ends_with(".json")));
    let deadline = Instant::now() + LONG;
    while !left(state.path()).iter().any(|name| name.ends_with(".bad")) {
        assert!(Instant::now() < deadline, "{:?}", left(state.path()));
        sent += 1;
        events(state.path()).record(event(What::Enrolled, "fine"));
        endpoint.taken(sent);
    }
    let told = || {
        endpoint.taken.lock().unwrap().iter().any(|one| text(one, "event").as_deref() == Some("events_lost"))
    };
    until(told);
    until(|| left(state.path()).iter().all(|name| name.ends_with(".bad")));
    running.stop();
}

#[test]
fn what_an_answer_rejects_is_set_aside_and_told() {
    let state = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start(|records| {
        let bad = records.iter().filter(|record| text(record, "agent").as_deref() == Some("bad")).count();
        (bad > 0).then(|| Ok(i64::try_from(bad).unwrap()))
    });
    for agent in ["one", "bad", "two"] {
        events(state.path()).record(event(What::Enrolled, agent));
    }
    let running = shipping(state.path(), endpoint.url());
    let mut taken: Vec<_> = endpoint.taken(3).iter().map(body).collect();
    taken.sort();
    assert_eq!(taken, ["enrolled", "enrolled", "events_lost 1: rejected"]);
    running.stop();
}

#[test]
fn lines_are_sent_before_the_process_ends_and_never_waited_for() {
    let state = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start(|_| None);
    let options = Options { logs_endpoint: Some(endpoint.url()), ..Options::default() };
    let telemetry = Telemetry::new(&options, events(state.path()));
    let subscriber = tracing_subscriber::registry().with(telemetry.logs());
    let running = telemetry.start().unwrap();
    tracing::subscriber::with_default(subscriber, || {
        tracing::warn!(target: "manager::bypass", event = "bypass_on", cgroup_id = 7_u64);
        tracing::info!(target: "manager::daemon", event = "manager_stopping");
    });
    running.stop();
    let lines = endpoint.taken(2);
    assert_eq!(lines.iter().map(body).collect::<Vec<_>>(), ["bypass_on cgroup_id=7", "manager_stopping"]);
    assert_eq!(text(&lines[0], "level").as_deref(), Some("WARN"));
    let ids: std::collections::HashSet<_> = lines.iter().map(|line| text(line, "event_id")).collect();
    assert_eq!(ids.len(), 2);
}

#[test]
fn a_line_that_cannot_be_taken_does_not_hold_up_others_and_is_counted() {
    let state = tempfile::tempdir().unwrap();
    let refusals = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&refusals);
    let endpoint = Endpoint::start(move |records| {
        let is_refused = records.iter().any(|record| body(record) == "poison");
        counted.fetch_add(usize::from(is_refused), Relaxed);
        is_refused.then(|| Err(Status::internal("mapper_parsing_exception")))
    });
    let options = Options { logs_endpoint: Some(endpoint.url()), ..Options::default() };
    let telemetry = Telemetry::new(&options, events(state.path()));
    let subscriber = tracing_subscriber::registry().with(telemetry.logs());
    let running = telemetry.start().unwrap();
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!(target: "manager", event = "poison");
        // Alone, it may be the endpoint that is out of order: it is sent again.
        until(|| refusals.load(Relaxed) >= 2);
        tracing::info!(target: "manager", event = "fine");
        endpoint.taken(1);
        until(|| {
            tracing::info!(target: "manager", event = "fine");
            endpoint.taken.lock().unwrap().iter().any(|one| body(one) == "log_lines_dropped count=1")
        });
    });
    let before = refusals.load(Relaxed);
    running.stop();
    assert_eq!(refusals.load(Relaxed), before, "it is not sent any more");
}

#[test]
fn an_end_is_not_held_up_by_an_endpoint_that_says_nothing() {
    let state = tempfile::tempdir().unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    events(state.path()).record(event(What::Enrolled, "one"));
    let running = shipping(state.path(), format!("http://{}", silent.local_addr().unwrap()));
    let began = Instant::now();
    running.stop();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(left(state.path()).len(), 1);
}

#[test]
fn what_does_not_fit_is_said_with_its_option() {
    let state = tempfile::tempdir().unwrap();
    let refused = |url: &str, folder: Option<&str>| {
        let options = Options {
            events_endpoint: Some(url.to_owned()),
            lane_certificates: folder.map(Into::into),
            ..Options::default()
        };
        Telemetry::new(&options, events(state.path())).start().unwrap_err().to_string()
    };
    assert!(refused("https://localhost:1", None).contains("--lane-certificates"));
    assert!(refused("localhost:1", None).contains("--events-endpoint localhost:1"));
    assert!(refused("https://localhost:1", Some("/nowhere")).contains("/nowhere/collector-ca.crt"));
}
