//! Every document names the container whose cgroup it is of, and its labels byte for byte; and those of the case's servers
//! the container whose flow they are of.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::{
    difference::list,
    evidence::{AgentEvidence, Evidence, address, describe, number, text},
};
use crate::{
    event::{Class, Failure},
    scenario::fields::{COREDNS_STREAM, ENVOY_STREAM},
};

/// Compares labels by cgroup, whatever the case expects.
pub fn judge(evidence: &Evidence<'_>) -> Vec<Failure> {
    let of_servers =
        [ENVOY_STREAM, COREDNS_STREAM].into_iter().filter_map(|stream| of_server(evidence, stream));
    evidence.agents.iter().filter_map(|agent| of(evidence, agent)).chain(of_servers).collect()
}

/// What a server tells of a flow names the container that the kernel says it was of, also where another has had its address.
/// One that names none guesses nobody.
fn of_server(evidence: &Evidence<'_>, stream: &str) -> Option<Failure> {
    let source = |document: &Value| {
        let ip = address(document, "src_ip")?.to_canonical();
        Some((ip, number(document, "src_port"), text(document, "l4_proto").to_owned()))
    };
    let mut flows: HashMap<_, BTreeSet<&str>> = HashMap::new();
    for document in &evidence.documents {
        flows.entry(source(document)).or_default().insert(text(document, "container_id"));
    }
    let mut naming =
        evidence.of_stream(stream).iter().filter(|document| !text(document, "container_id").is_empty());
    let wrong = naming.find_map(|document| {
        let names = flows.get(&Some(source(document)?))?;
        (!names.contains(text(document, "container_id"))).then_some((document, names))
    })?;
    let (document, names) = wrong;
    let id = text(document, "container_id");
    let message = format!("a document of {stream} names the container {id:?}, and its flow is of {names:?}");
    Some(evidence.failure(Class::MisRecord, "agent", message, format!("    {}", document["attributes"])))
}

fn of(evidence: &Evidence<'_>, owner: &AgentEvidence) -> Option<Failure> {
    let label = [
        ("agent", owner.agent.as_str()),
        ("project", &owner.project),
        ("container_id", &owner.container_id),
        ("attribution", "known"),
    ];
    let mut wrong = evidence.documents.iter().filter(|document| {
        number(document, "cgroup_id") == owner.cgroup_id
            && label.iter().any(|(name, right)| text(document, name) != *right)
    });
    let first = wrong.next()?;
    let more = wrong.clone().count();
    let differs: Vec<_> = label
        .iter()
        .filter(|(name, right)| text(first, name) != *right)
        .map(|(name, right)| format!("{name} is {:?}, not {right:?}", text(first, name)))
        .collect();
    let message = format!(
        "not attributed to its cgroup's container: {}: {}{}",
        differs.join("; "),
        describe(first),
        if more > 0 { format!(", and {more} more") } else { String::new() }
    );
    Some(evidence.failure(Class::MisRecord, "agent", message, list(wrong)))
}
