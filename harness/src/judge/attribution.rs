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
    let label = [&owner.agent, &owner.project, &owner.container_id, "known"];
    let mut wrong = evidence.documents.iter().filter(|document| {
        number(document, "cgroup_id") == owner.cgroup_id
            && ["agent", "project", "container_id", "attribution"].map(|name| text(document, name)) != label
    });
    let first = wrong.next()?;
    let more = wrong.clone().count();
    let message = format!(
        "attributed to agent {:?}, project {:?}, container {:?} ({}), but its cgroup is of agent {:?}, project {:?}, container {:?}: {}{}",
        text(first, "agent"),
        text(first, "project"),
        text(first, "container_id"),
        text(first, "attribution"),
        owner.agent,
        owner.project,
        owner.container_id,
        describe(first),
        if more > 0 { format!(", and {more} more") } else { String::new() }
    );
    Some(evidence.failure(Class::MisRecord, "agent", message, list(wrong)))
}
