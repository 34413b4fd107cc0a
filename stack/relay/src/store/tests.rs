use std::collections::BTreeMap;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const ROOM: u64 = 4000;

fn request(sizes: &[usize]) -> ExportLogsServiceRequest {
    let record = |size: &usize| LogRecord {
        body: Some(AnyValue { value: Some(Value::StringValue("x".repeat(*size))) }),
        ..LogRecord::default()
    };
    let scope = ScopeLogs { log_records: sizes.iter().map(record).collect(), ..ScopeLogs::default() };
    let resource = ResourceLogs { scope_logs: vec![scope], ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![resource] }
}

fn open(folder: &TempDir) -> Store {
    Store::open(file(folder.path(), "envoy"), "n1".to_owned(), ROOM, false).expect("a file")
}

#[derive(Clone, Debug)]
enum Step {
    /// Requests that are committed together.
    Keep(Vec<Vec<usize>>),
    /// So many of the oldest are answered for, and so many of them refused.
    Settle(usize, u64),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sizes = prop::collection::vec(0..600_usize, 0..5);
    let step = prop_oneof![
        4 => prop::collection::vec(sizes, 1..4).prop_map(Step::Keep),
        3 => (0..12_usize, 0..4_u64).prop_map(|(number, rejected)| Step::Settle(number, rejected)),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Against a map in memory: order, bounds and the ledger, over restarts.
    #[test]
    fn the_file_is_a_bounded_queue_with_a_closed_ledger(steps in steps()) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut store = open(&folder);
        let (mut kept, mut next) = (BTreeMap::new(), 0_u64);
        let mut expected = Counts::default();
        for step in steps {
            match step {
                Step::Keep(requests) => {
                    let work = requests.iter().map(|sizes| Work::Keep(request(sizes))).collect();
                    for (done, sizes) in store.commit(work).expect("done").into_iter().zip(&requests) {
                        let number = sizes.len() as u64;
                        match done {
                            Done::Kept { oversized: 0 } => {
                                expected.accepted += number;
                                for size in sizes {
                                    kept.insert(next, *size);
                                    next += 1;
                                }
                            }
                            Done::Full => expected.refused += number,
                            other => prop_assert!(false, "{:?}", other),
                        }
                    }
                }
                Step::Settle(number, rejected) => {
                    let sequences: Vec<u64> = kept.keys().take(number).copied().collect();
                    kept.retain(|sequence, _| !sequences.contains(sequence));
                    let removed = sequences.len() as u64;
                    expected.rejected += rejected.min(removed);
                    expected.delivered += removed - rejected.min(removed);
                    // Twice: what is gone is not counted again.
                    let settle = || Work::Settle { sequences: sequences.clone(), rejected };
                    store.commit(vec![settle(), settle()]).expect("done");
                }
                Step::Reopen => {
                    drop(store);
                    store = open(&folder);
                }
            }
            let counts = store.counts().expect("counts");
            expected = Counts { next, pending: kept.len() as u64, bytes: counts.bytes, ..expected };
            prop_assert_eq!(counts, expected);
            prop_assert_eq!(counts.accepted, counts.delivered + counts.rejected + counts.pending);
            prop_assert!(counts.bytes <= ROOM);
            let oldest = store.oldest(usize::MAX, usize::MAX).expect("records");
            let all: u64 = oldest.iter().map(|one| one.record.len() as u64 + AROUND).sum();
            prop_assert_eq!(counts.bytes, all);
            prop_assert_eq!(oldest.iter().map(|one| one.sequence).collect::<Vec<_>>(), kept.keys().copied().collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_request_beyond_all_room_is_told_apart_from_one_that_may_come_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder);
    let done = store.commit(vec![
        Work::Keep(request(&[3000])),
        Work::Keep(request(&[3000])),
        Work::Keep(request(&[3000, 3000])),
    ]);
    assert_eq!(done.expect("done"), [Done::Kept { oversized: 0 }, Done::Full, Done::TooLarge]);
}

#[test]
fn the_newest_and_the_oldest_are_what_they_say() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder);
    store.commit(vec![Work::Keep(request(&[10; 9]))]).expect("done");
    let sequences = |records: Vec<Kept>| records.iter().map(|one| one.sequence).collect::<Vec<_>>();
    assert_eq!(sequences(store.newest(2).expect("records")), [8, 7]);
    assert_eq!(sequences(store.oldest(3, usize::MAX).expect("records")), [0, 1, 2]);
    assert_eq!(sequences(store.oldest(3, 1).expect("records")), [0]);
}
