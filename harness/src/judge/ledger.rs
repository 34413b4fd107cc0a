//! The ledger's equations, per container, exactly: at the kernel, and from there to the store.

use super::evidence::{AgentEvidence, Evidence, number};
use crate::{
    event::{Class, Failure},
    scenario::types::LedgerExpectation,
};

/// Closes the ledger of every agent.
pub fn judge(evidence: &Evidence<'_>) -> Vec<Failure> {
    if evidence.cell.scenario.expect.ledger == LedgerExpectation::Any {
        return Vec::new();
    }
    evidence.agents.iter().filter_map(|agent| close(evidence, agent)).collect()
}

/// The first equation that does not hold for an agent.
fn close(evidence: &Evidence<'_>, agent: &AgentEvidence) -> Option<Failure> {
    let ledger = &agent.ledger;
    let (denied, opened, closed) = (ledger.denied, ledger.opened, ledger.closed);
    let (submitted, folded) = (ledger.submitted, ledger.folded);
    let documents: u64 = evidence
        .documents
        .iter()
        .chain(&evidence.sentinels)
        .filter(|document| number(document, "cgroup_id") == agent.cgroup_id)
        .map(|document| number(document, "event_count"))
        .sum();
    let (class, problem) = if closed > opened {
        (Class::MisRecord, "more flows ended than began".to_owned())
    } else if denied + closed > submitted + folded {
        (Class::Lost, "attempts vanished before the ring".to_owned())
    } else if denied + closed < submitted + folded {
        (Class::MisRecord, "more was handed to the ring than was attempted".to_owned())
    } else if documents < submitted + folded {
        let missing = submitted + folded - documents;
        (Class::Lost, format!("{missing} attempt(s) vanished between the ring and the store"))
    } else if documents > submitted + folded {
        (Class::MisRecord, "more is documented than was handed to the ring".to_owned())
    } else if closed < opened {
        let open = opened - closed;
        (Class::Expectation, format!("{open} flow(s) are open after every process has ended"))
    } else {
        return None;
    };
    let message = format!("the ledger of agent {:?} does not close: {problem}", agent.agent);
    let detail = format!(
        "denied {denied} · opened {opened} · closed {closed} · submitted {submitted} · folded {folded} · \
         documented {documents}; sentinels among them: {}",
        agent.sentinels
    );
    Some(evidence.failure(class, "expect.ledger", message, detail))
}
