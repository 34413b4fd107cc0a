use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use abi::flow_flag;
use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::{document::sample, drain::encode};

const CLOCK: Offset = Offset::new(0, 0);

fn record(container: u64, port: u16) -> Record {
    let mut record = sample::record();
    record.flow.cgroup_id = container;
    record.flow.dst_port = port;
    record
}

fn fold(container: u64, count: u64, total: u64) -> Record {
    let mut record = record(container, 9);
    record.flow.flags |= flow_flag::FOLDED;
    record.flow.cookie = total;
    record.event_count = count;
    record
}

fn open(dir: &Path, bound: u64) -> (Spool, Recovered) {
    Spool::open(dir, bound).unwrap()
}

fn records(spool: &Spool) -> Vec<(u64, u16)> {
    let batch = spool.read(usize::MAX).unwrap();
    assert!(batch.damaged.is_empty(), "{:?}", batch.damaged);
    let port = |entry: &Entry| match entry.content {
        Content::Record(record) => Some((entry.sequence, record.flow.dst_port)),
        Content::Loss(_) => None,
    };
    batch.entries.iter().filter_map(port).collect()
}

fn losses(spool: &Spool) -> Vec<Loss> {
    let loss = |entry: &Entry| match entry.content {
        Content::Record(_) => None,
        Content::Loss(loss) => Some(loss),
    };
    spool.read(usize::MAX).unwrap().entries.iter().filter_map(loss).collect()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == "segment")).collect();
    paths.sort();
    paths
}

#[test]
fn what_is_read_stays_until_it_is_settled_and_a_restart_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, recovered) = open(folder.path(), 10);
    let mut producer = spool.producer();
    producer.attach(3, CLOCK, &recovered);
    for at in 0..5 {
        assert_eq!(producer.push(&record(1, at), u64::from(at) * 8, 0), Stored::At(at.into()));
    }
    drop(producer);
    let batch = spool.read(3).unwrap();
    assert_eq!(batch, spool.read(3).unwrap());
    assert_eq!(spool.settle(&batch, &Rejected::new()).attempts, 3);
    assert_eq!((records(&spool), spool.depth()), (vec![(3, 3), (4, 4)], 2));
    let nonce = spool.nonce();
    drop(spool);
    let (spool, recovered) = open(folder.path(), 10);
    assert_eq!((records(&spool), spool.depth(), spool.nonce()), (vec![(3, 3), (4, 4)], 2, nonce));
    assert_eq!((recovered.ring.id, recovered.accounted), (3, 33));
}

#[test]
fn the_bound_counts_what_is_not_settled_and_losses_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, recovered) = open(folder.path(), 2);
    let mut producer = spool.producer();
    producer.attach(3, CLOCK, &recovered);
    for at in 0..2 {
        assert_eq!(producer.push(&record(1, 0), at, 0), Stored::At(at));
    }
    assert_eq!(producer.push(&record(1, 0), 2, 70), Stored::Full);
    assert_eq!(producer.push(&record(1, 0), 3, 90), Stored::Full);
    assert!(!producer.push_fold(&fold(1, 5, 5)), "it comes again");
    assert_eq!(producer.undecodable(4, 95), Stored::Full);
    producer.document_losses();
    producer.document_losses();
    drop(producer);
    let mut told = losses(&spool);
    told.sort_by_key(|loss| loss.cgroup_id);
    let loss = |cgroup_id, point, added, first_ns, last_ns| Loss {
        cgroup_id,
        point,
        added,
        total: added,
        first_ns,
        last_ns,
    };
    let expected = [loss(0, LossPoint::Decode, 1, 95, 95), loss(1, LossPoint::SpoolFull, 2, 70, 90)];
    assert_eq!(told, expected);
    spool.settle(&spool.read(9).unwrap(), &Rejected::new());
    drop(spool);

    let (spool, recovered) = open(folder.path(), 2);
    let mut producer = spool.producer();
    producer.attach(3, CLOCK, &recovered);
    producer.document_losses();
    assert_eq!(producer.push(&record(1, 0), 3, 0), Stored::Again, "a loss is not counted twice either");
    assert_eq!(producer.push(&record(1, 7), 5, 0), Stored::At(4));
    drop(producer);
    assert_eq!(records(&spool), [(4, 7)], "what is told is not told again");
}

#[test]
fn segments_that_are_settled_are_removed_and_the_next_ring_begins_one() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, recovered) = open(folder.path(), 1 << 20);
    let slots = u64::from(writer::SLOTS);
    let mut producer = spool.producer();
    producer.attach(3, CLOCK, &recovered);
    for at in 0..2 * slots + 5 {
        producer.push(&record(1, 1), at, 0);
    }
    producer.attach(4, CLOCK, &recovered);
    producer.push(&record(1, 2), 0, 0);
    producer.attach(5, CLOCK, &recovered);
    assert_eq!(producer.push(&record(1, 3), 0, 0), Stored::At(2 * slots + 6));
    drop(producer);
    assert_eq!(segments(folder.path()).len(), 5);
    let all = records(&spool);
    assert_eq!(all.len() as u64, 2 * slots + 7);
    assert_eq!(all.last(), Some(&(2 * slots + 6, 3)));
    let batch = spool.read(slots as usize).unwrap();
    spool.settle(&batch, &Rejected::new());
    assert_eq!(segments(folder.path()).len(), 4);
    drop(spool);
    let (spool, _) = open(folder.path(), 1 << 20);
    assert_eq!(spool.depth(), slots + 7);
    let batch = spool.read(usize::MAX).unwrap();
    assert_eq!((batch.entries.len() as u64, batch.damaged.len()), (slots + 7, 0));
    spool.settle(&batch, &Rejected::new());
    assert_eq!(segments(folder.path()).len(), 1, "the last one is written on");
}

#[test]
fn what_is_damaged_is_counted_and_the_rest_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, recovered) = open(folder.path(), 100);
    let mut producer = spool.producer();
    producer.attach(3, CLOCK, &recovered);
    for at in 0..6 {
        producer.push(&record(1, at), at.into(), 0);
    }
    drop(producer);
    drop(spool);
    let path = &segments(folder.path())[0];
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[0xff; 30], (format::HEADER + 2 * format::SLOT + 100) as u64).unwrap();
    let (spool, _) = open(folder.path(), 100);
    let batch = spool.read(9).unwrap();
    assert_eq!((batch.entries.len(), &batch.damaged[..], batch.through), (5, &[2][..], 6));
    let settled = spool.settle(&batch, &Rejected::new());
    assert_eq!((settled.attempts, settled.damaged), (5, 1));
    let mut producer = spool.producer();
    producer.document_losses();
    drop(producer);
    assert_eq!(losses(&spool)[0].point, LossPoint::SpoolDamaged);
}

/// A last segment whose header is damaged takes its records along; their sequences are never given away again.
#[test]
fn a_segment_that_cannot_be_read_is_set_aside_and_its_numbers_stay_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, recovered) = open(folder.path(), 100);
    let mut producer = spool.producer();
    producer.attach(3, CLOCK, &recovered);
    for at in 0..6 {
        producer.push(&record(1, at), at.into(), 0);
    }
    drop(producer);
    drop(spool);
    let path = &segments(folder.path())[0];
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(&[1], 9).unwrap();
    let (spool, recovered) = open(folder.path(), 100);
    assert!(segments(folder.path()).is_empty());
    assert!(path.with_extension("segment.bad").exists());
    let mut producer = spool.producer();
    producer.attach(4, CLOCK, &recovered);
    assert_eq!(producer.push(&record(1, 9), 0, 0), Stored::At(6));
    drop(producer);
    let batch = spool.read(99).unwrap();
    assert_eq!((batch.entries.len(), batch.damaged.len()), (1, 6));
    assert_eq!(spool.settle(&batch, &Rejected::new()).damaged, 6);
}

/// Killed after the rows of a batch were written and before the cursor was: the batch comes again, and is counted
/// once.
#[test]
fn a_batch_that_is_answered_twice_is_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, recovered) = open(folder.path(), 100);
    let mut producer = spool.producer();
    producer.attach(3, CLOCK, &recovered);
    for at in 0..10 {
        producer.push(&record(1 + u64::from(at % 2), at), at.into(), 0);
    }
    drop(producer);
    let outcome = folder.path().join("outcome");
    let before = fs::read(&outcome).unwrap();
    let rejected = Rejected::from([(1, 2)]);
    spool.settle(&spool.read(6).unwrap(), &rejected);
    drop(spool);
    let mut torn = fs::read(&outcome).unwrap();
    torn[..abi::spool::table::ROW].copy_from_slice(&before[..abi::spool::table::ROW]);
    fs::write(&outcome, torn).unwrap();

    let (spool, _) = open(folder.path(), 100);
    let batch = spool.read(8).unwrap();
    assert_eq!((batch.entries.len(), batch.through), (8, 8), "the cursor was lost");
    let settled = spool.settle(&batch, &Rejected::new());
    assert_eq!((settled.attempts, settled.rejected), (2, 0));
    drop(spool);
    let (_, recovered) = open(folder.path(), 100);
    assert_eq!(recovered.outcomes[&1].attempts, 4);
    assert_eq!(recovered.outcomes[&1].rejected.total, 2);
    assert_eq!(recovered.outcomes[&2].attempts, 4);
}

/// The counts are gone, and it is said so; the records are not, and keep the identity that they may have been sent with.
/// Somebody shortened it, or the disk lost its end, while a reader runs.
#[test]
fn a_segment_that_is_shorter_than_it_was_blocks_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, recovered) = open(folder.path(), 100_000);
    let mut producer = spool.producer();
    producer.attach(3, CLOCK, &recovered);
    let slots = u64::from(writer::SLOTS);
    for at in 0..slots + 5 {
        assert_eq!(producer.push(&record(1, 1), at, 0), Stored::At(at));
    }
    drop(producer);
    let first = fs::OpenOptions::new().write(true).open(Piece::path(folder.path(), 0)).unwrap();
    first.set_len((format::HEADER + 10 * format::SLOT + 7) as u64).unwrap();
    let batch = spool.read(usize::MAX).unwrap();
    let read: Vec<u64> = batch.entries.iter().map(|entry| entry.sequence).collect();
    assert_eq!(read, (0..10).chain(slots..slots + 5).collect::<Vec<_>>());
    assert_eq!(batch.damaged, (10..slots).collect::<Vec<_>>());
    let settled = spool.settle(&batch, &Rejected::new());
    assert_eq!((settled.attempts, settled.damaged), (15, slots - 10));
    assert_eq!(spool.depth(), 0);
}

/// A copy that was restored in the wrong place, for instance.
#[test]
fn a_folder_in_the_place_of_a_segment_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = Piece::path(folder.path(), 0);
    fs::create_dir_all(path.join("inside")).unwrap();
    let (spool, recovered) = open(folder.path(), 100);
    assert!(folder.path().join("00000000000000000000.segment.bad/inside").exists());
    let mut producer = spool.producer();
    producer.attach(3, CLOCK, &recovered);
    assert_eq!(producer.push(&record(1, 1), 0, 0), Stored::At(0));
}

#[test]
fn damaged_tables_cost_the_counts_and_no_record() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, recovered) = open(folder.path(), 100);
    let nonce = spool.nonce();
    let mut producer = spool.producer();
    producer.attach(3, CLOCK, &recovered);
    for at in 0..5 {
        producer.push(&record(1, at), at.into(), 0);
    }
    drop(producer);
    spool.settle(&spool.read(2).unwrap(), &Rejected::new());
    drop(spool);
    // Both cells of the table's own row.
    let file = fs::OpenOptions::new().write(true).open(folder.path().join("intake")).unwrap();
    file.write_all_at(&[7; abi::spool::table::ROW], 0).unwrap();
    let (spool, recovered) = open(folder.path(), 100);
    for name in ["intake.bad", "outcome.bad"] {
        assert!(folder.path().join(name).exists(), "{name}");
    }
    assert_ne!(spool.nonce(), nonce, "numbers may be given again, so they are numbers of another spool");
    let batch = spool.read(9).unwrap();
    assert!(batch.damaged.is_empty());
    let ids: Vec<_> = batch.entries.iter().map(|entry| (entry.nonce, entry.sequence)).collect();
    assert_eq!(ids, (0..5).map(|sequence| (nonce, sequence)).collect::<Vec<_>>());
    assert_eq!(recovered.intakes[&1].records, 5);
    let mut producer = spool.producer();
    producer.attach(3, CLOCK, &recovered);
    assert_eq!(producer.push(&record(1, 4), 4, 0), Stored::Again);
    producer.document_losses();
    drop(producer);
    assert_eq!(losses(&spool).iter().map(|loss| loss.point).collect::<Vec<_>>(), [LossPoint::SpoolDamaged]);
}

/// Without the consumer's table it is not known what was answered: all that is there is sent, and nothing is called
/// damaged for it.
#[test]
fn without_the_consumers_table_all_is_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let slots = u64::from(writer::SLOTS);
    let (spool, recovered) = open(folder.path(), 1 << 20);
    let mut producer = spool.producer();
    producer.attach(3, CLOCK, &recovered);
    for at in 0..slots + 3 {
        producer.push(&record(1, 1), at, 0);
    }
    drop(producer);
    spool.settle(&spool.read(slots as usize + 1).unwrap(), &Rejected::new());
    drop(spool);
    fs::remove_file(folder.path().join("outcome")).unwrap();
    let (spool, _) = open(folder.path(), 1 << 20);
    let batch = spool.read(usize::MAX).unwrap();
    assert_eq!((batch.entries.len(), batch.damaged.len()), (3, 0));
}

#[test]
fn after_a_restart_of_the_machine_the_count_is_said_to_be_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, recovered) = open(folder.path(), 100);
    let mut producer = spool.producer();
    producer.attach(3, Offset::new(5, 1_000_005), &recovered);
    producer.push(&record(1, 1), 0, 0);
    drop(producer);
    drop(spool);
    recovery::pretend_another_boot(folder.path());

    let (spool, recovered) = open(folder.path(), 100);
    let batch = spool.read(9).unwrap();
    assert_eq!(batch.entries[0].earlier, Some(Offset::new(0, 1_000_000)), "the times are of another clock");
    let mut producer = spool.producer();
    producer.attach(3, CLOCK, &recovered);
    assert!(matches!(producer.push(&record(1, 2), 0, 0), Stored::At(_)), "the ring is another one");
    producer.document_losses();
    drop(producer);
    assert_eq!(losses(&spool).iter().map(|loss| loss.point).collect::<Vec<_>>(), [LossPoint::Reboot]);
    drop(spool);
    let (spool, _) = open(folder.path(), 100);
    spool.producer().document_losses();
    assert_eq!(losses(&spool).len(), 1, "once a restart");
}

#[test]
fn a_disk_without_room_is_a_counted_loss() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, recovered) = open(folder.path(), 100);
    let mut producer = spool.producer();
    producer.attach(3, CLOCK, &recovered);
    // A folder is where the segment would be made.
    fs::create_dir(folder.path().join("00000000000000000000.tmp")).unwrap();
    assert_eq!(producer.push(&record(1, 1), 0, 5), Stored::Full);
    fs::remove_dir(folder.path().join("00000000000000000000.tmp")).unwrap();
    assert_eq!(producer.push(&record(1, 2), 1, 5), Stored::At(0));
    producer.document_losses();
    drop(producer);
    assert_eq!(losses(&spool)[0].added, 1);
}

#[tokio::test(start_paused = true)]
async fn a_lone_record_waits_no_longer_than_the_flush_time_and_a_full_batch_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, recovered) = open(folder.path(), 10);
    let mut producer = spool.producer();
    producer.attach(3, CLOCK, &recovered);
    producer.push(&record(1, 1), 0, 0);
    drop(producer);
    let start = Instant::now();
    assert!(spool.ready(5, Duration::from_millis(100)).await);
    assert_eq!(start.elapsed(), Duration::from_millis(100));
    assert!(spool.ready(1, Duration::from_secs(9)).await);
    spool.close();
    assert!(spool.ready(5, Duration::from_secs(9)).await);
    spool.settle(&spool.read(9).unwrap(), &Rejected::new());
    assert!(!spool.ready(5, Duration::from_secs(9)).await);
    assert_eq!(start.elapsed(), Duration::from_millis(100));
}

/// What happens to a spool.
#[derive(Clone, Debug)]
enum Act {
    Push {
        container: u64,
    },
    Bad,
    Fold {
        container: u64,
        count: u64,
    },
    /// The last item comes again.
    Again,
    Tell,
    Settle {
        limit: usize,
        rejected: bool,
    },
    /// Another ring, whose positions begin anew.
    Replace,
    /// The reader is killed; what it stored since the last flush is in no row.
    Kill,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0..4_u64).prop_map(|container| Act::Push { container }),
        1 => Just(Act::Bad),
        2 => (1..4_u64, 1..9_u64).prop_map(|(container, count)| Act::Fold { container, count }),
        1 => Just(Act::Again),
        1 => Just(Act::Tell),
        3 => (0..9_usize, any::<bool>()).prop_map(|(limit, rejected)| Act::Settle { limit, rejected }),
        1 => Just(Act::Replace),
        2 => Just(Act::Kill),
    ]
}

/// What a spool must be, in the simplest words.
#[derive(Default)]
struct Model {
    pending: Vec<(u64, Option<Vec<u8>>)>,
    next: u64,
    stored: BTreeMap<u64, u64>,
    lost: u64,
    answered: BTreeMap<u64, u64>,
    rejected: BTreeMap<u64, u64>,
    told: u64,
}

impl Model {
    fn store(&mut self, record: &Record) {
        self.pending.push((self.next, Some(encode(record).to_vec())));
        self.next += 1;
        *self.stored.entry(record.flow.cgroup_id).or_default() += record.event_count;
    }
}

fn check(spool: &Spool, model: &Model) -> Result<(), TestCaseError> {
    let batch = spool.read(usize::MAX).unwrap();
    prop_assert!(batch.damaged.is_empty());
    let found: Vec<_> = batch
        .entries
        .iter()
        .map(|entry| match entry.content {
            Content::Record(record) => (entry.sequence, Some(encode(&record).to_vec())),
            Content::Loss(_) => (entry.sequence, None),
        })
        .collect();
    prop_assert_eq!(&found, &model.pending);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn it_is_what_the_model_is(acts in proptest::collection::vec(act(), 1..60), bound in 1..30_u64) {
        let folder = tempfile::tempdir().unwrap();
        let (mut spool, mut recovered) = open(folder.path(), bound);
        let mut model = Model::default();
        let (mut ring, mut position, mut last) = (1, 0_u64, None);
        spool.producer().attach(ring, CLOCK, &recovered);
        for act in acts {
            let mut producer = spool.producer();
            let depth = model.pending.len() as u64;
            match act {
                Act::Push { container } => {
                    let record = record(container, position as u16);
                    let stored = producer.push(&record, position, 0);
                    if depth < bound {
                        prop_assert_eq!(stored, Stored::At(model.next));
                        model.store(&record);
                    } else {
                        prop_assert_eq!(stored, Stored::Full);
                        model.lost += 1;
                    }
                    last = Some((position, record));
                    position += 8;
                }
                Act::Bad => {
                    prop_assert_eq!(producer.undecodable(position, 0), Stored::Full);
                    model.lost += 1;
                    position += 8;
                    last = None;
                }
                Act::Fold { container, count } => {
                    let record = fold(container, count, count);
                    let stored = producer.push_fold(&record);
                    prop_assert_eq!(stored, depth < bound);
                    if stored {
                        model.store(&record);
                    }
                }
                Act::Again => {
                    if let Some((position, record)) = last {
                        prop_assert_eq!(producer.push(&record, position, 0), Stored::Again);
                    }
                }
                Act::Tell => {
                    producer.document_losses();
                    let rejected = model.rejected.values().sum::<u64>();
                    model.told = model.lost + rejected;
                    // How many entries that takes depends on whose they are; what they say is checked at the end.
                    drop(producer);
                    let batch = spool.read(usize::MAX).unwrap();
                    for entry in batch.entries.iter().skip(model.pending.len()) {
                        prop_assert!(matches!(entry.content, Content::Loss(_)));
                        model.pending.push((entry.sequence, None));
                        model.next += 1;
                    }
                    continue;
                }
                Act::Settle { limit, rejected } => {
                    drop(producer);
                    let batch = spool.read(limit).unwrap();
                    let mut refused = Rejected::new();
                    for entry in &batch.entries {
                        let (container, attempts) = (entry.content.cgroup_id(), entry.content.attempts());
                        *model.answered.entry(container).or_default() += attempts;
                        if rejected && attempts > 0 {
                            *refused.entry(container).or_default() += attempts;
                            *model.rejected.entry(container).or_default() += attempts;
                        }
                    }
                    spool.settle(&batch, &refused);
                    model.pending.drain(..batch.entries.len());
                    continue;
                }
                Act::Replace => {
                    ring += 1;
                    producer.attach(ring, CLOCK, &recovered);
                    (position, last) = (0, None);
                }
                Act::Kill => {
                    // Neither the rows nor the counters that others see are brought up to date.
                    std::mem::forget(producer);
                    drop(spool);
                    (spool, recovered) = open(folder.path(), bound);
                    spool.producer().attach(ring, CLOCK, &recovered);
                    continue;
                }
            }
            drop(producer);
            check(&spool, &model)?;
        }
        check(&spool, &model)?;
        spool.producer().document_losses();
        drop(spool);
        let (_, recovered) = open(folder.path(), bound);
        let stored = |intake: &Intake| intake.attempts();
        for (container, attempts) in &model.stored {
            prop_assert_eq!(recovered.intakes.get(container).map(stored), Some(*attempts));
        }
        for (container, attempts) in &model.answered {
            prop_assert_eq!(recovered.outcomes.get(container).map_or(0, |o| o.attempts), *attempts);
        }
        let lost = |point: LossPoint| {
            recovered.intakes.values().map(|intake| intake.losses[point as usize].total).sum::<u64>()
        };
        prop_assert_eq!(lost(LossPoint::SpoolFull) + lost(LossPoint::Decode), model.lost);
        prop_assert_eq!(lost(LossPoint::BackendRejected), model.rejected.values().sum::<u64>());
    }

    #[test]
    fn any_bytes_are_recovered_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        if let Ok(segment) = format::recover(&bytes) {
            prop_assert!(segment.slots().count() > 0);
        }
        let _ = abi::spool::table::rows(&bytes);
    }

    #[test]
    fn a_slot_survives_its_file(sequence in any::<u64>(), accounted in any::<u64>(), seed in any::<u32>(),
        added in any::<u64>(), flip in 0..format::SLOT * 8) {
        let loss = Loss {
            cgroup_id: sequence, point: LossPoint::SpoolFull, added, total: added, first_ns: 1, last_ns: 2,
        };
        for content in [Content::Record(record(7, 9)), Content::Loss(loss)] {
            let slot = format::Slot { sequence, accounted, content };
            let mut bytes = slot.encode(seed);
            prop_assert_eq!(format::Slot::decode(&bytes, seed, sequence), Some(slot));
            prop_assert_eq!(format::Slot::decode(&bytes, seed, sequence ^ 1), None);
            prop_assert_eq!(format::Slot::decode(&bytes, !seed, sequence), None);
            bytes[flip / 8] ^= 1 << (flip % 8);
            prop_assert_eq!(format::Slot::decode(&bytes, seed, sequence), None);
        }
    }
}
