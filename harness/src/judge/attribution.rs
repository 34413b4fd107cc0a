//! Every document carries the labels of the container whose cgroup it is of, byte for byte.

use super::evidence::{Evidence, describe, number, text};
use crate::event::{Class, Failure};

/// Compares labels by cgroup, whatever the case expects.
pub fn judge(evidence: &Evidence<'_>) -> Vec<Failure> {
    let mut failures = Vec::new();
    for document in &evidence.documents {
        let Some(owner) = evidence.owner(number(document, "cgroup_id")) else { continue };
        let labels = (text(document, "agent"), text(document, "project"));
        if labels != (owner.agent.as_str(), owner.project.as_str())
            || text(document, "attribution") != "known"
        {
            let message = format!(
                "attributed to agent {:?}, project {:?} ({}), not to its owner: {}",
                labels.0,
                labels.1,
                text(document, "attribution"),
                describe(document)
            );
            let detail = format!(
                "cgroup {} is of agent {:?}, project {:?}",
                owner.cgroup_id, owner.agent, owner.project
            );
            failures.push(evidence.failure(Class::MisRecord, "agent", message, detail));
        }
    }
    failures
}
