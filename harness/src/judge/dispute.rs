//! Where the model and the chain disagree: what the wire says of it.

use std::net::SocketAddr;

use super::evidence::{Evidence, address, number, text};
use crate::event::{Class, Failure, ModelVerdict};

/// The model's disagreements, each of the class that the wire makes it, and what was blocked although
/// the model permits it. What the model merely finds different from the document is a wrong document,
/// unless the document is right about something that should not have happened.
pub fn classify(
    evidence: &Evidence<'_>,
    disagreements: Vec<Failure>,
    model: &[ModelVerdict],
) -> Vec<Failure> {
    if disagreements.is_empty() {
        return disagreements;
    }
    let blocked = over_blocked(evidence, model);
    let class = if disagreements.iter().any(|failure| failure.class == Class::Leak) {
        Class::Leak
    } else if blocked.is_empty() {
        Class::MisRecord
    } else {
        Class::OverBlock
    };
    let disputed = disagreements.into_iter().map(|mut failure| {
        if failure.class == Class::Expectation {
            failure.class = class;
        }
        failure
    });
    blocked.into_iter().chain(disputed).collect()
}

/// Denied destinations that the model permits, and where nothing arrived.
fn over_blocked(evidence: &Evidence<'_>, model: &[ModelVerdict]) -> Vec<Failure> {
    let mut told: Vec<(SocketAddr, &str)> = Vec::new();
    let mut failures = Vec::new();
    for document in evidence.documents.iter().filter(|document| text(document, "verdict") == "DENIED") {
        let port = u16::try_from(number(document, "dst_port")).ok();
        let Some((ip, port)) = address(document, "dst_ip").zip(port) else { continue };
        let (to, l4_proto) = (SocketAddr::new(ip, port), text(document, "l4_proto"));
        let name = format!("{ip}:{port}");
        let permits = |verdict: &&ModelVerdict| {
            verdict.dst == name && verdict.l4_proto == l4_proto && verdict.verdict != "DENIED"
        };
        let Some(permitted) = model.iter().find(permits) else { continue };
        if told.contains(&(to, l4_proto)) || evidence.arrived(to) > 0 {
            continue;
        }
        told.push((to, l4_proto));
        let message = format!(
            "{l4_proto} to {to} is {} ({}), but it was denied and nothing arrived",
            permitted.verdict, permitted.because
        );
        failures.push(evidence.failure(Class::OverBlock, "rules", message, String::new()));
    }
    failures
}
