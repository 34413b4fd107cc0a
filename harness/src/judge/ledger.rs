//! attempts = documents + accounted losses + open flows, per container, exactly.

use super::evidence::{Evidence, number};
use crate::{
    event::{Class, Failure},
    scenario::types::LedgerExpectation,
};

/// Closes the ledger of every agent.
pub fn judge(evidence: &Evidence<'_>) -> Vec<Failure> {
    if evidence.cell.scenario.expect.ledger == LedgerExpectation::Any {
        return Vec::new();
    }
    let mut failures = Vec::new();
    for agent in &evidence.agents {
        let ledger = &agent.ledger;
        let attempts = ledger.denied + ledger.opened;
        let open = ledger.opened - ledger.closed;
        let lost: u64 = ledger.losses.iter().sum();
        let documents: u64 = evidence
            .documents
            .iter()
            .chain(&evidence.sentinels)
            .filter(|document| number(document, "cgroup_id") == agent.cgroup_id)
            .map(|document| number(document, "event_count"))
            .sum();
        let accounted = documents + lost + open;
        if attempts != accounted {
            let class = if accounted < attempts { Class::Loss } else { Class::Expectation };
            let message = format!(
                "the ledger of agent {:?} does not close: {attempts} attempts, {documents} documented, {lost} accounted losses, {open} open flows",
                agent.agent
            );
            let stage = if ledger.submitted + lost + open < attempts {
                "before the ring"
            } else {
                "between the ring and the store"
            };
            let detail = format!(
                "denied {} + opened {} · closed {} · submitted {}: the difference arose {stage}",
                ledger.denied, ledger.opened, ledger.closed, ledger.submitted
            );
            failures.push(evidence.failure(class, "expect.ledger", message, detail));
        } else if open > 0 {
            let message = format!(
                "agent {:?} still has {open} open flow(s) after every process of it has ended",
                agent.agent
            );
            failures.push(evidence.failure(Class::Expectation, "expect.ledger", message, String::new()));
        }
    }
    failures
}
