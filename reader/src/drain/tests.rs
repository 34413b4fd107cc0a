use std::{
    collections::VecDeque,
    sync::{Mutex, mpsc},
};

use abi::LossPoint;

use super::{decode::encode, *};
use crate::document::sample;

/// A source whose items are there from the start.
struct Canned {
    items: VecDeque<Vec<u8>>,
    /// With how much is documented.
    folds: Vec<(FoldKey, Fold, u64)>,
    /// Says replaced once empty.
    replaced: bool,
}

impl Source for Canned {
    fn wait(&mut self, _timeout: Duration) -> io::Result<bool> {
        if self.items.is_empty() && !self.replaced {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(!self.items.is_empty())
    }

    fn next(&mut self, take: &mut dyn FnMut(&[u8])) -> bool {
        self.items.pop_front().map(|item| take(&item)).is_some()
    }

    fn folds(&mut self, take: &mut dyn FnMut(&FoldKey, &Fold) -> Option<u64>) -> io::Result<()> {
        for (key, fold, documented) in &mut self.folds {
            *documented = take(key, fold).unwrap_or(*documented);
        }
        Ok(())
    }

    fn readings(&mut self) -> io::Result<Vec<(FoldKey, u64)>> {
        Ok(self.folds.iter().map(|(key, _, documented)| (*key, *documented)).collect())
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

fn drain(bound: usize, fault: Fault) -> Drain {
    Drain { spool: Arc::new(Spool::new(bound)), counters: Arc::default(), health: Arc::default(), fault }
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

fn ports(drain: &Drain) -> Vec<u16> {
    drain.spool.take(usize::MAX).iter().map(|entry| entry.record.flow.dst_port).collect()
}

#[test]
fn a_stop_takes_what_is_there_more_than_one_pass() {
    let drain = drain(20_000, Fault::None);
    run(&drain, [Canned { items: records(0..10_000), replaced: false, folds: Vec::new() }].into()).unwrap();
    assert_eq!(ports(&drain), (0..10_000).collect::<Vec<_>>());
    assert_eq!(drain.counters.read().drained, 10_000);
}

#[test]
fn a_source_that_breaks_is_opened_again() {
    let drain = drain(100, Fault::None);
    let sources =
        [0..3, 3..6].map(|range| Canned { items: records(range), replaced: false, folds: Vec::new() });
    run(&drain, sources.into()).unwrap();
    assert_eq!(ports(&drain), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_replaced_source_is_emptied_first() {
    let drain = drain(100, Fault::None);
    let sources = [(0..3, true), (3..6, false)].map(|(range, replaced)| Canned {
        items: records(range),
        replaced,
        folds: Vec::new(),
    });
    run(&drain, sources.into()).unwrap();
    assert_eq!(ports(&drain), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_refusal_ends_it_and_is_told() {
    let drain = drain(1, Fault::None);
    let (_stop, stopped) = mpsc::channel();
    let refused = drain.run::<Canned>(&stopped, || Err(OpenError::Refused("ABI version 9".to_owned())));
    assert_eq!(refused.unwrap_err().to_string(), "ABI version 9");
    assert_eq!(drain.health.report(0).causes["drain"], "ABI version 9");
}

#[test]
fn every_item_is_spooled_or_a_loss() {
    let drain = drain(4, Fault::None);
    let mut items = records(0..6);
    items.push_front(b"short".to_vec());
    run(&drain, [Canned { items, replaced: false, folds: Vec::new() }].into()).unwrap();
    let counted = drain.counters.read();
    assert_eq!(counted.drained, 7);
    assert_eq!(counted.losses[&LossPoint::Decode], 1);
    assert_eq!(counted.losses[&LossPoint::SpoolFull], 2);
    assert_eq!(drain.spool.depth(), 4);
}

#[test]
fn the_swallowing_fault_counts_nothing() {
    let drain = drain(100, Fault::RecordSwallowed);
    run(&drain, [Canned { items: records(0..6), replaced: false, folds: Vec::new() }].into()).unwrap();
    assert_eq!(ports(&drain), [0, 2, 4]);
    let counted = drain.counters.read();
    assert_eq!(counted.drained, 3);
    assert_eq!(counted.losses.values().sum::<u64>(), 0);
}

#[test]
fn folded_attempts_are_spooled_once_and_counted() {
    let drain = drain(100, Fault::None);
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
        items: VecDeque::new(),
        replaced,
        folds: vec![(key, fold, documented)],
    };
    run(&drain, [source(400, true), source(1000, false)].into()).unwrap();
    let spooled: Vec<_> = drain.spool.take(9).iter().map(|entry| entry.record.event_count).collect();
    assert_eq!(spooled, [600]);
    assert_eq!(drain.counters.read().folded, 600);
}
