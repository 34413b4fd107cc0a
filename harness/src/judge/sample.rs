//! Evidence as data, for the oracles' own tests.

use std::collections::BTreeMap;
use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, SystemTime},
};

use abi::Ledger;
use serde_json::{Value, json};

use super::evidence::{AgentEvidence, Evidence, Fired, Output, Window};
use crate::{
    actor::Report,
    lab::ReaderCounters,
    scenario::{self, Cell},
    wire::WireSummary,
};

const CASE: &str = r#"name: a case
agent: {agent: scout, project: demo}
rules: [{dst: 198.51.100.7, proto: tcp, port: 443}]
hosts: {api.test: {addr: [198.51.100.7], serve: [{tcp: 443}]}}
steps:
  - connect: {to: "198.51.100.7:443"}
expect:
  documents: [{where: {dst_port: 443}, exactly: 1}]
  wire: [{to: api.test, at_least: 1}]
"#;

/// A case of one connection, which expects one document.
pub fn cell() -> Cell {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("case.yaml");
    std::fs::write(&file, CASE).expect("a file");
    scenario::load(&file).expect("the case is right").remove(0)
}

/// The document of that connection.
pub fn document() -> Value {
    json!({"attributes": {
        "verdict": "ALLOWED", "l4_proto": "tcp", "dst_ip": "198.51.100.7", "dst_port": 443, "cgroup_id": 7,
        "event_count": 1, "agent": "scout", "project": "demo", "hook": "connect", "reason": "address_rule",
    }})
}

/// What a chain that works leaves behind, but for the document and the packets.
pub fn evidence(cell: &Cell) -> Evidence<'_> {
    let now = SystemTime::now();
    let address = |last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
    let agent = AgentEvidence {
        agent: "scout".to_owned(),
        project: "demo".to_owned(),
        room: 0,
        is_live: true,
        container_id: "w0-7".to_owned(),
        cgroup_id: 7,
        addresses: [address(2); 2],
        subnets: ["192.0.2.0/30".parse().expect("a prefix"), "2001:db8:ffff::/64".parse().expect("a prefix")],
        gateways: [address(1); 2],
        resolvers: [(address(1), 5300).into(); 2],
        // With one sentinel, which is denied.
        ledger: Ledger { denied: 1, opened: 1, closed: 1, submitted: 2, ..Ledger::default() },
        sentinels: 1,
        bypass: Vec::new(),
        rules: vec![Window { from: (now, now), until: None, what: cell.scenario.rules.clone() }],
    };
    let report =
        Report { outcome: "ok".to_owned(), dst: "198.51.100.7:443".parse().ok(), ..Report::default() };
    Evidence {
        streams: BTreeMap::new(),
        series: Vec::new(),
        places: Vec::new(),
        repeated: Vec::new(),
        cell,
        agents: vec![agent],
        documents: Vec::new(),
        sentinels: Vec::new(),
        losses: Vec::new(),
        wire: WireSummary::default(),
        reader: Some(ReaderCounters { drained: 2, exported: 2, received: 2, ..ReaderCounters::default() }),
        alone: false,
        fired: vec![Fired {
            path: "steps[0]".to_owned(),
            agent: 0,
            pids: Vec::new(),
            report,
            expected: "ok".to_owned(),
            output: Output::default(),
            started: now,
            ended: now,
        }],
        queries: Vec::new(),
        ttl_floor: Duration::from_secs(60),
        control: None,
    }
}
