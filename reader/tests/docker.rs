//! The binary beside a real Docker daemon: whose containers they are, under which cgroup and address.

#[path = "docker/daemon.rs"]
mod daemon;
mod support;

use std::{
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use abi::Record;
use daemon::Daemon;
use libtest_mimic::Arguments;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use reader::clock::boot_ns;
use serde_json::{Value, json};
use support::{
    attribute,
    binary::{Reader, World, get, metric, until},
    bpf::Ring,
    endpoint::Endpoint,
    enrol_as, record, trials,
};

const RING: u32 = 1 << 20;
const AGENT: [&str; 4] = ["--label", "dev.clawker.agent=scout", "--label", "dev.clawker.project=demo"];

/// One for all tests, which run one after the other.
static DAEMON: Mutex<Option<Daemon>> = Mutex::new(None);

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let mut missing = None;
    if !arguments.list {
        match Daemon::start(&["/bin/sleep"]) {
            Ok(daemon) => *DAEMON.lock().unwrap() = Some(daemon),
            Err(why) => missing = Some(why),
        }
    }
    let tests = [
        ("a_containers_labels_are_in_its_documents", a_containers_labels_are_in_its_documents as fn()),
        ("one_that_runs_already_is_known", one_that_runs_already_is_known),
        ("started_again_it_has_another_cgroup", started_again_it_has_another_cgroup),
        ("labels_are_byte_for_byte", labels_are_byte_for_byte),
        ("an_enrolment_that_is_wrong_is_counted", an_enrolment_that_is_wrong_is_counted),
        ("networks_that_are_joined_left_and_shared", networks_that_are_joined_left_and_shared),
        ("many_that_come_and_go_leave_nothing", many_that_come_and_go_leave_nothing),
        ("a_daemon_that_is_gone_is_said_and_found_again", a_daemon_that_is_gone_is_said_and_found_again),
        (
            "records_do_not_wait_for_a_daemon_that_is_not_there",
            records_do_not_wait_for_a_daemon_that_is_not_there,
        ),
    ];
    let conclusion = trials::run(&arguments, missing, tests);
    // No destructor of a static runs.
    drop(DAEMON.lock().unwrap_or_else(PoisonError::into_inner).take());
    conclusion.exit();
}

/// A reader that has listed the daemon's containers.
struct Beside {
    world: World,
    ring: Ring,
    endpoint: Endpoint,
    reader: Reader,
    address: SocketAddr,
}

fn beside(daemon: &Daemon) -> Beside {
    let world = World::new();
    let ring = world.pins.ring(abi::ABI_VERSION, RING);
    let endpoint = world.endpoint([]);
    let mut reader = world.reader(&endpoint.url(), &["--docker", daemon.socket().to_str().unwrap()]);
    let address = reader.address();
    until(address, "/healthz", |status, _| status == 200);
    Beside { world, ring, endpoint, reader, address }
}

impl Beside {
    /// Waits until the page has this container as wanted.
    fn container(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let page = until(self.address, "/containers", |_, body| {
            listed(&serde_json::from_str(body).unwrap(), id).is_some_and(&wanted)
        });
        listed(&serde_json::from_str(&page).unwrap(), id).unwrap().clone()
    }

    fn without(&self, id: &str) {
        until(self.address, "/containers", |_, body| {
            listed(&serde_json::from_str(body).unwrap(), id).is_none()
        });
    }

    /// Agent, project and attribution in the document of a flow.
    fn said(&self, flow: Record) -> [String; 3] {
        let before = self.endpoint.requests().len();
        self.ring.submit([flow]);
        let document = self.document(before);
        ["agent", "project", "attribution"].map(|name| attribute(&document, name))
    }

    fn document(&self, before: usize) -> LogRecord {
        let deadline = Instant::now() + support::binary::PATIENCE;
        loop {
            let requests = self.endpoint.requests().into_iter().skip(before);
            let mut logs = requests.flat_map(|request| request.resource_logs);
            let found = logs
                .find_map(|logs| logs.scope_logs.into_iter().find_map(|mut scope| scope.log_records.pop()));
            if let Some(found) = found {
                return found;
            }
            assert!(Instant::now() < deadline, "no document came");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn contradictions(&self, by: &str) -> u64 {
        metric(
            &get(self.address, "/metrics").1,
            &format!("clawker_reader_contradictions_total{{by=\"{by}\"}}"),
        )
    }
}

/// A container on the reader's page.
fn listed<'a>(page: &'a Value, id: &str) -> Option<&'a Value> {
    page.as_array()?.iter().find(|listed| listed["container_id"] == id)
}

/// A flow of a cgroup between two times since boot.
fn flow(cgroup_id: u64, start_ns: u64, end_ns: u64) -> Record {
    let mut record = record(443);
    record.flow.cgroup_id = cgroup_id;
    record.flow.start_ns = start_ns;
    record.end_ns = end_ns;
    record
}

fn now() -> u64 {
    boot_ns().unwrap()
}

fn words(words: [&str; 3]) -> [String; 3] {
    words.map(str::to_owned)
}

fn daemon() -> MutexGuard<'static, Option<Daemon>> {
    DAEMON.lock().unwrap_or_else(PoisonError::into_inner)
}

fn a_containers_labels_are_in_its_documents() {
    let daemon = daemon();
    let daemon = daemon.as_ref().unwrap();
    let beside = beside(daemon);
    let id = daemon.sleeper(&AGENT);
    let shown = beside.container(&id, |_| true);
    let cgroup_id = daemon.cgroup_id(&id);
    assert_eq!(
        shown,
        json!({"container_id": id, "agent": "scout", "project": "demo", "cgroup_id": cgroup_id, "addresses": []})
    );
    let began = now();
    assert_eq!(beside.said(flow(cgroup_id, began, now())), words(["scout", "demo", "known"]));
    daemon.docker(&["kill", &id]);
    beside.without(&id);
    let ended = now();
    assert_eq!(beside.said(flow(cgroup_id, began, ended)), words(["scout", "demo", "late"]));
    assert_eq!(beside.said(flow(cgroup_id, ended, now())), words(["", "", "gone"]));
    daemon.docker(&["rm", &id]);
    beside.reader.stop();
}

fn one_that_runs_already_is_known() {
    let daemon = daemon();
    let daemon = daemon.as_ref().unwrap();
    let id = daemon.sleeper(&AGENT);
    let other = daemon.sleeper(&[]);
    let cgroup_id = daemon.cgroup_id(&id);
    // Drained before anything is known of its container.
    let world = World::new();
    let ring = world.pins.ring(abi::ABI_VERSION, RING);
    ring.submit([flow(cgroup_id, now(), now()), flow(daemon.cgroup_id(&other), now(), now())]);
    let endpoint = world.endpoint([]);
    let reader = world.reader(&endpoint.url(), &["--docker", daemon.socket().to_str().unwrap()]);
    let documents = world.runtime.block_on(endpoint.accepted(2));
    let mut agents: Vec<_> = documents.iter().map(|document| attribute(document, "agent")).collect();
    agents.sort();
    assert_eq!(agents, ["", "scout"], "one is no agent");
    reader.stop();
    daemon.docker(&["rm", "--force", &id, &other]);
}

fn started_again_it_has_another_cgroup() {
    let daemon = daemon();
    let daemon = daemon.as_ref().unwrap();
    let beside = beside(daemon);
    let id = daemon.sleeper(&AGENT);
    let first = daemon.cgroup_id(&id);
    beside.container(&id, |listed| listed["cgroup_id"] == first);
    let began = now();
    daemon.docker(&["restart", "--time", "0", &id]);
    let second = daemon.cgroup_id(&id);
    assert_ne!(first, second);
    beside.container(&id, |listed| listed["cgroup_id"] == second);
    assert_eq!(beside.said(flow(second, now(), now())), words(["scout", "demo", "known"]));
    assert_eq!(beside.said(flow(first, began, now())), words(["scout", "demo", "late"]));
    assert_eq!(beside.said(flow(first, now(), now())), words(["", "", "gone"]));
    daemon.docker(&["rm", "--force", &id]);
    beside.reader.stop();
}

fn labels_are_byte_for_byte() {
    let daemon = daemon();
    let daemon = daemon.as_ref().unwrap();
    let beside = beside(daemon);
    for agent in ["a \"quoted\" one", "two\nlines\u{1}", "ünï\u{202e}code", " ", "", "{{.}}$(id)`id`"] {
        let label = format!("dev.clawker.agent={agent}");
        let id = daemon.sleeper(&["--label", &label]);
        beside.container(&id, |listed| listed["agent"] == agent);
        let flow = flow(daemon.cgroup_id(&id), now(), now());
        assert_eq!(beside.said(flow), words([agent, "", "known"]));
        daemon.docker(&["rm", "--force", &id]);
    }
    let label = format!("dev.clawker.agent={}", "x".repeat(4097));
    let id = daemon.sleeper(&["--label", &label]);
    beside.container(&id, |listed| listed.get("agent").is_none());
    assert_eq!(beside.said(flow(daemon.cgroup_id(&id), now(), now())), words(["", "", "unknown"]));
    let page = get(beside.address, "/metrics").1;
    assert!(metric(&page, "clawker_reader_containers_unreadable_total") >= 1);
    daemon.docker(&["rm", "--force", &id]);
    beside.reader.stop();
}

fn an_enrolment_that_is_wrong_is_counted() {
    let daemon = daemon();
    let daemon = daemon.as_ref().unwrap();
    let beside = beside(daemon);
    let id = daemon.sleeper(&AGENT);
    let cgroup_id = daemon.cgroup_id(&id);
    beside.container(&id, |_| true);
    // Of another container than the one that runs there.
    enrol_as(beside.world.state.path(), cgroup_id, "second", "demo");
    assert_eq!(beside.said(flow(cgroup_id, now(), now())), words(["", "", "unknown"]));
    assert_eq!(["container", "labels", "address"].map(|by| beside.contradictions(by)), [1, 0, 0]);
    daemon.docker(&["rm", "--force", &id]);
    beside.reader.stop();
}

fn networks_that_are_joined_left_and_shared() {
    let daemon = daemon();
    let daemon = daemon.as_ref().unwrap();
    daemon.docker(&[
        "network",
        "create",
        "--ipv6",
        "--subnet",
        "198.18.7.0/24",
        "--subnet",
        "2001:db8:7::/64",
        "seven",
    ]);
    daemon.docker(&["network", "create", "--subnet", "198.18.8.0/24", "eight"]);
    let beside = beside(daemon);
    let id = daemon.sleeper(&[&AGENT[..], &["--network", "seven", "--ip", "198.18.7.7"]].concat());
    let addresses = |listed: &Value| -> Vec<String> {
        let mut all: Vec<String> = listed["addresses"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one.as_str().unwrap().to_owned())
            .collect();
        all.sort();
        all
    };
    beside.container(&id, |listed| addresses(listed) == ["198.18.7.7", "2001:db8:7::2"]);
    let guest = daemon.sleeper(&["--network", &format!("container:{id}")]);
    beside.container(&guest, |listed| listed["shared_with"] == json!([id]));
    beside.container(&id, |listed| listed["shared_with"] == json!([guest]));
    daemon.docker(&["network", "connect", "--ip", "198.18.8.8", "eight", &id]);
    for both in [&id, &guest] {
        beside.container(both, |listed| addresses(listed).contains(&"198.18.8.8".to_owned()));
    }
    daemon.docker(&["network", "disconnect", "seven", &id]);
    for both in [&id, &guest] {
        beside.container(both, |listed| addresses(listed) == ["198.18.8.8"]);
    }
    // A flow from the address of another one: its cgroup says whose it is, and the address is told.
    let other = daemon.sleeper(&["--network", "seven", "--ip", "198.18.7.9"]);
    beside.container(&other, |listed| addresses(listed).contains(&"198.18.7.9".to_owned()));
    let mut borrowed = flow(daemon.cgroup_id(&id), now(), now());
    borrowed.flow.src = "::ffff:198.18.7.9".parse::<std::net::Ipv6Addr>().unwrap().octets();
    assert_eq!(beside.said(borrowed), words(["scout", "demo", "known"]));
    assert_eq!(beside.contradictions("address"), 1);
    daemon.docker(&["rm", "--force", &guest, &id, &other]);
    daemon.docker(&["network", "rm", "seven", "eight"]);
    beside.reader.stop();
}

fn many_that_come_and_go_leave_nothing() {
    let daemon = daemon();
    let daemon = daemon.as_ref().unwrap();
    let beside = beside(daemon);
    for round in 0..10 {
        let label = format!("dev.clawker.agent=agent {round}");
        let id = daemon.sleeper(&["--label", &label]);
        let cgroup_id = daemon.cgroup_id(&id);
        beside.container(&id, |listed| listed["cgroup_id"] == cgroup_id);
        let began = now();
        daemon.docker(&["rm", "--force", &id]);
        let [agent, _, attribution] = beside.said(flow(cgroup_id, began, now()));
        assert_eq!(agent, format!("agent {round}"));
        assert!(
            ["known", "late"].contains(&attribution.as_str()),
            "its end is heard of when it is: {attribution}"
        );
    }
    // Too short to be seen while it runs.
    let id = daemon.docker(&["run", "--rm", "--detach", daemon::IMAGE, "/bin/sleep", "0"]);
    beside.without(&id);
    assert_eq!(get(beside.address, "/healthz").0, 200);
    beside.reader.stop();
}

fn a_daemon_that_is_gone_is_said_and_found_again() {
    let mut daemon = daemon();
    let daemon = daemon.as_mut().unwrap();
    let beside = beside(daemon);
    let stays = daemon.sleeper(&AGENT);
    let ends = daemon.sleeper(&["--label", "dev.clawker.agent=ends"]);
    let [stays_in, ends_in] = [&stays, &ends].map(|id| daemon.cgroup_id(id));
    beside.container(&stays, |_| true);
    beside.container(&ends, |_| true);
    let pid = daemon.pid(&ends);
    daemon.kill();
    let down = until(beside.address, "/healthz", |status, _| status == 503);
    assert!(down.contains("\"docker\":") && down.contains("docker.sock"), "{down}");
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    assert_eq!(
        beside.said(flow(stays_in, now(), now())),
        words(["scout", "demo", "known"]),
        "what is known stays"
    );
    daemon.start_again();
    until(beside.address, "/healthz", |status, _| status == 200);
    beside.without(&ends);
    assert_eq!(beside.said(flow(ends_in, now(), now())), words(["", "", "gone"]));
    beside.container(&stays, |listed| listed["cgroup_id"] == stays_in);
    daemon.docker(&["rm", "--force", &stays, &ends]);
    beside.without(&stays);
    beside.reader.stop();
}

fn records_do_not_wait_for_a_daemon_that_is_not_there() {
    let world = World::new();
    let ring = world.pins.ring(abi::ABI_VERSION, RING);
    let endpoint = world.endpoint([]);
    enrol_as(world.state.path(), 4242, "scout", "demo");
    let nowhere = world.state.path().join("docker.sock");
    let mut reader = world.reader(&endpoint.url(), &["--docker", nowhere.to_str().unwrap()]);
    let address = reader.address();
    ring.submit([record(443)]);
    let documents = world.runtime.block_on(endpoint.accepted(1));
    assert_eq!(attribute(&documents[0], "agent"), "scout");
    let body = until(address, "/healthz", |status, body| status == 503 && body.contains("docker"));
    assert!(body.contains(nowhere.to_str().unwrap()), "{body}");
    assert_eq!(get(address, "/containers").1, "[]");
    reader.stop();
}
