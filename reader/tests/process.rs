//! The binary on a real ring: what an operator starts, signals and looks at.

mod support;

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener as StdListener, TcpStream},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant},
};

use abi::Record;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use serde_json::Value;
use support::{
    attribute,
    bpf::Pins,
    endpoint::{Answer, Endpoint},
    enrol, ports, record,
};
use tokio::runtime::Runtime;

const RING: u32 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

fn main() {
    let trials = [
        ("a_record_of_a_real_ring_becomes_a_document", a_record_of_a_real_ring_becomes_a_document as fn()),
        ("what_is_no_record_is_a_counted_loss", what_is_no_record_is_a_counted_loss),
        ("a_full_queue_is_a_counted_loss", a_full_queue_is_a_counted_loss),
        ("a_pinned_ring_is_read_on_after_a_restart", a_pinned_ring_is_read_on_after_a_restart),
        ("a_stop_takes_the_last_records_along", a_stop_takes_the_last_records_along),
        ("a_stop_leaves_the_rest_to_the_next_reader", a_stop_leaves_the_rest_to_the_next_reader),
        ("killed_under_load_it_loses_nothing", killed_under_load_it_loses_nothing),
        ("losses_are_told", losses_are_told),
        ("an_endpoint_that_is_down_shows_on_healthz", an_endpoint_that_is_down_shows_on_healthz),
        ("a_ring_that_comes_late_or_is_replaced_is_found", a_ring_that_comes_late_or_is_replaced_is_found),
        ("another_abi_is_refused", another_abi_is_refused),
        ("a_second_reader_is_refused", a_second_reader_is_refused),
        ("the_swallowing_fault_is_announced_and_uncounted", the_swallowing_fault_is_announced_and_uncounted),
    ]
    .map(|(name, test)| {
        Trial::ignorable_test(name, move || {
            if !geteuid().is_root() {
                return Ok(Completion::ignored_with("needs root: it makes a BPF ring"));
            }
            std::panic::catch_unwind(test).map_err(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                Failed::from(
                    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                        .unwrap_or_default(),
                )
            })?;
            Ok(Completion::Completed)
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit();
}

/// A place for a reader: pins, state directory, and a runtime for the endpoint.
struct World {
    pins: Pins,
    state: tempfile::TempDir,
    runtime: Runtime,
}

fn world() -> World {
    let world =
        World { pins: Pins::new(), state: tempfile::tempdir().unwrap(), runtime: Runtime::new().unwrap() };
    enrol(world.state.path());
    world
}

impl World {
    fn endpoint(&self, answers: impl IntoIterator<Item = Answer>) -> Endpoint {
        self.runtime.block_on(Endpoint::start(answers))
    }

    fn reader(&self, url: &str, more: &[&str]) -> Reader {
        let mut child = Command::new(env!("CARGO_BIN_EXE_reader"))
            .arg("--pin-dir")
            .arg(&self.pins.dir)
            .arg("--state-dir")
            .arg(self.state.path())
            .args(["--endpoint", url, "--listen", "127.0.0.1:0", "--node", "node", "--flush-ms", "10"])
            .args(more)
            .env("RUST_LOG", "info")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (send, lines) = channel();
        thread::spawn(move || {
            for line in stderr.lines() {
                let Ok(line) = line else { return };
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Reader { child, lines, seen: Vec::new() }
    }

    fn accepted(&self, endpoint: &Endpoint, count: usize) -> Vec<u16> {
        ports(&self.runtime.block_on(endpoint.accepted(count)))
    }
}

struct Reader {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Reader {
    /// Waits for a log line with this `event`.
    fn event(&mut self, event: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no event {event} in:\n{}", self.seen.join("\n"));
            };
            self.seen.push(line.clone());
            let value: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if value["event"] == event {
                return value;
            }
        }
    }

    fn address(&mut self) -> SocketAddr {
        self.event("listening")["address"].as_str().unwrap().parse().unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    fn exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the reader does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        assert!(self.exit().success());
    }
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: reader\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Asks until the answer is as wanted; returns it.
fn until(address: SocketAddr, path: &str, wanted: impl Fn(u16, &str) -> bool) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (status, body) = get(address, path);
        if wanted(status, &body) {
            return body;
        }
        assert!(Instant::now() < deadline, "{path} still says {status}: {body}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn metric(page: &str, name: &str) -> u64 {
    let line =
        page.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in:\n{page}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
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

fn an_endpoint_that_is_down_shows_on_healthz() {
    let world = world();
    let ring = world.pins.ring(abi::ABI_VERSION, RING);
    let address = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut reader = world.reader(&format!("http://{address}"), &[]);
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
