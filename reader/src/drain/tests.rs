use std::{
    collections::VecDeque,
    sync::{Mutex, mpsc},
};

use abi::{LossPoint, Record};

use super::{decode::encode, *};
use crate::{
    document::sample,
    spool::{Content, Entry},
};

/// A source whose items are there from the start.
struct Canned {
    items: VecDeque<Vec<u8>>,
    /// With how much is documented.
    folds: Vec<(FoldKey, Fold, u64)>,
    /// Nothing can be noted: the kernel has no memory for it, for instance.
    unnotable: bool,
    /// Says replaced once empty.
    replaced: bool,
    id: u32,
    /// Of the oldest item.
    position: u64,
}

impl Source for Canned {
    fn wait(&mut self, _timeout: Duration) -> io::Result<bool> {
        if self.items.is_empty() && !self.replaced {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(!self.items.is_empty())
    }

    fn next(&mut self, take: &mut dyn FnMut(u64, &[u8])) -> bool {
        let position = self.position;
        self.position += 8;
        self.items.pop_front().map(|item| take(position, &item)).is_some()
    }

    fn id(&self) -> u32 {
        self.id
    }

    fn folds(&mut self) -> io::Result<Vec<(FoldKey, Fold)>> {
        Ok(self.folds.iter().map(|(key, fold, _)| (*key, *fold)).collect())
    }

    fn noted(&self, key: &FoldKey, _fold: &Fold) -> io::Result<Option<u64>> {
        Ok(self.folds.iter().find(|(one, ..)| one == key).map(|(.., noted)| *noted))
    }

    fn note(&mut self, key: &FoldKey, noted: Noted) -> io::Result<()> {
        if self.unnotable {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        for (.., count) in self.folds.iter_mut().filter(|(one, ..)| one == key) {
            *count = noted.count;
        }
        Ok(())
    }

    fn is_replaced(&self) -> io::Result<bool> {
        Ok(self.replaced)
    }
}

fn records(ports: std::ops::Range<u16>) -> VecDeque<Vec<u8>> {
    ports
        .map(|port| {
            let mut record = sample::record();
            record.flow.dst_port = port;
            encode(&record).to_vec()
        })
        .collect()
}

fn source(items: VecDeque<Vec<u8>>, id: u32, replaced: bool) -> Canned {
    Canned { items, folds: Vec::new(), unnotable: false, replaced, id, position: 0 }
}

fn drain(dir: &tempfile::TempDir, bound: u64, fault: Fault) -> Drain {
    let (spool, recovered) = Spool::open(dir.path(), bound).unwrap();
    let counters = Arc::new(Counters::resume(&recovered));
    Drain { spool: Arc::new(spool), recovered, counters, health: Arc::default(), fault }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Drains `sources` one after the other; the last one is there when the stop comes.
fn run(drain: &Drain, mut sources: VecDeque<Canned>) -> Result<(), OpenError> {
    let (stop, stopped) = mpsc::channel();
    let stop = Mutex::new(Some(stop));
    drain.run(&stopped, || {
        let source = sources.pop_front().ok_or_else(|| OpenError::Refused("no more".to_owned()));
        if sources.is_empty() {
            stop.lock().unwrap().take();
        }
        source
    })
}

fn contents(drain: &Drain) -> Vec<Record> {
    let batch = drain.spool.read(usize::MAX).unwrap();
    assert!(batch.damaged.is_empty());
    let record = |entry: &Entry| match entry.content {
        Content::Record(record) => Some(record),
        Content::Loss(_) => None,
    };
    batch.entries.iter().filter_map(record).collect()
}

fn ports(drain: &Drain) -> Vec<u16> {
    contents(drain).iter().map(|record| record.flow.dst_port).collect()
}

#[test]
fn a_stop_takes_what_is_there_more_than_one_pass() {
    let folder = folder();
    let drain = drain(&folder, 20_000, Fault::None);
    run(&drain, [source(records(0..10_000), 1, false)].into()).unwrap();
    assert_eq!(ports(&drain), (0..10_000).collect::<Vec<_>>());
    assert_eq!(drain.counters.read().drained, 10_000);
}

#[test]
fn a_source_that_breaks_is_opened_again() {
    let folder = folder();
    let drain = drain(&folder, 100, Fault::None);
    let sources = [(0..3, 1), (3..6, 2)].map(|(range, id)| source(records(range), id, false));
    run(&drain, sources.into()).unwrap();
    assert_eq!(ports(&drain), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_replaced_source_is_emptied_first() {
    let folder = folder();
    let drain = drain(&folder, 100, Fault::None);
    let sources =
        [(0..3, 1, true), (3..6, 2, false)].map(|(range, id, replaced)| source(records(range), id, replaced));
    run(&drain, sources.into()).unwrap();
    assert_eq!(ports(&drain), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_refusal_ends_it_and_is_told() {
    let folder = folder();
    let drain = drain(&folder, 1, Fault::None);
    let (_stop, stopped) = mpsc::channel();
    let refused = drain.run::<Canned>(&stopped, || Err(OpenError::Refused("ABI version 9".to_owned())));
    assert_eq!(refused.unwrap_err().to_string(), "ABI version 9");
    assert_eq!(drain.health.report(0).causes["drain"], "ABI version 9");
}

#[test]
fn every_item_is_spooled_or_a_loss() {
    let folder = folder();
    let drain = drain(&folder, 4, Fault::None);
    let mut items = records(0..6);
    items.push_front(b"short".to_vec());
    run(&drain, [source(items, 1, false)].into()).unwrap();
    let counted = drain.counters.read();
    assert_eq!(counted.drained, 7);
    assert_eq!(counted.losses[&LossPoint::Decode], 1);
    assert_eq!(counted.losses[&LossPoint::SpoolFull], 2);
    assert_eq!(drain.spool.depth(), 4 + 2, "four records, and what tells of the losses");
    drop(drain);
    assert_eq!(self::drain(&folder, 4, Fault::None).counters.read(), counted, "the next reader goes on");
}

#[test]
fn an_item_that_was_stored_and_not_released_is_stored_once() {
    let folder = folder();
    let first = drain(&folder, 100, Fault::None);
    run(&first, [source(records(0..6), 1, false)].into()).unwrap();
    drop(first);
    // Killed after the fourth was stored and before it was released, of the same ring; and then another ring.
    let second = drain(&folder, 100, Fault::None);
    let mut again = source(records(3..9), 1, true);
    again.position = 3 * 8;
    run(&second, [again, source(records(20..22), 2, false)].into()).unwrap();
    assert_eq!(ports(&second), [0, 1, 2, 3, 4, 5, 6, 7, 8, 20, 21]);
    assert_eq!(second.counters.read().drained, 11);
}

#[test]
fn the_swallowing_fault_counts_nothing() {
    let folder = folder();
    let drain = drain(&folder, 100, Fault::RecordSwallowed);
    run(&drain, [source(records(0..6), 1, false)].into()).unwrap();
    assert_eq!(ports(&drain), [0, 2, 4]);
    let counted = drain.counters.read();
    assert_eq!(counted.drained, 3);
    assert_eq!(counted.losses.values().sum::<u64>(), 0);
}

#[test]
fn folded_attempts_are_spooled_once_and_counted() {
    let folder = folder();
    let drain = drain(&folder, 100, Fault::None);
    let key = FoldKey {
        cgroup_id: 7,
        dst: [1; 16],
        dst_port: 9,
        l4_proto: abi::UDP,
        verdict: 1,
        reason: 5,
        hook: 1,
        close_reason: 0,
        direction: 0,
    };
    let fold = Fold { count: 1000, first_ns: 5, last_ns: 9, ..Fold::default() };
    let source = |documented, replaced| Canned {
        folds: vec![(key, fold, documented)],
        ..source(VecDeque::new(), 1, replaced)
    };
    run(&drain, [source(400, true), source(1000, false)].into()).unwrap();
    let spooled: Vec<_> = contents(&drain).iter().map(|record| record.event_count).collect();
    assert_eq!(spooled, [600]);
    assert_eq!(drain.counters.read().folded, 600);
    // Killed before it could note that these were stored: the spool knows.
    drop(drain);
    let after = self::drain(&folder, 100, Fault::None);
    run(&after, [source(400, false)].into()).unwrap();
    assert_eq!(after.counters.read().folded, 600);
}

#[test]
fn folded_attempts_that_cannot_be_noted_are_told_once_all_the_same() {
    let folder = folder();
    let drain = drain(&folder, 100, Fault::None);
    let key = FoldKey::various(7, abi::Hook::Sendmsg);
    let source = |count, unnotable| Canned {
        folds: vec![(key, Fold { count, first_ns: 5, last_ns: 9, ..Fold::default() }, 0)],
        unnotable,
        ..source(VecDeque::new(), 1, true)
    };
    let last = Canned { replaced: false, ..source(700, false) };
    run(&drain, [source(600, true), source(600, true), source(700, true), last].into()).unwrap();
    let spooled: Vec<_> = contents(&drain).iter().map(|record| record.event_count).collect();
    assert_eq!(spooled, [600, 100]);
}
