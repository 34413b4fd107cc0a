//! What the integration tests share.
#![expect(dead_code, reason = "each test binary uses its own part of this")]

pub mod binary;
pub mod bpf;
pub mod endpoint;
#[path = "../../src/document/sample.rs"]
mod sample;
pub mod trials;

use std::{fs, path::Path};

use abi::{Enrolment, Record};
use opentelemetry_proto::tonic::{common::v1::any_value::Value, logs::v1::LogRecord};

/// A record of cgroup 4242 to this port.
pub fn record(dst_port: u16) -> Record {
    let mut record = sample::record();
    record.flow.dst_port = dst_port;
    record
}

/// Enrols cgroup 4242 below `state_dir`, before any record of [`record`] starts.
pub fn enrol(state_dir: &Path) {
    enrol_as(state_dir, 4242, "scout", "demo");
}

/// Enrols a cgroup with these labels.
pub fn enrol_as(state_dir: &Path, cgroup_id: u64, agent: &str, project: &str) {
    let folder = state_dir.join(Enrolment::FOLDER);
    fs::create_dir_all(&folder).unwrap();
    let enrolment = Enrolment {
        cgroup_id,
        container_id: "c0ffee".to_owned(),
        agent: agent.to_owned(),
        project: project.to_owned(),
        enrolled_ns: 1,
        retired_ns: None,
        earlier: Vec::new(),
    };
    fs::write(folder.join(format!("{cgroup_id}.json")), serde_json::to_vec(&enrolment).unwrap()).unwrap();
}

/// The value of one attribute as text; `-` where it is absent.
pub fn attribute(record: &LogRecord, name: &str) -> String {
    let value =
        record.attributes.iter().find(|pair| pair.key == name).and_then(|pair| pair.value.clone()?.value);
    match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(other) => panic!("{name} is {other:?}"),
        None => "-".to_owned(),
    }
}

/// Destination ports, which tests use to tell records apart, sorted: several requests are under way at once. What
/// tells of a loss has none.
pub fn ports(records: &[LogRecord]) -> Vec<u16> {
    let port = |record| attribute(record, "dst_port").parse().ok();
    let mut ports: Vec<u16> = records.iter().filter_map(port).collect();
    ports.sort_unstable();
    ports
}
