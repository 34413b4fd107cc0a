//! Escapes that are known: what arrives by one is no leak, and what closes one is a failure, so that
//! a change is seen.

use std::net::SocketAddr;

use super::{
    evidence::{Evidence, address, describe, number},
    wire::is_meant,
};
use crate::{
    event::{Class, Failure, WireCount},
    scenario::types::{Leak, WireExpectation},
};

/// What a failure of a known escape adds.
pub(super) const CLOSED: &str = "the escape is closed; \
     remove `leak: known`, say what stops or records it now, and strike it off the list of known escapes";

/// Expectations of a case that shows a known escape.
fn escapes<'a>(evidence: &'a Evidence<'_>) -> impl Iterator<Item = (usize, &'a WireExpectation)> {
    let expect = &evidence.cell.scenario.expect;
    let known = expect.leak == Some(Leak::Known);
    expect.wire.iter().enumerate().filter(move |(_, wire)| known && wire.wants_packets())
}

/// Whether what arrived here is what the case says escapes.
pub(super) fn is_known(evidence: &Evidence<'_>, count: &WireCount) -> bool {
    escapes(evidence).any(|(_, wire)| is_meant(evidence, wire, count))
}

/// What shows that an escape is closed: it did not arrive, or a document tells of it.
pub fn judge(evidence: &Evidence<'_>) -> Vec<Failure> {
    let mut failures = Vec::new();
    for (index, wire) in escapes(evidence) {
        let path = format!("expect.wire[{index}]");
        if !evidence.wire.counts.iter().any(|count| count.packets > 0 && is_meant(evidence, wire, count)) {
            let message = format!("{path}: nothing arrived at {}: {CLOSED}", wire.to);
            failures.push(evidence.failure(Class::Expectation, &path, message, String::new()));
        }
        for document in &evidence.documents {
            let Some(ip) = address(document, "dst_ip") else { continue };
            let port = u16::try_from(number(document, "dst_port")).unwrap_or_default();
            let to_port = WireCount { dst: SocketAddr::new(ip, port).to_string(), ..WireCount::default() };
            let to_address = WireCount { dst: ip.to_string(), ..WireCount::default() };
            let any_proto = WireExpectation { proto: None, ..wire.clone() };
            if [to_port, to_address].iter().any(|count| is_meant(evidence, &any_proto, count)) {
                let message = format!("a document tells of {}: {CLOSED}: {}", wire.to, describe(document));
                failures.push(evidence.failure(Class::Expectation, &path, message, String::new()));
            }
        }
    }
    failures
}
