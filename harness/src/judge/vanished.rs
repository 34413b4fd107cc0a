//! At which stage of the chain an expected event vanished, by the accounts of every stage.
//!
//! The kernel's ledger is the agent's own. The reader counts for all containers, so of the hops behind
//! the ring it only says where a record can have been lost; how many of this agent were is the
//! difference of what its ledger handed over and what was received.

use std::{fmt, net::IpAddr};

use serde_json::Value;

use super::{
    evidence::{AgentEvidence, Evidence, Fired, number, text},
    outcomes::same,
};
use crate::{event::Stage, lab::ReaderCounters, scenario::types::DocumentExpectation};

/// Most steps that are named.
const MOST: usize = 4;

/// The stage, and by what accounts.
pub struct Vanished {
    /// The first that does not have the event.
    pub stage: Stage,
    /// Whether its loss is accounted for: such an event is not lost.
    pub accounted: bool,
    accounts: String,
}

impl fmt::Display for Vanished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vanished at: {} ({})", self.stage.hop(), self.accounts)
    }
}

/// Finds the stage for an expectation that has too few documents: `found`.
pub fn vanished(evidence: &Evidence<'_>, expectation: &DocumentExpectation, found: u64) -> Vanished {
    let label = ["agent", "project"].map(|name| {
        expectation.filter.get(name).or(expectation.fields.get(name)).and_then(|label| label.as_str())
    });
    let is_meant = |agent: &AgentEvidence| {
        label[0].is_none_or(|label| label == agent.agent)
            && label[1].is_none_or(|label| label == agent.project)
    };
    let mut agents: Vec<&AgentEvidence> = evidence.agents.iter().filter(|agent| is_meant(agent)).collect();
    if agents.is_empty() {
        agents = evidence.agents.iter().collect();
    }
    after_the_hook(evidence, &agents)
        .unwrap_or_else(|| before_the_ring(evidence, &agents, expectation, found))
}

/// Whether the ledger of these agents has a gap, and where.
fn after_the_hook(evidence: &Evidence<'_>, agents: &[&AgentEvidence]) -> Option<Vanished> {
    let sum = |count: fn(&AgentEvidence) -> u64| -> u64 { agents.iter().map(|agent| count(agent)).sum() };
    let sentinels = sum(|agent| agent.sentinels);
    let (opened, closed) = (sum(|agent| agent.ledger.opened), sum(|agent| agent.ledger.closed));
    // What is folded is handed on as well, as counts.
    let submitted = sum(|agent| agent.ledger.submitted + agent.ledger.folded).saturating_sub(sentinels);
    let ended = (sum(|agent| agent.ledger.denied) + closed).saturating_sub(sentinels);
    let received: u64 = evidence
        .documents
        .iter()
        .filter(|document| agents.iter().any(|agent| agent.cgroup_id == number(document, "cgroup_id")))
        .map(|document| number(document, "event_count"))
        .sum();
    let at = |stage, accounted, accounts| Some(Vanished { stage, accounted, accounts });
    if ended > submitted {
        return at(Stage::Ring, false, format!("ended {ended}, submitted {submitted}"));
    }
    if submitted > received {
        let missing = submitted - received;
        return match evidence.reader.as_ref().map(|reader| (reader, reader_lost(reader))) {
            Some((reader, None)) if reader.exported > reader.received => {
                let accounts = format!(
                    "submitted {submitted}, received {received}; of all containers: exported {}, received {}",
                    reader.exported, reader.received
                );
                at(Stage::Endpoint, false, accounts)
            }
            Some((_, None)) => at(Stage::Reader, false, format!("submitted {submitted}, drained {received}")),
            Some((_, Some((stage, losses)))) => {
                let accounts = format!(
                    "submitted {submitted}, received {received}; the reader counted as lost: {losses}"
                );
                at(stage, true, accounts)
            }
            None => {
                let accounts = format!(
                    "submitted {submitted}, received {received}; the reader does not answer, so {missing} may have \
                     vanished in it or behind it"
                );
                at(Stage::Reader, false, accounts)
            }
        };
    }
    if opened > closed {
        return at(
            Stage::Ring,
            true,
            format!("flows opened {opened}, ended {closed}: not ended, so not recorded"),
        );
    }
    None
}

/// What the reader says it lost, and the stage that makes it.
fn reader_lost(reader: &ReaderCounters) -> Option<(Stage, String)> {
    if reader.losses.is_empty() {
        return None;
    }
    let losses: Vec<String> = reader.losses.iter().map(|(point, count)| format!("{point} {count}")).collect();
    let endpoint = reader.losses.keys().all(|point| point == "backend_rejected");
    Some((if endpoint { Stage::Endpoint } else { Stage::Reader }, losses.join(", ")))
}

/// Everything counted is documented: the event was not counted, or is documented otherwise.
fn before_the_ring(
    evidence: &Evidence<'_>,
    agents: &[&AgentEvidence],
    expectation: &DocumentExpectation,
    found: u64,
) -> Vanished {
    let by_them = |fired: &&Fired| {
        let own = evidence.agents.get(fired.agent);
        own.is_some_and(|own| agents.iter().any(|agent| agent.cgroup_id == own.cgroup_id))
    };
    // A look-up is no attempt at what it finds.
    let attempts_more = |fired: &&Fired| {
        evidence.cell.step(&fired.path).is_none_or(|step| step.resolve.is_none() && step.ask.is_none())
    };
    let fired: Vec<&Fired> = evidence.fired.iter().filter(by_them).filter(attempts_more).collect();
    let meant: Vec<&Fired> = fired.iter().copied().filter(|fired| went_there(fired, expectation)).collect();
    let meant = if meant.is_empty() { fired } else { meant };
    let own: Vec<_> = evidence
        .documents
        .iter()
        .filter(|document| agents.iter().any(|agent| agent.cgroup_id == number(document, "cgroup_id")))
        .filter(|document| number(document, "dst_port") != 53 && text(document, "reason") != "dns")
        .collect();
    let is_of = |document: &Value, fired: &Fired| {
        fired.report.dst.is_some_and(|dst| {
            let ip = text(document, "dst_ip").parse::<IpAddr>().map(|ip| ip.to_canonical());
            ip == Ok(dst.ip().to_canonical()) && number(document, "dst_port") == u64::from(dst.port())
        })
    };
    let is_exec = |fired: &Fired| evidence.cell.step(&fired.path).is_some_and(|step| step.exec.is_some());
    // Of a program nobody knows where it went.
    let documented = |fired: &&&Fired| {
        own.iter().any(|document| is_of(document, fired)) || (is_exec(fired) && !own.is_empty())
    };
    // A document of no call is one of these calls', and names another destination.
    let strays = own.iter().filter(|document| !evidence.fired.iter().any(|fired| is_of(document, fired)));
    let strays = strays.count();
    let undocumented: Vec<&Fired> = meant.iter().filter(|fired| !documented(fired)).copied().collect();
    let steps = |fired: &[&Fired]| {
        let told =
            fired.iter().take(MOST).map(|fired| format!("{} returned {}", fired.path, fired.report.outcome));
        let more = fired.len().saturating_sub(MOST);
        let more = (more > 0).then(|| format!("and {more} more"));
        told.chain(more).collect::<Vec<_>>().join(", ")
    };
    let attempts: u64 = agents
        .iter()
        .map(|agent| (agent.ledger.denied + agent.ledger.opened).saturating_sub(agent.sentinels))
        .sum();
    let (stage, accounts) = if meant.is_empty() {
        (Stage::Call, "no step of this agent makes such a call".to_owned())
    } else if undocumented.is_empty() && found > 0 {
        (Stage::Call, format!("{} call(s), each documented; there was no other", meant.len()))
    } else if undocumented.len() <= strays || undocumented.is_empty() {
        (Stage::Filter, format!("{} document(s) of these calls, with other fields", own.len()))
    } else if undocumented.iter().all(|fired| refused(evidence, fired)) {
        (Stage::Call, steps(&undocumented))
    } else {
        let accounts = format!("{}; attempts counted {attempts}, all documented", steps(&undocumented));
        (Stage::Hook, accounts)
    };
    Vanished { stage, accounted: false, accounts }
}

/// Whether a step went where the expectation's `where` says, as far as it does.
fn went_there(fired: &Fired, expectation: &DocumentExpectation) -> bool {
    let Some(dst) = fired.report.dst else { return true };
    let filter = &expectation.filter;
    let port = filter.get("dst_port").and_then(Value::as_u64);
    let ip = filter.get("dst_ip").and_then(Value::as_str).and_then(|ip| ip.parse::<IpAddr>().ok());
    port.is_none_or(|port| port == u64::from(dst.port())) && ip.is_none_or(|ip| ip == dst.ip().to_canonical())
}

/// Whether a call ended before any hook could have counted it: its name led nowhere, or the kernel knows no
/// such thing. What a hook refuses is `EPERM`.
fn refused(evidence: &Evidence<'_>, fired: &Fired) -> bool {
    let Some(step) = evidence.cell.step(&fired.path) else { return false };
    let outcome = fired.report.outcome.as_str();
    if step.exec.is_some() {
        // One that ended otherwise than it should need not have come to its call.
        return !same(outcome, &fired.expected);
    }
    fired.report.dst.is_none() && outcome != "ok" && (step.socket.is_none() || outcome != "EPERM")
}

#[cfg(test)]
mod tests {
    use abi::Ledger;

    use super::{super::sample, *};

    fn told(change: impl FnOnce(&mut Evidence<'_>)) -> (Stage, bool, String) {
        let cell = sample::cell();
        let mut evidence = sample::evidence(&cell);
        change(&mut evidence);
        let vanished = vanished(&evidence, &cell.scenario.expect.documents[0], 0);
        (vanished.stage, vanished.accounted, vanished.to_string())
    }

    fn reader<'e>(evidence: &'e mut Evidence<'_>) -> &'e mut ReaderCounters {
        evidence.reader.as_mut().expect("it answers")
    }

    #[test]
    fn every_stage_is_told_from_the_others() {
        // Only the sentinel was counted.
        let uncounted = Ledger { denied: 1, submitted: 1, ..Ledger::default() };
        let call = told(|evidence| {
            evidence.agents[0].ledger = uncounted;
            evidence.fired.clear();
        });
        assert_eq!(call.2, "vanished at: agent's call (no step of this agent makes such a call)");

        let hook = told(|evidence| evidence.agents[0].ledger = uncounted);
        assert_eq!(
            hook.2,
            "vanished at: agent's call → hook (steps[0] returned ok; attempts counted 0, all documented)"
        );

        let ring = told(|evidence| evidence.agents[0].ledger.submitted = 1);
        assert_eq!((ring.0, ring.1), (Stage::Ring, false));
        assert_eq!(ring.2, "vanished at: hook → ring (ended 1, submitted 0)");

        let drain = told(|_| {});
        assert_eq!((drain.0, drain.1), (Stage::Reader, false));
        assert_eq!(drain.2, "vanished at: ring → reader (submitted 1, drained 0)");

        let endpoint = told(|evidence| reader(evidence).received = 1);
        assert_eq!((endpoint.0, endpoint.1), (Stage::Endpoint, false));

        let filter = told(|evidence| {
            let mut other = sample::document();
            other["attributes"]["dst_port"] = 444.into();
            evidence.documents = vec![other];
        });
        assert_eq!(
            filter.2,
            "vanished at: endpoint → expectation (1 document(s) of these calls, with other fields)"
        );
    }

    #[test]
    fn a_loss_that_is_accounted_for_is_no_lost_event() {
        for (point, stage) in [("decode", Stage::Reader), ("backend_rejected", Stage::Endpoint)] {
            let losses = [(point.to_owned(), 1)];
            let lost = told(|evidence| reader(evidence).losses = losses.into());
            assert_eq!((lost.0, lost.1), (stage, true), "{}", lost.2);
        }
    }

    #[test]
    fn a_reader_that_does_not_answer_is_said_to_be_one() {
        let told = told(|evidence| evidence.reader = None);
        assert!(told.2.contains("does not answer"), "{}", told.2);
    }
}
