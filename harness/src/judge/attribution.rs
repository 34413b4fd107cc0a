//! Every document names the container whose cgroup it is of, and its labels byte for byte.

use super::{
    difference::list,
    evidence::{AgentEvidence, Evidence, describe, number, text},
};
use crate::event::{Class, Failure};

/// Compares labels by cgroup, whatever the case expects.
pub fn judge(evidence: &Evidence<'_>) -> Vec<Failure> {
    evidence.agents.iter().filter_map(|agent| of(evidence, agent)).collect()
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
