//! What the rules permit and was denied: judged by the agent's own calls, which know what name they asked
//! for. The model's judgement of documents cannot tell, so close to the look-up, whether it was in time.

use std::{net::SocketAddr, time::Duration};

use abi::Verdict;
use serde_json::Value;

use super::evidence::{AgentEvidence, Evidence, Fired, address, describe, number, text};
use crate::{
    event::{Class, Failure},
    model::{Attempt, Model, Proto, Surroundings},
};

/// Reasons to deny that the rules do not know of.
const BEYOND: [&str; 5] =
    ["flow_table_full", "pre_enrolment", "destination_mismatch", "no_flow", "not_enrolled"];
/// Names that permit for less than this may be over between look-up and call.
const SHORTEST: Duration = Duration::from_secs(5);

/// Every destination that was denied although it is permitted, once, where nothing arrived.
pub fn judge(evidence: &Evidence<'_>) -> Vec<Failure> {
    let mut told = Vec::new();
    let mut failures: Vec<Failure> = astray(evidence).into_iter().collect();
    for fired in evidence.fired.iter().filter(|fired| fired.report.outcome == "EPERM") {
        let Some((dst, agent)) = fired.report.dst.zip(evidence.agents.get(fired.agent)) else { continue };
        let dst = SocketAddr::new(dst.ip().to_canonical(), dst.port());
        let Some(document) = evidence.documents.iter().find(|document| denies(document, agent, dst)) else {
            continue;
        };
        let l4_proto = text(document, "l4_proto");
        let Some(because) = permitted(evidence, agent, fired, dst, Proto::named(l4_proto)) else { continue };
        if evidence.arrived(dst) > 0 || told.contains(&(dst, l4_proto)) {
            continue;
        }
        told.push((dst, l4_proto));
        let message =
            format!("{l4_proto} to {dst} is permitted ({because}), was denied, and nothing arrived");
        failures.push(evidence.failure(Class::OverBlock, "rules", message, String::new()));
    }
    failures
}

/// A look-up that was denied for where it went, which is to the agent's resolver whatever server it names; unless
/// a step leads its packets elsewhere.
fn astray(evidence: &Evidence<'_>) -> Option<Failure> {
    let led = |fired: &Fired| {
        let step = evidence.cell.step(&fired.path);
        step.is_none_or(|step| {
            step.exec.is_some()
                || step.connect.as_ref().is_some_and(|connect| connect.route.is_some())
                || step.send.as_ref().is_some_and(|send| send.route.is_some())
        })
    };
    if evidence.fired.iter().any(led) {
        return None;
    }
    let document = evidence.documents.iter().find(|document| {
        text(document, "verdict") == "DENIED"
            && text(document, "reason") == "destination_mismatch"
            && matches!(text(document, "l4_proto"), "tcp" | "udp")
            && number(document, "dst_port") == 53
    })?;
    let message = format!("a look-up goes to the agent's resolver, and was denied: {}", describe(document));
    Some(evidence.failure(Class::OverBlock, "rules", message, String::new()))
}

fn denies(document: &Value, agent: &AgentEvidence, dst: SocketAddr) -> bool {
    number(document, "cgroup_id") == agent.cgroup_id
        && text(document, "verdict") == "DENIED"
        && text(document, "hook") != "sock_create"
        && !BEYOND.contains(&text(document, "reason"))
        && address(document, "dst_ip").is_some_and(|ip| ip.to_canonical() == dst.ip())
        && number(document, "dst_port") == u64::from(dst.port())
}

/// Why the model permits a call, surely; `None` where it does not, or where the rules were replaced.
fn permitted(
    evidence: &Evidence<'_>,
    agent: &AgentEvidence,
    fired: &Fired,
    dst: SocketAddr,
    l4_proto: Proto,
) -> Option<String> {
    let [rules] = agent.rules.as_slice() else { return None };
    let scenario = &evidence.cell.scenario;
    let step = evidence.cell.step(&fired.path)?;
    let to = step.connect.as_ref().map(|connect| &connect.to).or(step.send.as_ref().map(|send| &send.to))?;
    // It was looked up by this very call, so it is in time.
    let name = to.rsplit_once(':').map(|(name, _)| name.to_owned());
    let names = match name.filter(|name| scenario.host(name).is_some()) {
        Some(name) if evidence.ttl_floor >= SHORTEST => vec![name],
        Some(_) => return None,
        None => Vec::new(),
    };
    let surroundings = Surroundings::of(scenario, &agent.subnets, &agent.gateways);
    let attempt = Attempt { dst: dst.ip(), port: dst.port(), l4_proto, names, bypass: false };
    let judgement = Model::new(&rules.what, &surroundings).judge(&attempt);
    (judgement.verdict == Verdict::Allowed).then_some(judgement.because)
}
