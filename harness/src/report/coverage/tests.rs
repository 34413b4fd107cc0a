use std::net::SocketAddr;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::event::{CallReport, StepReport};

fn cell(result: Outcome) -> CellReport {
    CellReport {
        result,
        ..CellReport::new("topic/file::name", "scenarios/topic/file.yaml", "topic", Tier::Lab)
    }
}

fn step(transport: Transport, outcome: &str, dst: Option<&str>, families: &[IpFamily]) -> StepReport {
    let call = CallReport {
        agent: "scout".into(),
        outcome: outcome.into(),
        expected: outcome.into(),
        detail: String::new(),
        dst: dst.map(|dst| dst.parse::<SocketAddr>().expect("an address")),
        src: None,
        sent: 0,
        received: 0,
        stdout: String::new(),
        stderr: String::new(),
    };
    StepReport {
        path: "steps[0]".into(),
        text: String::new(),
        transport: Some(transport),
        families: families.to_vec(),
        call: Some(call),
    }
}

fn document(verdict: &str, l4_proto: &str, dst: Option<(&str, u16)>) -> Value {
    let mut attributes =
        json!({"verdict": verdict, "l4_proto": l4_proto, "hook": "connect", "direction": "outbound"});
    if let Some((ip, port)) = dst {
        attributes["dst_ip"] = ip.into();
        attributes["dst_port"] = port.into();
    }
    json!({ "attributes": attributes })
}

fn names(cell: &CellReport) -> Vec<String> {
    covers(cell).iter().map(ToString::to_string).collect()
}

#[test]
fn the_step_tells_a_mapped_address_and_a_multipath_socket_which_no_document_does() {
    let mut cell = cell(Outcome::Pass);
    cell.steps = vec![
        step(Transport::Udp, "EPERM", Some("[::ffff:198.51.100.7]:9"), &[]),
        step(Transport::Udp, "EPERM", Some("198.51.100.7:9"), &[]),
        step(Transport::Mptcp, "ok", Some("[2001:db8::7]:443"), &[]),
    ];
    cell.documents = vec![
        document("DENIED", "udp", Some(("198.51.100.7", 9))),
        document("DENIED", "udp", Some(("198.51.100.7", 9))),
        document("ALLOWED", "tcp", Some(("2001:db8::7", 443))),
    ];
    cell.asserted = vec![0, 1, 2];
    assert_eq!(names(&cell), ["mptcp/v6/ALLOWED", "udp/v4/DENIED", "udp/v4-mapped/DENIED"]);
    cell.asserted = vec![2];
    assert_eq!(names(&cell), ["mptcp/v6/ALLOWED"], "what nothing asserts covers nothing");
}

#[test]
fn a_socket_that_is_not_made_is_known_by_what_was_asked_for() {
    let mut cell = cell(Outcome::Pass);
    cell.documents = vec![document("DENIED", "udp", None)];
    cell.asserted = vec![0];
    assert!(names(&cell).is_empty(), "nobody knows what it was");
    cell.steps = vec![step(Transport::Raw, "EPERM", None, &[IpFamily::V6, IpFamily::Mapped])];
    assert_eq!(names(&cell), ["raw/v6/DENIED"], "raw sockets have no mapped addresses");
    cell.steps = vec![step(Transport::Udplite, "EPERM", None, &[IpFamily::V6, IpFamily::Mapped])];
    cell.documents = vec![document("DENIED", "udplite", None)];
    assert_eq!(names(&cell), ["udplite/v6/DENIED", "udplite/v4-mapped/DENIED"]);
}

#[test]
fn of_programs_the_documents_tell() {
    let mut cell = cell(Outcome::Pass);
    let mut raw = document("DENIED", "icmp", Some(("198.51.100.7", 0)));
    raw["attributes"]["reason"] = "no_flow".into();
    let mut inbound = document("ALLOWED", "udp", Some(("198.51.100.7", 0)));
    inbound["attributes"]["direction"] = "inbound".into();
    let mut astray = document("BYPASSED", "tcp", Some(("198.51.100.7", 0)));
    astray["attributes"]["hook"] = "egress".into();
    cell.documents = vec![raw, inbound, astray, document("ALLOWED", "icmpv6", Some(("2001:db8::7", 0)))];
    cell.asserted = vec![0, 1, 2, 3, 4];
    assert_eq!(names(&cell), ["icmp/v6/ALLOWED", "raw/v4/DENIED"]);
}

#[test]
fn what_did_not_run_counts_where_its_text_says() {
    let declared =
        vec![Position { transport: Transport::Sctp, family: IpFamily::V4, verdict: Verdict::Bypassed }];
    let mut coverage = Coverage::default();
    for result in [Outcome::Pass, Outcome::Skip, Outcome::Fail] {
        coverage.add(&CellReport { declared: declared.clone(), ..cell(result) });
    }
    let place = coverage.place(declared[0]);
    assert_eq!(place.cells, [(1, Outcome::Skip), (2, Outcome::Fail)]);
    assert!(!place.is_blank());
}

#[test]
fn every_place_is_covered_or_has_a_reason_or_is_blank() {
    let mut coverage = Coverage::default();
    let sum = coverage.summary();
    assert_eq!(sum.covered + sum.cannot + sum.blank, Transport::iter().count() * 9);
    assert_eq!(sum.blank, coverage.blanks().len());
    let message = coverage.require().expect_err("nothing ran");
    assert!(message.contains("sctp/v4/BYPASSED") && !message.contains("raw/v4/ALLOWED"), "{message}");

    // The kernel's refusal is a reason only where a case asked it.
    let mut refused = cell(Outcome::Pass);
    refused.steps = vec![step(Transport::Sctp, "EPROTONOSUPPORT", None, &[IpFamily::V4])];
    coverage.add(&refused);
    assert_eq!(coverage.summary().blank, sum.blank - 3);
    let place = coverage.place(Position {
        transport: Transport::Sctp,
        family: IpFamily::V4,
        verdict: Verdict::Denied,
    });
    assert_eq!(place.cannot.as_deref(), Some("this kernel has none: EPROTONOSUPPORT in topic/file::name"));
}

#[test]
fn what_cannot_be_and_is_seen_is_told() {
    let mut seen = cell(Outcome::Pass);
    seen.steps = vec![step(Transport::Raw, "ok", Some("198.51.100.7:9"), &[])];
    seen.documents = vec![document("ALLOWED", "255", Some(("198.51.100.7", 0)))];
    seen.asserted = vec![0];
    let mut coverage = Coverage::default();
    coverage.add(&seen);
    assert_eq!(
        coverage.contradicted().iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["raw/v4/ALLOWED"]
    );
    assert_eq!(coverage.summary().contradicted, 1);
}

proptest! {
    /// Whatever documents and steps say, nothing is covered that no asserted document has the verdict of.
    #[test]
    fn no_verdict_is_made_up(
        documents in prop::collection::vec(("ALLOWED|DENIED|BYPASSED|\\PC{0,4}", "tcp|udp|icmp|255|\\PC{0,3}", "198\\.51\\.100\\.[0-9]|2001:db8::[0-9]|\\PC{0,4}", any::<u16>()), 0..6),
        asserted in prop::collection::vec(0_usize..8, 0..6),
    ) {
        let mut cell = cell(Outcome::Pass);
        cell.steps = vec![step(Transport::Udp, "ok", Some("[2001:db8::7]:9"), &[]), step(Transport::Raw, "EPERM", None, &[IpFamily::V4])];
        cell.documents = documents.iter().map(|(verdict, proto, ip, port)| document(verdict, proto, Some((ip, *port)))).collect();
        cell.asserted = asserted;
        let verdicts: Vec<&str> = cell.asserted.iter().filter_map(|at| documents.get(*at)).map(|one| one.0.as_str()).collect();
        for position in covers(&cell) {
            prop_assert!(verdicts.contains(&position.verdict.as_str()));
        }
    }
}
