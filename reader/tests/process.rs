//! The binary on a real ring: what an operator starts, signals and looks at.

mod support;

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener as StdListener,
    os::unix::fs::PermissionsExt as _,
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use abi::Record;
use libtest_mimic::Arguments;
use nix::sys::signal::Signal;
use support::{
    attribute,
    binary::{World, get, metric, until},
    endpoint::{Answer, Endpoint},
    enrol, record, trials,
};

const RING: u32 = 1 << 20;

fn main() {
    let tests = [
        ("a_record_of_a_real_ring_becomes_a_document", a_record_of_a_real_ring_becomes_a_document as fn()),
        ("what_is_no_record_is_a_counted_loss", what_is_no_record_is_a_counted_loss),
        ("a_full_queue_is_a_counted_loss", a_full_queue_is_a_counted_loss),
        ("a_pinned_ring_is_read_on_after_a_restart", a_pinned_ring_is_read_on_after_a_restart),
        ("a_stop_takes_the_last_records_along", a_stop_takes_the_last_records_along),
        ("a_stop_leaves_the_rest_to_the_next_reader", a_stop_leaves_the_rest_to_the_next_reader),
        ("killed_under_load_it_loses_nothing", killed_under_load_it_loses_nothing),
        ("losses_are_told", losses_are_told),
        ("an_endpoint_that_is_down_is_told", an_endpoint_that_is_down_is_told),
        ("a_ring_that_comes_late_or_is_replaced_is_found", a_ring_that_comes_late_or_is_replaced_is_found),
        ("another_abi_is_refused", another_abi_is_refused),
        ("a_second_reader_is_refused", a_second_reader_is_refused),
        (
            "a_ring_has_one_reader_whatever_its_state_directory",
            a_ring_has_one_reader_whatever_its_state_directory,
        ),
        ("a_stranger_cannot_hold_a_reader_s_locks", a_stranger_cannot_hold_a_reader_s_locks),
        ("the_swallowing_fault_is_announced_and_uncounted", the_swallowing_fault_is_announced_and_uncounted),
    ];
    trials::run(&Arguments::from_args(), None, tests).exit();
}

/// With a container enrolled.
fn world() -> World {
    let world = World::new();
    enrol(world.state.path());
    world
}

fn a_record_of_a_real_ring_becomes_a_document() {
    let world = world();
    let ring = world.pins.ring(abi::ABI_VERSION, RING);
    world.pins.name(5, "api.test");
    let endpoint = world.endpoint([]);
    let mut reader = world.reader(&endpoint.url(), &[]);
    let address = reader.address();
    until(address, "/healthz", |status, _| status == 200);

    ring.submit([record(443)]);
    let documents = world.runtime.block_on(endpoint.accepted(1));
    let said = ["agent", "project", "attribution", "dst_host", "dst_ip", "dst_port", "comm"]
        .map(|name| attribute(&documents[0], name));
    assert_eq!(said, ["scout", "demo", "known", "api.test", "198.51.100.7", "443", "curl"]);

    let page = until(address, "/metrics", |_, page| metric(page, "clawker_reader_queue_depth") == 0);
    assert_eq!(metric(&page, "clawker_reader_records_drained_total"), 1);
    assert_eq!(metric(&page, "clawker_reader_records_exported_total"), 1);
    assert_eq!(get(address, "/other").0, 404);
    reader.stop();
}

fn what_is_no_record_is_a_counted_loss() {
    let world = world();
    let ring = world.pins.ring(abi::ABI_VERSION, RING);
    let endpoint = world.endpoint([]);
    let mut bad = record(2);
    bad.flow.verdict = 77;
    ring.submit_bytes(b"short");
    ring.submit([record(1), bad, record(3)]);
    let mut reader = world.reader(&endpoint.url(), &[]);
    let address = reader.address();
    assert_eq!(world.accepted(&endpoint, 2), [1, 3]);
    let page =
        until(address, "/metrics", |_, page| metric(page, "clawker_reader_records_exported_total") == 2);
    assert_eq!(metric(&page, "clawker_reader_records_drained_total"), 4);
    assert_eq!(metric(&page, "clawker_reader_losses_total{point=\"decode\"}"), 2);
    reader.stop();
}

fn a_full_queue_is_a_counted_loss() {
    let world = world();
    let ring = world.pins.ring(abi::ABI_VERSION, RING);
    let endpoint = world.endpoint([Answer::Hang]);
    ring.submit((0..10).map(record));
    let mut reader = world.reader(&endpoint.url(), &["--queue", "4", "--batch", "2"]);
    let address = reader.address();
    let page =
        until(address, "/metrics", |_, page| metric(page, "clawker_reader_records_drained_total") == 10);
    assert_eq!(metric(&page, "clawker_reader_losses_total{point=\"spool_full\"}"), 6);
    assert_eq!(metric(&page, "clawker_reader_queue_depth"), 4);
}

fn a_pinned_ring_is_read_on_after_a_restart() {
    let world = world();
    let ring = world.pins.ring(abi::ABI_VERSION, RING);
    let endpoint = world.endpoint([]);
    let expected: Vec<u16> = (0..3000).collect();
    for round in 0..3_u16 {
        let first = round * 1000;
        ring.submit((first..first + 400).map(record));
        let reader = world.reader(&endpoint.url(), &[]);
        world.accepted(&endpoint, usize::from(first) + 400);
        ring.submit((first + 400..first + 1000).map(record));
        let arrived = world.accepted(&endpoint, usize::from(first) + 1000);
        assert_eq!(arrived, expected[..usize::from(first) + 1000]);
        reader.stop();
    }
}

fn a_stop_takes_the_last_records_along() {
    let world = world();
    let ring = world.pins.ring(abi::ABI_VERSION, RING);
    let endpoint = world.endpoint([]);
    let mut reader = world.reader(&endpoint.url(), &[]);
    let address = reader.address();
    until(address, "/healthz", |status, _| status == 200);
    ring.submit((0..2000).map(record));
    reader.signal(Signal::SIGTERM);
    assert!(reader.exit().success());
    assert_eq!(reader.event("stopped")["left"], 0);
    assert_eq!(world.accepted(&endpoint, 2000), (0..2000).collect::<Vec<_>>());
}

fn a_stop_leaves_the_rest_to_the_next_reader() {
    let world = world();
    let ring = world.pins.ring(abi::ABI_VERSION, RING);
    let endpoint = world.endpoint([Answer::Hang]);
    ring.submit((0..7).map(record));
    let mut reader = world.reader(&endpoint.url(), &["--batch", "3"]);
    let address = reader.address();
    until(address, "/metrics", |_, page| metric(page, "clawker_reader_queue_depth") == 7);
    let start = Instant::now();
    reader.signal(Signal::SIGINT);
    assert!(reader.exit().success());
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(9) && took < Duration::from_secs(14), "{took:?}");
    assert_eq!(reader.event("records_left")["left"], 7);
    let endpoint = world.endpoint([]);
    let mut reader = world.reader(&endpoint.url(), &[]);
    let address = reader.address();
    assert_eq!(world.accepted(&endpoint, 7), (0..7).collect::<Vec<_>>());
    let page = until(address, "/metrics", |_, page| metric(page, "clawker_reader_queue_depth") == 0);
    assert_eq!(metric(&page, "clawker_reader_records_drained_total"), 7, "counted once, by the first");
    assert_eq!(metric(&page, "clawker_reader_records_exported_total"), 7);
}

/// How often the reader is killed; more in the nightly run.
fn kills() -> u32 {
    std::env::var("CLAWKER_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(15)
}

fn killed_under_load_it_loses_nothing() {
    let world = world();
    let ring = world.pins.ring(abi::ABI_VERSION, RING);
    let endpoint = world.endpoint([]);
    let submitted = AtomicU32::new(0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                let first = submitted.load(Relaxed);
                let mut records = (first..first + 50).map(numbered);
                // The ring is full while no reader runs; then it is for the reader to come.
                let taken = ring.try_submit(&mut records);
                submitted.fetch_add(taken, Relaxed);
                // About what the reader can export here: the spool is neither empty nor endless.
                thread::sleep(Duration::from_millis(5));
            }
        });
        let mut random = fastrand::Rng::new();
        for _ in 0..kills() {
            let mut reader = world.reader(&endpoint.url(), &["--batch", "64"]);
            thread::sleep(Duration::from_millis(random.u64(5..250)));
            reader.signal(Signal::SIGKILL);
            reader.exit();
        }
        done.store(true, Relaxed);
    });
    let submitted = submitted.load(Relaxed);
    let mut reader = world.reader(&endpoint.url(), &[]);
    let address = reader.address();
    let total = u64::from(submitted);
    let page =
        until(address, "/metrics", |_, page| metric(page, "clawker_reader_records_exported_total") >= total);
    let count = |name: &str| metric(&page, &format!("clawker_reader_{name}"));
    assert_eq!([count("records_drained_total"), count("records_exported_total")], [total, total]);
    assert_eq!(count("queue_depth"), 0);
    for point in ["decode", "spool_full", "spool_damaged", "backend_rejected", "reboot"] {
        assert_eq!(count(&format!("losses_total{{point=\"{point}\"}}")), 0, "{point}");
    }
    let documents = world.runtime.block_on(endpoint.accepted(0));
    let events: BTreeMap<String, String> = documents
        .iter()
        .map(|document| (attribute(document, "event_id"), attribute(document, "bytes_in")))
        .collect();
    let mut numbers: Vec<u32> = events.values().map(|number| number.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..submitted), "{} events of {submitted} records", numbers.len());
    assert!(submitted > 50 * kills(), "only {submitted} records in {} lives prove too little", kills());
    reader.stop();
}

/// A record that carries a number.
fn numbered(number: u32) -> Record {
    let mut record = record(443);
    record.flow.bytes_in = number.into();
    record
}

fn losses_are_told() {
    let world = world();
    let ring = world.pins.ring(abi::ABI_VERSION, RING);
    ring.submit((0..10).map(record));
    ring.submit_bytes(b"short");
    let nobody = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut reader = world.reader(&format!("http://{nobody}"), &["--queue", "4"]);
    let address = reader.address();
    let lost = "clawker_reader_losses_total{point=\"spool_full\"}";
    until(address, "/metrics", |_, page| metric(page, lost) == 6);
    reader.signal(Signal::SIGKILL);
    reader.exit();
    let endpoint = world.endpoint([]);
    let mut reader = world.reader(&endpoint.url(), &["--queue", "4"]);
    let address = reader.address();
    let documents = world.runtime.block_on(endpoint.accepted(6));
    let said = |document, names: [&str; 4]| names.map(|name| attribute(document, name));
    let mut losses: Vec<_> = documents
        .iter()
        .filter(|document| attribute(document, "record_type") == "loss")
        .map(|document| said(document, ["loss_point", "event_count", "agent", "cgroup_id"]))
        .collect();
    losses.sort();
    assert_eq!(losses, [["decode", "1", "", "0"], ["spool_full", "6", "scout", "4242"]]);
    until(address, "/metrics", |_, page| metric(page, "clawker_reader_queue_depth") == 0);
    reader.stop();
}

fn an_endpoint_that_is_down_is_told() {
    let world = world();
    let ring = world.pins.ring(abi::ABI_VERSION, RING);
    let address = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (events, logs) = (world.endpoint([]), world.endpoint([]));
    let more = ["--events-endpoint", &events.url(), "--logs-endpoint", &logs.url()];
    let mut reader = world.reader(&format!("http://{address}"), &more);
    let page = reader.address();
    let cause = reader.event("egress_reader_unavailable");
    assert_eq!(cause["component"], "export");
    assert!(cause["cause"].as_str().unwrap().contains("refused"), "{cause}");
    let body = until(page, "/healthz", |status, body| status == 503 && !body.contains("starting"));
    assert!(body.contains("\"export\"") && body.contains("refused"), "{body}");
    ring.submit([record(1)]);
    until(page, "/metrics", |_, page| metric(page, "clawker_reader_queue_depth") == 1);

    let endpoint = world
        .runtime
        .block_on(async { Endpoint::on(tokio::net::TcpListener::bind(address).await.unwrap(), [], None) });
    assert_eq!(world.accepted(&endpoint, 1), [1]);
    until(page, "/healthz", |status, _| status == 200);
    let told = world.runtime.block_on(events.accepted(2));
    let told: Vec<_> =
        told.iter().map(|event| (attribute(event, "event"), attribute(event, "detail"))).collect();
    let told: Vec<_> = told.iter().map(|(event, detail)| (event.as_str(), detail.as_str())).collect();
    // What the endpoint, or the network, said stays here.
    assert_eq!(told, [("degraded", "export: Unavailable"), ("recovered", "export")]);
    let lines = world.runtime.block_on(logs.accepted(4));
    let said: Vec<_> = lines.iter().map(|line| format!("{:?}", line.body)).collect();
    let of = |event: &str| said.iter().find(|line| line.contains(event)).unwrap();
    assert!(of("listening").contains("address=127.0.0.1:"), "{said:?}");
    let unavailable = of("egress_reader_unavailable");
    assert!(unavailable.contains("component=export") && !unavailable.contains("refused"), "{unavailable}");
    assert_eq!(attribute(&lines[0], "node"), "node");
    reader.stop();
}

fn a_ring_that_comes_late_or_is_replaced_is_found() {
    let world = world();
    let endpoint = world.endpoint([]);
    let mut reader = world.reader(&endpoint.url(), &[]);
    let page = reader.address();
    let body = until(page, "/healthz", |status, body| status == 503 && body.contains("ebpf-manager"));
    assert!(body.contains("\"drain\""), "{body}");

    let first = world.pins.ring(abi::ABI_VERSION, RING);
    first.submit([record(1)]);
    assert_eq!(world.accepted(&endpoint, 1), [1]);
    until(page, "/healthz", |status, _| status == 200);

    world.pins.clear();
    let second = world.pins.ring(abi::ABI_VERSION, RING);
    first.submit([record(2)]);
    second.submit([record(3)]);
    assert_eq!(world.accepted(&endpoint, 3), [1, 2, 3]);
    reader.stop();
}

fn another_abi_is_refused() {
    let world = world();
    let ring = world.pins.ring(abi::ABI_VERSION + 1, RING);
    ring.submit([record(1)]);
    let endpoint = world.endpoint([]);
    let mut reader = world.reader(&endpoint.url(), &[]);
    assert!(!reader.exit().success());
    let cause = reader.event("egress_reader_unavailable");
    assert_eq!(cause["component"], "drain");
    let cause = cause["cause"].as_str().unwrap();
    let (found, known) = (abi::ABI_VERSION + 1, abi::ABI_VERSION);
    assert!(cause.contains(&format!("says ABI version {found}, this reader knows {known} only")), "{cause}");
    assert!(endpoint.requests().is_empty());
}

fn a_second_reader_is_refused() {
    let world = world();
    let ring = world.pins.ring(abi::ABI_VERSION, RING);
    let endpoint = world.endpoint([]);
    let mut first = world.reader(&endpoint.url(), &[]);
    first.address();
    let mut second = world.reader(&endpoint.url(), &[]);
    assert!(!second.exit().success());
    let cause = second.event("egress_reader_unavailable");
    assert!(cause["cause"].as_str().unwrap().contains("another reader holds"), "{cause}");
    ring.submit([record(1)]);
    assert_eq!(world.accepted(&endpoint, 1), [1]);
    first.stop();
}

fn a_ring_has_one_reader_whatever_its_state_directory() {
    let world = world();
    let ring = world.pins.ring(abi::ABI_VERSION, RING);
    let endpoint = world.endpoint([]);
    let mut first = world.reader(&endpoint.url(), &[]);
    until(first.address(), "/healthz", |status, _| status == 200);
    let elsewhere = tempfile::tempdir().unwrap();
    let mut second = world.reader_of(elsewhere.path(), &endpoint.url(), &[]);
    assert!(!second.exit().success());
    let cause = second.event("egress_reader_unavailable");
    assert!(cause["cause"].as_str().unwrap().contains("two consumers corrupt a ring"), "{cause}");
    ring.submit((0..100).map(record));
    assert_eq!(world.accepted(&endpoint, 100), (0..100).collect::<Vec<_>>());
    first.stop();
}

/// Who may open a file may lock it.
fn a_stranger_cannot_hold_a_reader_s_locks() {
    let world = world();
    let _ring = world.pins.ring(abi::ABI_VERSION, RING);
    let endpoint = world.endpoint([]);
    let mut reader = world.reader(&endpoint.url(), &[]);
    reader.address();
    for folder in [world.state.path().to_owned(), world.state.path().join("spool")] {
        let mode = fs::metadata(folder.join("reader.lock")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", folder.display());
    }
    reader.stop();
}

fn the_swallowing_fault_is_announced_and_uncounted() {
    let world = world();
    let ring = world.pins.ring(abi::ABI_VERSION, RING);
    let endpoint = world.endpoint([]);
    let mut reader = world.reader(&endpoint.url(), &["--fault", "record_swallowed"]);
    assert_eq!(reader.event("fault_injected")["fault"], "record_swallowed");
    let page = reader.address();
    ring.submit((0..6).map(record));
    assert_eq!(world.accepted(&endpoint, 3), [0, 2, 4]);
    let text = until(page, "/metrics", |_, page| metric(page, "clawker_reader_records_exported_total") == 3);
    assert_eq!(metric(&text, "clawker_reader_records_drained_total"), 3);
    reader.stop();
}
