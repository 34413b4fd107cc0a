//! A run as data: what the report tests and `examples/report.rs` show.

use std::time::Duration;

use abi::Verdict;
use harness::{
    event::{
        CallReport, CellReport, Class, Event, Failure, ModelVerdict, Outcome, Stage, StepReport, Tier,
        WireCount,
    },
    transport::{IpFamily, Position, Transport},
};
use serde_json::{Value, json};

/// Text that breaks out of HTML, XML and terminals where it is not escaped.
pub const HOSTILE: &str = "</script><script>alert(1)</script>\"'&]]>\u{1b}[2J\u{0}\u{202e}\u{ffff}\r\n--> <img src=x onerror=alert(2)>";

/// The document of one flow.
pub fn document(verdict: &str, proto: &str, dst: &str, port: u16, bytes: u64) -> Value {
    let denied = verdict == "DENIED";
    json!({
        "@timestamp": "2026-11-22T10:15:30.250Z",
        "attributes": {
            "record_type": "flow", "verdict": verdict, "reason": if denied { "no_rule" } else { "domain_rule" },
            "l4_proto": proto, "l7_proto": "unknown", "hook": if proto == "tcp" { "connect" } else { "sendmsg" },
            "agent": "scout", "project": "demo", "attribution": "known", "container_id": "5f1c9a",
            "src_ip": "198.18.4.2", "src_port": 41822, "dst_host": dst, "dst_ip": "198.51.100.7", "dst_port": port,
            "actual_dst_ip": if denied { "198.51.100.7" } else { "198.18.4.1" },
            "actual_dst_port": if denied { port } else { 15001 },
            "bytes_out": bytes, "bytes_in": bytes * 3, "packets_out": 4, "packets_in": 5, "duration_ms": 12,
            "close_reason": if denied { "none" } else { "closed" }, "event_count": 1, "event_id": "lab:42",
            "pid": 4711, "comm": "curl", "direction": "outbound",
        },
    })
}

const SOURCE: &str = "name: unconnected UDP to an unlisted host is denied
agent: {agent: scout, project: demo}
rules:
  - {dst: ntp.test, proto: https}
steps:
  - send: {to: \"ntp.test:123\", via: sendto, bytes: 48}
    outcome: EPERM
expect:
  documents:
    - where: {dst_port: 123}
      exactly: 1
      match: {verdict: DENIED, l4_proto: udp, bytes_out: 0}
";

const DIFF: &str = "the event vanished after: drained (the ring handed it over)
nearest document, lab:42:
    agent: scout
  - verdict: DENIED
  + verdict: ALLOWED
  - bytes_out: 0
  + bytes_out: 48

scenarios/udp/unlisted.yaml:15:15
   |
15 |       match: {verdict: DENIED, l4_proto: udp, bytes_out: 0}
   |               ^^^^^^^ actual: ALLOWED";

/// A cell that passed, with one denied and one allowed document.
pub fn cell(topic: &str, name: &str, variables: &[(&str, &str)]) -> CellReport {
    let list: Vec<_> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let suffix = if list.is_empty() { String::new() } else { format!("[{}]", list.join(",")) };
    CellReport {
        name: format!("{topic}/{name}.yaml::{}{suffix}", name.replace('_', " ")),
        file: format!("scenarios/{topic}/{name}.yaml").into(),
        position: (1, 7),
        tier: Tier::Lab,
        result: Outcome::Pass,
        class: None,
        reason: String::new(),
        stage: None,
        duration: Duration::from_millis(340),
        documents: vec![
            document("DENIED", if topic == "tcp" { "tcp" } else { "udp" }, "ntp.test", 123, 0),
            document("ALLOWED", "tcp", "api.test", 443, 517),
        ],
        wire: vec![WireCount {
            dst: "198.51.100.9:443".into(),
            l4_proto: "tcp".into(),
            packets: 4,
            bytes: 517,
        }],
        model: vec![
            verdict("198.51.100.7:123", "udp", "DENIED", "no rule permits udp/123"),
            verdict("198.51.100.9:443", "tcp", "ALLOWED", "rule 1: api.test https"),
        ],
        failures: Vec::new(),
        topic: topic.into(),
        variables: variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        tags: vec![topic.into(), "deny".into()],
        pcap: None,
        pcap_cut: 0,
        source: SOURCE.into(),
        steps: vec![step("EPERM"), switch()],
        asserted: vec![0, 1],
        declared: vec![Position {
            transport: Transport::Udp,
            family: IpFamily::V4,
            verdict: Verdict::Denied,
        }],
    }
}

/// What the agent did, and what came of it.
fn step(outcome: &str) -> StepReport {
    StepReport {
        path: "steps[0]".into(),
        text: "send: {to: \"ntp.test:123\", via: sendto, bytes: 48}".into(),
        transport: Some(Transport::Udp),
        families: Vec::new(),
        call: Some(CallReport {
            agent: "scout".into(),
            outcome: outcome.into(),
            expected: "EPERM".into(),
            detail: "sendto: Operation not permitted".into(),
            dst: "198.51.100.7:123".parse().ok(),
            src: None,
            sent: 0,
            received: 0,
            stdout: String::new(),
            stderr: String::new(),
        }),
    }
}

/// What the operator did.
fn switch() -> StepReport {
    StepReport {
        path: "steps[1]".into(),
        text: "bypass: off".into(),
        transport: None,
        families: Vec::new(),
        call: None,
    }
}

fn verdict(dst: &str, proto: &str, verdict: &str, because: &str) -> ModelVerdict {
    ModelVerdict { dst: dst.into(), l4_proto: proto.into(), verdict: verdict.into(), because: because.into() }
}

/// The same, failed: it arrived although it was denied, and the document is wrong.
pub fn failed(topic: &str, name: &str) -> CellReport {
    let failures = vec![
        failure(
            Class::Leak,
            "2 packets reached ntp.test, expected 0",
            "198.51.100.7:123 udp: 2 packets, 96 bytes",
        ),
        failure(Class::MisRecord, "document lab:42: verdict is ALLOWED, expected DENIED", DIFF),
    ];
    CellReport {
        result: Outcome::Fail,
        class: Some(Class::Leak),
        stage: Some(Stage::Reader),
        pcap: Some(format!("report/report.html.pcaps/{name}.pcap").into()),
        pcap_cut: 3,
        reason: failures[0].message.clone(),
        failures,
        steps: vec![step("ok"), switch()],
        ..cell(topic, name, &[("call", "sendto"), ("family", "v6")])
    }
}

fn failure(class: Class, message: &str, detail: &str) -> Failure {
    Failure { class, message: message.into(), detail: detail.into() }
}

/// The same, skipped.
pub fn skipped(topic: &str, name: &str, reason: &str) -> CellReport {
    CellReport {
        result: Outcome::Skip,
        reason: reason.into(),
        duration: Duration::ZERO,
        documents: Vec::new(),
        wire: Vec::new(),
        model: Vec::new(),
        asserted: Vec::new(),
        steps: vec![switch()],
        ..cell(topic, name, &[])
    }
}

/// A failed cell that says `text` wherever a scenario, an agent or a document could put it.
pub fn saying(text: &str) -> CellReport {
    let mut document = document("DENIED", "udp", text, 53, 0);
    if let Some(attributes) = document["attributes"].as_object_mut() {
        attributes.values_mut().for_each(|value| *value = text.into());
    }
    CellReport {
        name: text.into(),
        file: format!("scenarios/{text}").into(),
        tags: vec![text.into()],
        pcap: Some(text.into()),
        reason: text.into(),
        documents: vec![document],
        wire: vec![WireCount { dst: text.into(), l4_proto: text.into(), packets: 1, bytes: 1 }],
        model: vec![verdict(text, text, text, text)],
        failures: vec![failure(Class::Leak, text, text)],
        topic: text.into(),
        variables: vec![(text.into(), text.into())],
        source: text.into(),
        steps: vec![saying_step(text)],
        ..failed("hostile", "label")
    }
}

fn saying_step(text: &str) -> StepReport {
    let call = CallReport {
        agent: text.into(),
        outcome: text.into(),
        expected: text.into(),
        detail: text.into(),
        stdout: text.into(),
        stderr: text.into(),
        ..step("ok").call.expect("the agent called")
    };
    StepReport { path: text.into(), text: text.into(), call: Some(call), ..step("ok") }
}

/// What a run of `cells` tells.
pub fn run(cells: Vec<CellReport>) -> Vec<Event> {
    let tier_reason = "root, cgroup v2 and BTF are there".into();
    let started = Event::RunStarted { cells: cells.len(), tier: Tier::Lab, tier_reason };
    let ended = Event::RunFinished { duration: Duration::from_millis(12_340) };
    let cells = cells.into_iter().flat_map(|cell| {
        [Event::CellStarted { name: cell.name.clone() }, Event::CellFinished(Box::new(cell))]
    });
    std::iter::once(started).chain(cells).chain([ended]).collect()
}

/// A small run with every outcome.
pub fn small() -> Vec<Event> {
    run(vec![
        cell("tcp", "allowed", &[("family", "v4")]),
        failed("udp", "unlisted"),
        cell("udp", "listed", &[]),
        skipped("udp", "icmp_echo", "needs the stack tier"),
    ])
}
