//! Every document carries the labels of the container whose cgroup it is of, byte for byte.

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
    let label = (owner.agent.as_str(), owner.project.as_str(), "known");
    let mut wrong = evidence.documents.iter().filter(|document| {
        number(document, "cgroup_id") == owner.cgroup_id
            && (text(document, "agent"), text(document, "project"), text(document, "attribution")) != label
    });
    let first = wrong.next()?;
    let more = wrong.clone().count();
    let message = format!(
        "attributed to agent {:?}, project {:?} ({}), but its cgroup is of agent {:?}, project {:?}: {}{}",
        text(first, "agent"),
        text(first, "project"),
        text(first, "attribution"),
        owner.agent,
        owner.project,
        describe(first),
        if more > 0 { format!(", and {more} more") } else { String::new() }
    );
    Some(evidence.failure(Class::MisRecord, "agent", message, list(wrong)))
}
