//! Where in the table a cell belongs, from what it says and what was seen.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use abi::Verdict;
use serde_json::Value;

use super::{super::tally::attribute, cannot};
use crate::{
    event::{CellReport, Outcome, StepReport},
    transport::{IpFamily, Position, Transport},
};

/// The places that a cell covers. One that passed covers what was seen of what it asserts; one that
/// failed, that and what its text names; one that was skipped, what its text names.
pub fn covers(cell: &CellReport) -> BTreeSet<Position> {
    let mut places: BTreeSet<Position> = BTreeSet::new();
    if cell.result != Outcome::Skip {
        // A step tells of one document before it tells of two.
        let mut told = vec![0_usize; cell.steps.len()];
        for document in cell.asserted.iter().filter_map(|at| cell.documents.get(*at)) {
            places.extend(of_document(document, &cell.steps, &mut told));
        }
    }
    if cell.result != Outcome::Pass {
        places.extend(&cell.declared);
    }
    // Refusing an IPv6 socket refuses its mapped addresses too, but not all kinds have those.
    places.retain(|place| place.family != IpFamily::Mapped || cannot::because(*place).is_none());
    places
}

/// A document's places: its own verdict; transport and family of the step that it is of. Where no
/// step tells, as of a program's sockets, what the document says by itself.
fn of_document(document: &Value, steps: &[StepReport], told: &mut [usize]) -> Vec<Position> {
    let verdict = word(document, "verdict");
    let Some(&verdict) = Verdict::ALL.iter().find(|known| known.as_str() == verdict) else {
        return Vec::new();
    };
    // What a peer opens is nobody's attempt.
    if word(document, "direction") == "inbound" {
        return Vec::new();
    }
    let step = (0..steps.len())
        .filter(|at| is_of(document, &steps[*at]))
        .min_by_key(|at| (told[*at], !same_port(document, &steps[*at])));
    let (transport, families) = match step {
        Some(at) => {
            told[at] += 1;
            (steps[at].transport, families(&steps[at]))
        }
        None => {
            (by_itself(document), destination(document).map(|(ip, _)| own_family(ip)).into_iter().collect())
        }
    };
    let Some(transport) = transport else { return Vec::new() };
    families.into_iter().map(|family| Position { transport, family, verdict }).collect()
}

/// Whether a document can be of a step's socket.
fn is_of(document: &Value, step: &StepReport) -> bool {
    let (Some(transport), Some(call)) = (step.transport, &step.call) else { return false };
    if !transport.speaks(word(document, "l4_proto")) {
        return false;
    }
    match (destination(document), call.dst) {
        // Where `sock_create` decided there is no destination yet; TCP, UDP and ping pass it.
        (None, _) => !matches!(transport, Transport::Tcp | Transport::Udp | Transport::Icmp),
        (Some((ip, port)), Some(dst)) => {
            let portless = matches!(transport, Transport::Icmp | Transport::Raw);
            dst.ip().to_canonical() == ip.to_canonical() && (portless || dst.port() == port)
        }
        (Some(_), None) => false,
    }
}

/// What a step's socket reached, or could have.
fn families(step: &StepReport) -> Vec<IpFamily> {
    match step.call.as_ref().and_then(|call| call.dst) {
        Some(dst) => vec![IpFamily::of(dst)],
        None => step.families.clone(),
    }
}

/// Whether the step's socket had the document's source port: tells steps with one destination apart.
fn same_port(document: &Value, step: &StepReport) -> bool {
    let own = step.call.as_ref().and_then(|call| call.src).map(|src| u64::from(src.port()));
    own.is_some() && own == attribute(document, "src_port").and_then(Value::as_u64)
}

/// The transport, as far as a document tells. Only raw sockets are denied for want of a flow; TCP that
/// was first seen as a packet may be anything.
fn by_itself(document: &Value) -> Option<Transport> {
    match (word(document, "hook"), word(document, "reason"), word(document, "l4_proto")) {
        (_, "no_flow", _) => Some(Transport::Raw),
        ("egress", _, "tcp") => None,
        (_, _, l4_proto) => Transport::named(l4_proto),
    }
}

/// What the agent tried.
fn destination(document: &Value) -> Option<(IpAddr, u16)> {
    let ip = word(document, "dst_ip").parse().ok()?;
    let port = attribute(document, "dst_port").and_then(Value::as_u64).unwrap_or_default();
    Some((ip, u16::try_from(port).ok()?))
}

/// Documents have IPv4 in its own form, whatever socket it came from.
fn own_family(ip: IpAddr) -> IpFamily {
    IpFamily::of(SocketAddr::new(ip.to_canonical(), 0))
}

fn word<'d>(document: &'d Value, name: &str) -> &'d str {
    attribute(document, name).and_then(Value::as_str).unwrap_or_default()
}
