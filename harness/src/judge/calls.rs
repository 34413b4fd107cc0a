//! The documents against the agent's own calls: a document names a destination that a call went to.

use std::net::SocketAddr;

use super::evidence::{Evidence, Fired, address, describe, number, text};
use crate::{
    event::{Class, Failure},
    scenario::types::Step,
};

/// Reasons of packets that no call of the case decided, and of look-ups, which the case does not name.
const UNCALLED: [&str; 4] = ["dns", "no_flow", "pre_enrolment", "destination_mismatch"];

/// Where a step went: what its process says it reached last, and every address that the case gives it.
fn destinations(evidence: &Evidence<'_>, fired: &Fired) -> Vec<SocketAddr> {
    let step = evidence.cell.step(&fired.path);
    let connect = step.and_then(|step| step.connect.as_ref()).map(|connect| &connect.to);
    let application = step.and_then(Step::application).map(|application| application.to);
    let send = step.and_then(|step| step.send.as_ref());
    let written =
        connect.into_iter().chain(send.iter().flat_map(|send| [&send.to].into_iter().chain(&send.other)));
    let written = written.map(String::as_str).chain(application);
    let ports = step.and_then(|step| step.flood.as_ref()).map_or(1, |flood| flood.ports);
    let flooded = fired.report.dst.into_iter().flat_map(|dst| {
        (dst.port()..=dst.port().saturating_add(ports - 1)).map(move |port| SocketAddr::new(dst.ip(), port))
    });
    flooded.chain(written.filter_map(|to| to.parse().ok())).collect()
}

/// Judges cells whose every step tells where it went; of a program's connections nobody else knows.
pub fn judge(evidence: &Evidence<'_>) -> Vec<Failure> {
    let tells = |step: &Step| {
        step.connect.is_some()
            || step.send.is_some()
            || step.flood.is_some()
            || step.resolve.is_some()
            || step.ask.is_some()
            || step.application().is_some()
    };
    if !evidence.fired.iter().all(|fired| evidence.cell.step(&fired.path).is_some_and(tells)) {
        return Vec::new();
    }
    let mut failures = Vec::new();
    for document in &evidence.documents {
        let cgroup_id = number(document, "cgroup_id");
        let agent = evidence.agents.iter().position(|agent| agent.cgroup_id == cgroup_id);
        let called = matches!(text(document, "hook"), "connect" | "sendmsg")
            && matches!(text(document, "l4_proto"), "tcp" | "udp")
            && number(document, "dst_port") != 53
            && !UNCALLED.contains(&text(document, "reason"));
        let port = u16::try_from(number(document, "dst_port")).ok();
        let (Some(agent), true, Some((ip, port))) = (agent, called, address(document, "dst_ip").zip(port))
        else {
            continue;
        };
        let to = SocketAddr::new(ip.to_canonical(), port);
        let mut went: Vec<SocketAddr> = evidence
            .fired
            .iter()
            .filter(|fired| fired.agent == agent)
            .flat_map(|fired| destinations(evidence, fired))
            .map(|dst| SocketAddr::new(dst.ip().to_canonical(), dst.port()))
            .collect();
        if went.contains(&to) {
            continue;
        }
        went.dedup();
        let went: Vec<String> = went.iter().map(ToString::to_string).collect();
        let message = format!("no call of the agent went to {to}: {}", describe(document));
        let detail = format!("its calls went to: {}", went.join(", "));
        failures.push(evidence.failure(Class::MisRecord, "steps", message, detail));
    }
    failures
}
