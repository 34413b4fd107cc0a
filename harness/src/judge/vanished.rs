//! At which stage of the chain an expected event vanished, by the accounts of every stage.
//!
//! The kernel's ledger is the agent's own. The reader counts for all containers, so of the hops behind
//! the ring it only says where a record can have been lost; how many of this agent were is the
//! difference of what its ledger handed over and what was received.

use std::{fmt, net::IpAddr};

use super::evidence::{AgentEvidence, Evidence, Fired, is_redirected_dns, number, text};
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

/// Finds the stage for an expectation that has too few documents.
pub fn vanished(evidence: &Evidence<'_>, expectation: &DocumentExpectation) -> Vanished {
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
    after_the_hook(evidence, &agents).unwrap_or_else(|| before_the_ring(evidence, &agents, expectation))
}

/// Whether the ledger of these agents has a gap, and where.
fn after_the_hook(evidence: &Evidence<'_>, agents: &[&AgentEvidence]) -> Option<Vanished> {
    let sum = |count: fn(&AgentEvidence) -> u64| -> u64 { agents.iter().map(|agent| count(agent)).sum() };
    let sentinels = sum(|agent| agent.sentinels);
    let (opened, closed) = (sum(|agent| agent.ledger.opened), sum(|agent| agent.ledger.closed));
    let submitted = sum(|agent| agent.ledger.submitted).saturating_sub(sentinels);
    let ended = (sum(|agent| agent.ledger.denied) + closed).saturating_sub(sentinels);
    let lost = sum(|agent| agent.ledger.losses.iter().sum());
    let received: u64 = evidence
        .documents
        .iter()
        .filter(|document| agents.iter().any(|agent| agent.cgroup_id == number(document, "cgroup_id")))
        .map(|document| number(document, "event_count"))
        .sum();
    let at = |stage, accounted, accounts| Some(Vanished { stage, accounted, accounts });
    if ended > submitted {
        let accounts = format!("ended {ended}, submitted {submitted}, accounted losses {lost}");
        return at(Stage::Ring, ended <= submitted + lost, accounts);
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
) -> Vanished {
    let by_them = |fired: &&Fired| {
        let own = evidence.agents.get(fired.agent);
        own.is_some_and(|own| agents.iter().any(|agent| agent.cgroup_id == own.cgroup_id))
    };
    let fired: Vec<&Fired> = evidence.fired.iter().filter(by_them).collect();
    let meant: Vec<&Fired> = fired.iter().copied().filter(|fired| went_there(fired, expectation)).collect();
    let meant = if meant.is_empty() { fired } else { meant };
    let own: Vec<_> = evidence
        .documents
        .iter()
        .filter(|document| agents.iter().any(|agent| agent.cgroup_id == number(document, "cgroup_id")))
        .filter(|document| !is_redirected_dns(document))
        .collect();
    let documented = |fired: &&&Fired| match fired.report.dst {
        Some(dst) => own.iter().any(|document| {
            let ip = text(document, "dst_ip").parse::<IpAddr>().map(|ip| ip.to_canonical());
            ip == Ok(dst.ip().to_canonical()) && number(document, "dst_port") == u64::from(dst.port())
        }),
        // Of a program nobody knows where it went.
        None => evidence.cell.step(&fired.path).is_some_and(|step| step.exec.is_some()) && !own.is_empty(),
    };
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
        (Stage::Call, "no step of this agent makes a call".to_owned())
    } else if undocumented.is_empty() {
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
    let port = filter.get("dst_port").and_then(serde_json::Value::as_u64);
    let ip =
        filter.get("dst_ip").and_then(serde_json::Value::as_str).and_then(|ip| ip.parse::<IpAddr>().ok());
    port.is_none_or(|port| port == u64::from(dst.port())) && ip.is_none_or(|ip| ip == dst.ip().to_canonical())
}

/// Whether a call ended before any hook could have counted it: the name led nowhere, or there is no such
/// program. What a hook refuses is `EPERM`.
fn refused(evidence: &Evidence<'_>, fired: &Fired) -> bool {
    let exec = evidence.cell.step(&fired.path).is_some_and(|step| step.exec.is_some());
    fired.report.dst.is_none() && !exec && fired.report.outcome != "ok" && fired.report.outcome != "EPERM"
}
