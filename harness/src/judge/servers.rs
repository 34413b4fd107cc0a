//! Documents of the other streams, against what is known of the containers that they name and of the wire: nobody is called
//! otherwise than his container, nothing passed by a bypass that was never on, and nothing went out that the proxy says it denied.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;
use stack::Lane;

use super::evidence::{Evidence, address, text};
use crate::event::{Class, Failure};

/// What is wrong in each of them, whether or not an expectation is of it.
pub fn judge(evidence: &Evidence<'_>) -> Vec<Failure> {
    let documents = evidence
        .streams
        .iter()
        .flat_map(|(stream, documents)| documents.iter().map(move |document| (stream.as_str(), document)));
    let wrong = documents.filter_map(|(stream, document)| wrong(evidence, stream, document));
    wrong.chain(went_out(evidence)).collect()
}

/// Hosts of which the proxy says only that it denied them, that the kernel permitted nobody to reach by himself, and where something
/// arrived.
fn went_out(evidence: &Evidence<'_>) -> Vec<Failure> {
    let scenario = &evidence.cell.scenario;
    if scenario.stops_plane() || scenario.expect.lost.is_some() {
        // What is not told is no sign of what was not done.
        return Vec::new();
    }
    let told = evidence.of_stream(&Lane::Envoy.stream());
    // What the kernel handed over is the proxy's to say.
    let by_kernel = evidence.documents.iter().filter(|document| text(document, "reason") != "redirected");
    let permitted: Vec<&Value> =
        told.iter().chain(by_kernel).filter(|document| !is_denied(document)).collect();
    let mut failures = Vec::new();
    for at in scenario.hosts.values().flat_map(|host| &host.addr).copied() {
        let is_of = |document: &Value| is_of(evidence, document, at);
        let Some(denied) = told.iter().find(|document| is_denied(document) && is_of(document)) else {
            continue;
        };
        if permitted.iter().any(|document| is_of(document)) {
            continue;
        }
        let counts = evidence.wire.counts.iter().filter(|count| ip(&count.dst) == Some(at));
        let arrived: u64 = counts.map(|count| count.packets).sum();
        if arrived > 0 {
            let message =
                format!("the proxy says that it denied {at}, and {arrived} packet(s) arrived there");
            let detail = format!("    {}", denied["attributes"]);
            failures.push(Failure { class: Class::MisRecord, message, detail });
        }
    }
    failures
}

fn is_denied(document: &Value) -> bool {
    text(document, "verdict") == "DENIED"
}

/// Whether a document is about a host with this address, by the name that was asked for or by where it went.
fn is_of(evidence: &Evidence<'_>, document: &Value, at: IpAddr) -> bool {
    let name = match text(document, "request_host") {
        "" => text(document, "dst_host"),
        host => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    evidence.cell.scenario.host(name).is_some_and(|host| host.addr.contains(&at))
        || [address(document, "actual_dst_ip"), address(document, "dst_ip")].contains(&Some(at))
}

/// The address of `address:port`, or of an address alone.
fn ip(dst: &str) -> Option<IpAddr> {
    dst.parse().map(|dst: SocketAddr| dst.ip()).or_else(|_| dst.parse()).ok()
}

fn wrong(evidence: &Evidence<'_>, stream: &str, document: &Value) -> Option<Failure> {
    let id = text(document, "container_id");
    let agent = evidence.agents.iter().find(|agent| agent.container_id == id)?;
    let (label, project) = (text(document, "agent"), text(document, "project"));
    let message = if (label, project) != (&agent.agent, &agent.project) {
        format!(
            "a document of {stream} is of the container of {:?} of {:?}, and says {label:?} of {project:?}",
            agent.agent, agent.project
        )
    } else if text(document, "verdict") == "BYPASSED" && agent.bypass.is_empty() {
        format!("a document of {stream} is BYPASSED, and {label:?} never had a bypass")
    } else {
        return None;
    };
    Some(Failure { class: Class::MisRecord, message, detail: format!("    {}", document["attributes"]) })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use serde_json::json;

    use super::*;
    use crate::{
        event::WireCount,
        judge::{evidence::Window, sample},
    };

    #[test]
    fn what_is_said_to_be_denied_did_not_go_out() {
        let cell = sample::cell();
        let mut evidence = sample::evidence(&cell);
        let told =
            |verdict: &str| json!({"attributes": {"verdict": verdict, "request_host": "api.test:443"}});
        let arrived = |dst: &str| WireCount { dst: dst.to_owned(), packets: 3, ..WireCount::default() };
        evidence.streams.insert("clawker-envoy".to_owned(), vec![told("DENIED")]);
        let redirected =
            json!({"attributes": {"verdict": "ALLOWED", "reason": "redirected", "dst_ip": "198.51.100.7"}});
        evidence.documents = vec![redirected];
        evidence.wire.counts = vec![arrived("198.51.100.8:443")];
        assert_eq!(judge(&evidence).len(), 0, "nothing arrived there");
        evidence.wire.counts.push(arrived("198.51.100.7:443"));
        let failures = judge(&evidence);
        assert!(failures[0].message.contains("denied 198.51.100.7, and 3 packet(s)"), "{failures:?}");
        evidence.streams.insert("clawker-envoy".to_owned(), vec![told("DENIED"), told("ALLOWED")]);
        assert_eq!(judge(&evidence).len(), 0, "another request may go there");
        evidence.streams.insert("clawker-envoy".to_owned(), vec![told("DENIED")]);
        evidence.documents.push(sample::document());
        assert_eq!(judge(&evidence).len(), 0, "the kernel let another there");
    }

    #[test]
    fn each_slip_of_a_server_is_told() {
        let cell = sample::cell();
        let mut evidence = sample::evidence(&cell);
        let mut judged = |agent: &str, verdict: &str, id: &str, has_bypass: bool| {
            let document = json!({"attributes": {"agent": agent, "project": "demo", "verdict": verdict, "container_id": id}});
            evidence.streams.insert("clawker-coredns".to_owned(), vec![document]);
            let now = SystemTime::now();
            let window = Window { from: (now, now), until: None, what: () };
            evidence.agents[0].bypass = if has_bypass { vec![window] } else { Vec::new() };
            judge(&evidence).into_iter().map(|failure| failure.message).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(judged("scout", "ALLOWED", "w0-7", false), "");
        assert_eq!(judged("scout", "BYPASSED", "w0-7", true), "");
        // Nobody's is not this one's to judge.
        assert_eq!(judged("", "DENIED", "", false), "");
        assert!(judged("scout", "BYPASSED", "w0-7", false).contains("never had a bypass"));
        assert!(judged("thief", "ALLOWED", "w0-7", false).contains("says \"thief\""));
    }
}
