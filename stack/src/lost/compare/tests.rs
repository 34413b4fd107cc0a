#![expect(clippy::arithmetic_side_effects, reason = "what overflows here fails the test")]

use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::lost::{Tally, Who};

const WINDOW: Window = Window { from: 10_000, until: 90_000, before: 20, after: 20 };

fn who(agent: u8) -> Who {
    Who { agent: format!("agent {agent}"), ..Who::default() }
}

fn key(agent: u8, port: u16) -> Key {
    Key::new([198, 18, 0, agent].into(), port, Some(15_443))
}

fn flow(agent: u8, port: u16, begin: i64, end: i64) -> Flow {
    let id = format!("f{agent}-{port}-{begin}");
    Flow { key: key(agent, port), begin, end, id, who: who(agent), taken: true, silent: false, questions: 0 }
}

fn document(agent: u8, port: u16, begin: i64) -> Document {
    let id = format!("d{agent}-{port}-{begin}");
    Document { key: key(agent, port), begin, id, who: who(agent), over: true }
}

fn compared(mut flows: Vec<Flow>, mut documents: Vec<Document>) -> Lost {
    flows.sort_by_key(|flow| (flow.key, flow.end));
    documents.sort_by_key(|document| (document.key, document.begin));
    let (flows, documents) = (flows.into_iter().map(Ok), documents.into_iter().map(Ok));
    compare::<Infallible>(flows, documents, &WINDOW).expect("nothing fails")
}

fn tally(flows: Vec<Flow>, documents: Vec<Document>) -> Tally {
    compared(flows, documents).of_agent("agent 1")
}

#[test]
fn every_flow_is_in_one_place() {
    let not_taken = Flow { taken: false, ..flow(1, 3, 20_000, 20_100) };
    let silent = Flow { silent: true, ..flow(1, 4, 20_000, 20_100) };
    let flows = vec![
        flow(1, 1, 20_000, 20_100),
        flow(1, 2, 20_000, 20_100),
        not_taken,
        silent,
        flow(1, 5, 20_000, 90_001),
        // Before the window: neither judged, nor are its documents strange.
        flow(1, 6, 8_000, 9_999),
    ];
    let documents = vec![document(1, 1, 20_050), document(1, 1, 20_060), document(1, 6, 10_010)];
    let expected =
        Tally { told: 1, lost: 1, not_taken: 1, silent: 1, young: 1, documents: 3, ..Tally::default() };
    assert_eq!(tally(flows, documents), expected);
}

#[test]
fn a_document_without_a_flow_is_strange_once_its_flow_is_over() {
    let open = Document { over: false, ..document(1, 2, 20_000) };
    let documents = vec![document(1, 1, 20_000), open, document(1, 3, 90_001), document(1, 4, 9_999)];
    assert_eq!(tally(Vec::new(), documents), Tally { strange: 1, open: 1, ..Tally::default() });
}

#[test]
fn what_came_twice_counts_once() {
    let flows = vec![
        flow(1, 1, 20_000, 20_100),
        flow(1, 1, 20_000, 20_100),
        flow(1, 2, 20_000, 20_100),
        flow(1, 2, 20_000, 20_100),
    ];
    let documents = vec![document(1, 1, 20_000), document(1, 1, 20_000)];
    assert_eq!(tally(flows, documents), Tally { told: 1, lost: 1, documents: 1, ..Tally::default() });
}

#[test]
fn a_port_that_is_used_again_is_another_flow() {
    // The second has none: what is nearer to the first is not taken for its.
    let flows = vec![flow(1, 1, 20_000, 20_100), flow(1, 1, 20_110, 20_200)];
    let documents = vec![document(1, 1, 20_090), document(1, 1, 20_102)];
    assert_eq!(tally(flows, documents), Tally { told: 1, lost: 1, documents: 2, ..Tally::default() });
    // A port of the emitter's own tells them apart at one time.
    let mut other = flow(1, 1, 20_000, 20_100);
    other.key.at = 16_000;
    let told = tally(vec![flow(1, 1, 20_000, 20_100), other], vec![document(1, 1, 20_050)]);
    assert_eq!(told, Tally { told: 1, lost: 1, documents: 1, ..Tally::default() });
}

#[test]
fn several_flows_of_one_time_share_what_is_there() {
    // As of a socket that asks two name servers, whose documents do not say which.
    let flows = vec![flow(1, 1, 20_000, 20_100), flow(1, 1, 20_000, 20_200)];
    let documents = vec![document(1, 1, 20_010), document(1, 1, 20_020)];
    assert_eq!(tally(flows, documents), Tally { told: 2, documents: 2, ..Tally::default() });
}

#[test]
fn of_questions_each_is_to_be_told_of() {
    let asked = |port, questions| Flow { questions, ..flow(1, port, 20_000, 20_100) };
    // One of three, none of two, which is a flow that is lost, and more than there were.
    let flows = vec![asked(1, 3), asked(2, 2), asked(3, 1)];
    let documents = vec![document(1, 1, 20_010), document(1, 3, 20_010), document(1, 3, 20_020)];
    assert_eq!(
        tally(flows, documents),
        Tally { told: 2, lost: 1, documents: 3, untold: 2, ..Tally::default() }
    );
    // One socket that asks two name servers at once, whose documents do not say which.
    let flows = vec![asked(1, 1), Flow { id: "other".to_owned(), ..asked(1, 5) }];
    let documents = (0..6).map(|at| document(1, 1, 20_010 + at)).collect();
    assert_eq!(tally(flows, documents), Tally { told: 2, documents: 6, ..Tally::default() });
}

#[test]
fn what_is_told_as_another_containers_is_not_told() {
    let of = |id: &str| Who { container_id: id.to_owned(), ..who(1) };
    let flows = [1, 2, 3].map(|port| Flow { who: of("one"), ..flow(1, port, 20_000, 20_100) }).to_vec();
    // As where an address has gone from one to the other; whom an emitter does not know is anybody.
    let told = |port, id| Document { who: of(id), ..document(1, port, 20_010) };
    let documents = vec![told(1, "one"), told(2, "two"), told(3, "")];
    assert_eq!(
        tally(flows, documents),
        Tally { told: 2, lost: 1, documents: 2, strange: 1, ..Tally::default() }
    );
}

#[test]
fn the_first_error_is_handed_on() {
    let flows = [Ok(flow(1, 1, 20_000, 20_100)), Err("no more")];
    assert_eq!(compare(flows.into_iter(), std::iter::empty(), &WINDOW).err(), Some("no more"));
}

/// A flow, and its documents.
type Connection = (Flow, Vec<(Document, bool, bool)>);

/// A container's connections from one port, one after the other, each with the instants of its documents, whether each of
/// these is there, and whether it is there twice.
fn connections() -> impl Strategy<Value = Vec<Connection>> {
    let one = (
        50_i64..400,
        1_i64..3_000,
        prop::collection::vec((0.0..=1.0_f64, any::<bool>(), any::<bool>()), 0..4),
    );
    let of_port = prop::collection::vec(one, 0..60);
    prop::collection::vec(of_port, 1..4).prop_map(|ports| {
        let mut all = Vec::new();
        for (port, connections) in (1..).zip(ports) {
            let (agent, mut now) = (1 + (port % 2) as u8, 5_000);
            for (pause, length, documents) in connections {
                // Longer than both margins, as a port is not free at once.
                let begin = now + pause;
                now = begin + length;
                let at = |share: f64| begin + (length as f64 * share) as i64;
                let mut documents: Vec<_> = documents
                    .into_iter()
                    .map(|(share, there, twice)| (document(agent, port, at(share)), there, twice))
                    .collect();
                documents.dedup_by_key(|(document, ..)| document.begin);
                documents.sort_by_key(|(document, ..)| document.begin);
                documents.dedup_by_key(|(document, ..)| document.begin);
                all.push((flow(agent, port, begin, now), documents));
            }
        }
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Of connections that are told apart by their times, exactly those are lost that have no document, whatever the
    /// number, the order of arrival, and what came twice.
    #[test]
    fn lost_is_what_has_no_document(connections in connections()) {
        let mut flows = Vec::new();
        let mut documents = Vec::new();
        let mut expected = Lost::default();
        for (flow, of_flow) in connections {
            let there: Vec<_> = of_flow.into_iter().filter(|(_, there, _)| *there).collect();
            for (document, _, twice) in there.iter() {
                if WINDOW.is_within(document.begin) {
                    expected.of(&document.who).documents += 1;
                }
                documents.extend(vec![document.clone(); 1 + usize::from(*twice)]);
            }
            expected.judge(&flow, there.len() as u64, &WINDOW);
            flows.push(flow);
        }
        prop_assert_eq!(compared(flows, documents), expected);
    }

    /// Without the flows, every document is strange, and none is counted elsewhere.
    #[test]
    fn without_flows_all_is_strange(connections in connections()) {
        let documents: Vec<_> = connections.into_iter().flat_map(|(_, documents)| documents).map(|(document, ..)| document).collect();
        let within = documents.iter().filter(|document| WINDOW.is_within(document.begin)).count();
        let lost = compared(Vec::new(), documents);
        let strange: u64 = lost.rows().iter().map(|row| row.tally.strange).sum();
        prop_assert_eq!(strange, within as u64);
        prop_assert_eq!(lost.rows().iter().map(|row| row.tally.documents + row.tally.open).sum::<u64>(), 0);
    }

    /// Overlapping flows of one key, as a container can make them: nothing is counted twice and nothing vanishes.
    #[test]
    fn every_flow_and_document_is_counted_once(
        flows in prop::collection::vec((1_u16..3, 0_i64..100_000, 0_i64..50_000), 0..700),
        documents in prop::collection::vec((1_u16..3, 0_i64..100_000), 0..700),
    ) {
        let flows: Vec<_> = flows.into_iter().enumerate().map(|(i, (port, begin, length))| Flow {
            id: format!("{i}"), ..flow(1, port, begin, begin + length)
        }).collect();
        let documents: Vec<_> = documents.into_iter().enumerate().map(|(i, (port, begin))| Document {
            id: format!("{i}"), ..document(1, port, begin)
        }).collect();
        let judged = flows.iter().filter(|flow| flow.end >= WINDOW.from).count() as u64;
        let within = documents.iter().filter(|document| WINDOW.is_within(document.begin)).count() as u64;
        let Tally { told, lost, silent, not_taken, young, documents, strange, open, .. } = tally(flows, documents);
        prop_assert_eq!(told + lost + silent + not_taken + young, judged);
        prop_assert_eq!(documents + strange + open, within);
    }
}
