//! What arrived on the far side, against the case and against the documents.

use std::{collections::BTreeMap, net::SocketAddr};

use serde_json::Value;

use super::evidence::{Evidence, address, describe, number, text};
use crate::{
    event::{Class, Failure, WireCount},
    scenario::types::WireExpectation,
};

/// Most destinations that are listed.
const MOST: usize = 12;

/// The case's own wire expectations, and that documents and wire agree on every TCP
/// connection, and on every destination of datagrams.
pub fn judge(evidence: &Evidence<'_>) -> Vec<Failure> {
    let mut failures: Vec<Failure> = Vec::new();
    let exact = evidence.wire.kernel_drops == 0;
    if !exact {
        let message = format!(
            "the capture lost {} packet(s), so what is missing proves nothing; run with fewer --jobs",
            evidence.wire.kernel_drops
        );
        failures.push(evidence.failure(Class::Environment, "expect", message, String::new()));
    }
    for (index, expectation) in evidence.cell.scenario.expect.wire.iter().enumerate() {
        failures.extend(expected(evidence, &format!("expect.wire[{index}]"), expectation));
    }
    for document in &evidence.documents {
        failures.extend(bytes(evidence, document));
        failures.extend(source(evidence, document));
    }
    failures.extend(segments(evidence));
    failures.extend(datagrams(evidence));
    // What was seen was there all the same.
    failures.retain(|failure| exact || matches!(failure.class, Class::Environment | Class::Leak));
    failures
}

fn expected(evidence: &Evidence<'_>, path: &str, expectation: &WireExpectation) -> Option<Failure> {
    let meant: Vec<&WireCount> =
        evidence.wire.counts.iter().filter(|count| is_meant(evidence, expectation, count)).collect();
    let packets: u64 = meant.iter().map(|count| count.packets).sum();
    let bytes: u64 = meant.iter().map(|count| count.bytes).sum();
    let mut wrong = Vec::new();
    if let Some(exactly) = expectation.packets.filter(|exactly| *exactly != packets) {
        wrong.push(format!("{packets} packet(s) arrived, not {exactly}"));
    }
    if let Some(least) = expectation.at_least.filter(|least| packets < *least) {
        wrong.push(format!("{packets} packet(s) arrived, not at least {least}"));
    }
    if let Some(exactly) = expectation.bytes.filter(|exactly| *exactly != bytes) {
        wrong.push(format!("{bytes} payload byte(s) arrived, not {exactly}"));
    }
    if wrong.is_empty() {
        return None;
    }
    let class = match (expectation.packets, packets) {
        (Some(0), 1..) => Class::Leak,
        (Some(1..), 0) => Class::OverBlock,
        (None, 0) if expectation.at_least.is_some_and(|least| least > 0) => Class::OverBlock,
        _ => Class::Expectation,
    };
    let message = format!("{path}: at {}: {}", expectation.to, wrong.join(", "));
    let rows = evidence.wire.counts.iter().map(|count| {
        format!("    {} {}: {} packets, {} bytes", count.l4_proto, count.dst, count.packets, count.bytes)
    });
    let mut rows: Vec<String> = rows.collect();
    if rows.len() > MOST {
        let more = rows.len() - MOST;
        rows.truncate(MOST);
        rows.push(format!("    and at {more} more"));
    }
    let detail = if rows.is_empty() {
        "arrived: nothing".to_owned()
    } else {
        format!("arrived:\n{}", rows.join("\n"))
    };
    Some(evidence.failure(class, path, message, detail))
}

/// Whether a count, of `address:port` or `address`, is what an expectation names.
pub(super) fn is_meant(evidence: &Evidence<'_>, expectation: &WireExpectation, count: &WireCount) -> bool {
    if expectation.proto.as_ref().is_some_and(|proto| *proto != count.l4_proto) {
        return false;
    }
    let (to, dst) = (expectation.to.as_str(), count.dst.as_str());
    if to == dst {
        return true;
    }
    let (ip, port) = match dst.parse::<SocketAddr>() {
        Ok(socket) => (socket.ip(), Some(socket.port())),
        Err(_) => match dst.parse() {
            Ok(ip) => (ip, None),
            Err(_) => return false,
        },
    };
    let (host, wanted) = match to.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() && !host.contains(':') => {
            (host, port.parse::<u16>().ok())
        }
        _ => (to, None),
    };
    let named = evidence.cell.scenario.host(host).is_some_and(|host| host.addr.contains(&ip));
    (named || host.parse() == Ok(ip)) && (wanted.is_none() || wanted == port)
}

/// A TCP document's bytes are those that crossed the wire, each counted once.
fn bytes(evidence: &Evidence<'_>, document: &Value) -> Option<Failure> {
    if text(document, "l4_proto") != "tcp" || text(document, "verdict") == "DENIED" {
        return None;
    }
    // A flow without a source never left, and one that the wire does not know carried nothing.
    let seen = socket(document, "src_ip", "src_port")
        .zip(socket(document, "actual_dst_ip", "actual_dst_port"))
        .and_then(|(agent, far)| {
            let mut connections = evidence.wire.connections.iter();
            connections.find(|connection| connection.agent == agent && connection.far == far)
        })
        .map_or((0, 0), |connection| (connection.bytes_out, connection.bytes_in));
    let recorded = (number(document, "bytes_out"), number(document, "bytes_in"));
    // What a bypass cut off was on its way when it was cut.
    let cut = text(document, "close_reason") == "bypass_ended";
    if cut || recorded == seen {
        return None;
    }
    let message = format!(
        "the document says {} bytes out and {} in, the wire {} and {}: {}",
        recorded.0,
        recorded.1,
        seen.0,
        seen.1,
        describe(document)
    );
    let far = socket(document, "actual_dst_ip", "actual_dst_port");
    let class = unlike(far.map_or(0, |far| evidence.arrived(far)));
    Some(evidence.failure(class, "expect", message, String::new()))
}

/// What a document of packets that left says they came from is what the wire says.
fn source(evidence: &Evidence<'_>, document: &Value) -> Option<Failure> {
    let far = socket(document, "actual_dst_ip", "actual_dst_port")?;
    let from = socket(document, "src_ip", "src_port");
    let seen: Vec<SocketAddr> = match text(document, "l4_proto") {
        "tcp" => evidence.wire.connections.iter().map(|one| (one.agent, one.far)).collect::<Vec<_>>(),
        "udp" => evidence.wire.datagrams.clone(),
        _ => return None,
    }
    .into_iter()
    .filter_map(|(agent, to)| (to == far).then_some(agent))
    .collect();
    // What stayed on the machine is no packet here, and what did not arrive at all is told elsewhere.
    let left = number(document, "packets_out") > 0 && text(document, "verdict") != "DENIED";
    if !left || seen.is_empty() || from.is_some_and(|from| seen.contains(&from)) {
        return None;
    }
    let seen: Vec<String> = seen.iter().take(MOST).map(ToString::to_string).collect();
    let from = from.map_or_else(|| "nowhere".to_owned(), |from| from.to_string());
    let message = format!(
        "the document says it came from {from}, the wire from {}: {}",
        seen.join(", "),
        describe(document)
    );
    Some(evidence.failure(Class::MisRecord, "expect", message, String::new()))
}

/// TCP documents count the segments of which the wire saw the packets. One packet can be several segments, but
/// each but one then carries payload; and who received something received a segment.
fn segments(evidence: &Evidence<'_>) -> Vec<Failure> {
    let mut failures = Vec::new();
    let mut recorded: BTreeMap<SocketAddr, (u64, u64)> = BTreeMap::new();
    for document in &evidence.documents {
        let far = socket(document, "actual_dst_ip", "actual_dst_port");
        let cut = text(document, "close_reason") == "bypass_ended";
        let Some(far) = far.filter(|_| text(document, "l4_proto") == "tcp" && !cut) else { continue };
        for (bytes, packets) in [("bytes_in", "packets_in"), ("bytes_out", "packets_out")] {
            if number(document, bytes) > 0 && number(document, packets) == 0 {
                let message = format!("{bytes} without {packets}: {}", describe(document));
                failures.push(evidence.failure(Class::MisRecord, "expect", message, String::new()));
            }
        }
        let (segments, most) = recorded.entry(far).or_default();
        *segments += number(document, "packets_out");
        // A reset without payload is not counted on the wire.
        *most += number(document, "bytes_out") + 1;
    }
    for (far, (segments, most)) in recorded {
        let packets = evidence.arrived(far);
        if packets > 0 && segments > packets + most {
            let message = format!(
                "the documents say {segments} segments of TCP went to {far}, the wire {packets} packets"
            );
            failures.push(evidence.failure(Class::MisRecord, "expect", message, String::new()));
        }
    }
    failures
}

/// The class where a document of traffic that passed is not what `packets` on the wire are: without any it
/// was blocked, otherwise it is the document that is wrong.
const fn unlike(packets: u64) -> Class {
    if packets == 0 { Class::OverBlock } else { Class::MisRecord }
}

fn socket(document: &Value, ip: &str, port: &str) -> Option<SocketAddr> {
    Some(SocketAddr::new(address(document, ip)?, u16::try_from(number(document, port)).ok()?))
}

/// What the UDP documents of a destination sent, taken together, is what arrived there.
fn datagrams(evidence: &Evidence<'_>) -> Vec<Failure> {
    let mut recorded: BTreeMap<SocketAddr, u64> = BTreeMap::new();
    for document in &evidence.documents {
        if text(document, "l4_proto") != "udp" || text(document, "verdict") == "DENIED" {
            continue;
        }
        let Some(ip) = address(document, "actual_dst_ip") else { continue };
        // What an agent sends to itself crosses no wire.
        if ip.is_loopback() || evidence.agents.iter().any(|agent| agent.addresses.contains(&ip)) {
            continue;
        }
        let Ok(port) = u16::try_from(number(document, "actual_dst_port")) else { continue };
        *recorded.entry(SocketAddr::new(ip, port)).or_default() += number(document, "bytes_out");
    }
    let arrived = |to: SocketAddr| -> u64 {
        let counts = evidence
            .wire
            .counts
            .iter()
            .filter(|count| count.l4_proto == "udp" && count.dst.parse() == Ok(to));
        counts.map(|count| count.bytes).sum()
    };
    // What is missing may be of a document that was lost, which is for the ledger to tell.
    let lost = evidence.lost() > 0;
    let differ =
        recorded.into_iter().filter(|(to, bytes)| *bytes != arrived(*to) && !(lost && *bytes < arrived(*to)));
    differ
        .map(|(to, bytes)| {
            let message = format!(
                "the documents say {bytes} bytes of datagrams went to {to}, the wire {}",
                arrived(to)
            );
            evidence.failure(unlike(evidence.arrived(to)), "expect", message, String::new())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{super::sample, *};
    use crate::wire::TcpConnection;

    fn classes(change: impl FnOnce(&mut Evidence<'_>)) -> Vec<Class> {
        let cell = sample::cell();
        let mut evidence = sample::evidence(&cell);
        change(&mut evidence);
        judge(&evidence).into_iter().map(|failure| failure.class).collect()
    }

    #[test]
    fn what_is_missing_from_a_capture_with_drops_is_the_environments_fault() {
        assert_eq!(classes(|_| {}), [Class::OverBlock]);
        assert_eq!(classes(|evidence| evidence.wire.kernel_drops = 1), [Class::Environment]);
    }

    #[test]
    fn bytes_that_differ_make_the_document_wrong_and_none_at_all_a_block() {
        let mut document = sample::document();
        document["attributes"]["src_ip"] = "192.0.2.2".into();
        document["attributes"]["src_port"] = 40_000.into();
        document["attributes"]["actual_dst_ip"] = "198.51.100.7".into();
        document["attributes"]["actual_dst_port"] = 443.into();
        document["attributes"]["bytes_out"] = 5.into();
        document["attributes"]["packets_out"] = 3.into();
        let arrived =
            |packets| WireCount { dst: "198.51.100.7:443".to_owned(), packets, ..WireCount::default() };
        let with = |counts: Vec<WireCount>| {
            classes(|evidence| {
                evidence.documents = vec![document.clone()];
                evidence.wire.counts = counts;
            })
        };
        assert_eq!(with(vec![arrived(3)]), [Class::MisRecord]);
        assert_eq!(with(Vec::new()), [Class::OverBlock, Class::OverBlock]);
    }

    #[test]
    fn source_and_segments_are_those_of_the_wire() {
        let far: SocketAddr = "198.51.100.7:443".parse().expect("an address");
        let agent: SocketAddr = "192.0.2.2:40000".parse().expect("an address");
        let with = |src_port: u64, packets_out: u64| {
            let mut document = sample::document();
            let fields = &mut document["attributes"];
            fields["src_ip"] = "192.0.2.2".into();
            fields["src_port"] = src_port.into();
            fields["actual_dst_ip"] = "198.51.100.7".into();
            fields["actual_dst_port"] = 443.into();
            fields["packets_out"] = packets_out.into();
            classes(|evidence| {
                evidence.documents = vec![document];
                let count = WireCount { dst: far.to_string(), packets: 4, ..WireCount::default() };
                evidence.wire.counts = vec![count];
                let (arrived, bytes_out, bytes_in) = (0, 0, 0);
                evidence.wire.connections = vec![TcpConnection { agent, far, arrived, bytes_out, bytes_in }];
            })
        };
        assert_eq!(with(40_000, 4), []);
        assert_eq!(with(40_001, 4), [Class::MisRecord]);
        assert_eq!(with(40_000, 40), [Class::MisRecord]);
    }
}
