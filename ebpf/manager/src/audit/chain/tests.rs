//! The chain in small: counters that rise as those of the kernel, the reader and the store do, read in the order in
//! which the audit reads them, with anything happening in between.

use proptest::prelude::*;

use super::*;

/// What happens.
#[derive(Clone, Copy, Debug)]
enum Event {
    DeniedRecorded,
    DeniedFolded,
    Opened,
    Ended,
    Spooled,
    Refused,
    FoldsTold,
    Delivered,
    Answered,
    Rejected,
}

#[derive(Clone, Copy, Debug, Default)]
struct Chain {
    counts: Counts,
    /// Attempts in the spool that the endpoint has, without having said so.
    delivered: u64,
}

impl Chain {
    fn step(&mut self, event: Event) {
        let counts = &mut self.counts;
        let in_ring = counts.submitted - counts.records - counts.spool_full;
        let pending = counts.records + counts.folds_told - counts.answered;
        match event {
            Event::DeniedRecorded => {
                counts.denied += 1;
                counts.submitted += 1;
            }
            Event::DeniedFolded => {
                counts.denied += 1;
                counts.folded += 1;
            }
            Event::Opened => counts.opened += 1,
            Event::Ended if counts.opened > counts.closed => {
                counts.closed += 1;
                counts.submitted += 1;
            }
            Event::Spooled if in_ring > 0 => counts.records += 1,
            Event::Refused if in_ring > 0 => counts.spool_full += 1,
            Event::FoldsTold => counts.folds_told = counts.folded,
            Event::Delivered if pending > self.delivered => {
                self.delivered += 1;
                counts.stored += 1;
            }
            Event::Answered if self.delivered > 0 => {
                self.delivered -= 1;
                counts.answered += 1;
            }
            Event::Rejected if pending > self.delivered => {
                counts.answered += 1;
                counts.rejected += 1;
            }
            _ => {}
        }
    }

    /// One reading; `between` happens between its parts.
    fn read(&mut self, mut between: impl FnMut(&mut Self)) -> Counts {
        let kernel = self.counts;
        between(self);
        let spool = self.counts;
        let accounted = spool.records + spool.spool_full;
        between(self);
        let submitted = self.counts.submitted;
        between(self);
        Counts {
            denied: kernel.denied,
            opened: kernel.opened,
            closed: kernel.closed,
            open: kernel.opened - kernel.closed,
            submitted: kernel.submitted,
            folded: kernel.folded,
            folded_in_maps: kernel.folded,
            in_folds: kernel.folded,
            undocumented: kernel.folded.saturating_sub(spool.folds_told),
            in_ring: submitted - accounted,
            records: spool.records,
            folds_told: spool.folds_told,
            spool_full: spool.spool_full,
            answered: spool.answered,
            rejected: spool.rejected,
            pending: spool.records + spool.folds_told - spool.answered,
            stored: self.counts.stored,
            ..Counts::default()
        }
    }

    /// What is seen once nothing happens any more, and the endpoint has said what it has.
    fn rest(mut self) -> Counts {
        for _ in 0..self.delivered {
            self.step(Event::Answered);
        }
        self.read(|_| {})
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    use Event::*;
    let any = [
        DeniedRecorded,
        DeniedFolded,
        Opened,
        Ended,
        Spooled,
        Refused,
        FoldsTold,
        Delivered,
        Answered,
        Rejected,
    ];
    prop::collection::vec(prop::sample::select(any.to_vec()), 0..30)
}

/// What is read once `lost` have vanished at a hop, if there is so much to lose.
fn without(mut counts: Counts, hop: Hop, lost: u64) -> Option<Counts> {
    let kept = match hop {
        Hop::Flows => &mut counts.open,
        Hop::Records => &mut counts.submitted,
        Hop::Folds => &mut counts.in_folds,
        Hop::Ring => &mut counts.records,
        Hop::FoldRecords => &mut counts.undocumented,
        Hop::Spool => &mut counts.pending,
        Hop::Store => &mut counts.stored,
    };
    *kept = kept.checked_sub(lost)?;
    // What never came to a hop is not missing at the next.
    if hop == Hop::Records {
        counts.in_ring = counts.in_ring.checked_sub(lost)?;
    }
    if hop == Hop::Ring {
        counts.pending = counts.pending.checked_sub(lost)?;
    }
    Some(counts)
}

proptest! {
    #[test]
    fn nothing_is_missing_whatever_happens_between_two_readings(gaps in prop::collection::vec(events(), 13)) {
        let mut chain = Chain::default();
        let mut gaps = gaps.into_iter();
        let mut between = |chain: &mut Chain| {
            for event in gaps.next().unwrap_or_default() {
                chain.step(event);
            }
        };
        let [first, then, last] = std::array::from_fn(|_| {
            between(&mut chain);
            chain.read(&mut between)
        });
        for hop in Hop::ALL {
            let residual = Interval::of_container(hop, [&first, &then, &last], 0);
            prop_assert!(residual.is_closed(), "{:?}: {} of {:?}", hop, residual, [first, then, last]);
        }
        let rest = chain.rest();
        for hop in Hop::ALL {
            // The endpoint may have what it has not answered for.
            let high = if hop == Hop::Store { rest.pending } else { 0 };
            let residual = Interval::of_container(hop, [&rest; 3], 0);
            prop_assert_eq!(residual, Interval { low: 0, high: i64::try_from(high).unwrap() }, "{:?}", hop);
        }
    }

    #[test]
    fn what_vanishes_is_missing_at_its_hop_and_at_no_other(
        events in events(), hop in prop::sample::select(Hop::ALL.to_vec()), lost in 1_u64..40,
    ) {
        let mut chain = Chain::default();
        use Event::*;
        for _ in 0..2 * lost {
            // Of each kind enough that some can vanish, at every stage.
            for event in [Opened, DeniedFolded, DeniedRecorded, Spooled, Delivered, DeniedRecorded, Spooled, DeniedRecorded] {
                chain.step(event);
            }
        }
        for event in events {
            chain.step(event);
        }
        let rest = chain.rest();
        let Some(seen) = without(rest, hop, lost) else {
            prop_assume!(false);
            unreachable!()
        };
        let missing = i64::try_from(lost).unwrap();
        for at in Hop::ALL {
            let residual = Interval::of_container(at, [&seen; 3], 0);
            if at == hop {
                prop_assert_eq!(residual.low, missing, "{:?}", at);
            } else {
                prop_assert_eq!(residual.low, 0, "{:?}, lost at {:?}", at, hop);
            }
            prop_assert_eq!(residual.is_closed(), at != hop);
        }
    }
}

#[test]
fn what_comes_twice_is_a_residual_too() {
    let twice = Counts { denied: 5, submitted: 6, in_ring: 6, ..Counts::default() };
    let residual = Interval::of_container(Hop::Records, [&twice; 3], 0);
    assert_eq!(residual, Interval { low: -1, high: -1 });
    assert!(!residual.is_closed());
}

#[test]
fn a_loss_of_no_known_container_may_be_any_ones_and_is_in_the_sum() {
    let mine = Counts { denied: 5, submitted: 5, records: 3, ..Counts::default() };
    let nobodys = Counts { undecodable: 2, ..Counts::default() };
    let mut all = mine;
    all.add(&nobodys);
    assert_eq!(Interval::of_all(Hop::Ring, [&all; 3]), Interval { low: 0, high: 0 });
    assert!(Interval::of_container(Hop::Ring, [&mine; 3], 2).is_closed());
    assert!(!Interval::of_container(Hop::Ring, [&mine; 3], 1).is_closed());
    assert!(Interval::of_container(Hop::Ring, [&nobodys; 3], 2).is_closed());
}
