//! What the spool counts for each container: what came in, and what became of it.

use crate::{LOSS_POINTS, LossPoint};

use super::table::Values;

/// Key of what belongs to no container that is known.
pub const UNKNOWN: u64 = 0;
/// Key of all containers that found no row.
pub const OTHERS: u64 = u64::MAX;

/// What was lost at one point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Attempts.
    pub total: u64,
    /// Attempts of which a document is in the spool.
    pub documented: u64,
    /// When the first that is not documented was lost, boot clock, nanoseconds; 0 if all are.
    pub first_ns: u64,
    /// When the last was lost.
    pub last_ns: u64,
}

impl Tally {
    /// `count` more.
    pub fn add(&mut self, count: u64, now_ns: u64) {
        if count > 0 {
            self.reach(self.total.saturating_add(count), now_ns, now_ns);
        }
    }

    /// There are `total` by now, of which the first new one was lost at `first_ns`.
    pub fn reach(&mut self, total: u64, first_ns: u64, last_ns: u64) {
        if total <= self.total {
            return;
        }
        if self.documented == self.total {
            self.first_ns = first_ns;
        }
        self.total = total;
        self.last_ns = self.last_ns.max(last_ns);
    }

    fn of(words: &mut impl Iterator<Item = u64>) -> Self {
        let [total, documented, first_ns, last_ns] = std::array::from_fn(|_| next(words));
        Self { total, documented, first_ns, last_ns }
    }

    const fn words(&self) -> [u64; 4] {
        [self.total, self.documented, self.first_ns, self.last_ns]
    }

    /// Attempts without a document.
    pub const fn undocumented(&self) -> u64 {
        self.total.saturating_sub(self.documented)
    }
}

/// What came in of one container. The writer's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Intake {
    /// Slots below this sequence are in these counts.
    pub through: u64,
    /// The ring of `accounted`.
    pub ring: u32,
    /// Everything below this position of the ring was in the spool, or counted, when the row was written.
    pub accounted: u64,
    /// Records from the ring.
    pub records: u64,
    /// Attempts in records that tell of folded ones.
    pub folded: u64,
    /// Losses, by point; those of the consumer are copies.
    pub losses: [Tally; LOSS_POINTS],
}

impl Intake {
    /// Attempts in the spool since ever.
    pub const fn attempts(&self) -> u64 {
        self.records.saturating_add(self.folded)
    }

    /// What was lost at `point`.
    pub fn loss(&mut self, point: LossPoint) -> Option<&mut Tally> {
        self.losses.get_mut(usize::from(point as u8))
    }

    /// As its row.
    pub fn values(&self) -> Values {
        let head = [self.through, u64::from(self.ring), self.accounted, self.records, self.folded];
        let losses = self.losses.iter().flat_map(Tally::words);
        let mut values = head.into_iter().chain(losses);
        std::array::from_fn(|_| values.next().unwrap_or(0))
    }

    /// As a row says.
    pub fn of(values: &Values) -> Self {
        let mut words = values.iter().copied();
        let mut intake = Self {
            through: next(&mut words),
            ring: u32::try_from(next(&mut words)).unwrap_or(0),
            accounted: next(&mut words),
            records: next(&mut words),
            folded: next(&mut words),
            ..Self::default()
        };
        intake.losses = std::array::from_fn(|_| Tally::of(&mut words));
        intake
    }
}

/// What became of one container's entries. The consumer's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Entries below this sequence are in these counts.
    pub through: u64,
    /// Records that the endpoint answered for, rejected ones included.
    pub records: u64,
    /// Attempts in them.
    pub attempts: u64,
    /// Attempts in records that the endpoint refused for good.
    pub rejected: Tally,
    /// Entries that could not be read any more.
    pub damaged: Tally,
}

impl Outcome {
    /// As its row.
    pub fn values(&self) -> Values {
        let head = [self.through, self.records, self.attempts];
        let tallies = [self.rejected.words(), self.damaged.words()];
        let mut values = head.into_iter().chain(tallies.into_iter().flatten());
        std::array::from_fn(|_| values.next().unwrap_or(0))
    }

    /// As a row says.
    pub fn of(values: &Values) -> Self {
        let mut words = values.iter().copied();
        Self {
            through: next(&mut words),
            records: next(&mut words),
            attempts: next(&mut words),
            rejected: Tally::of(&mut words),
            damaged: Tally::of(&mut words),
        }
    }
}

fn next(words: &mut impl Iterator<Item = u64>) -> u64 {
    words.next().unwrap_or(0)
}

const _: () = {
    // A row has room for both.
    assert!(5 + 4 * LOSS_POINTS <= super::table::VALUES);
    assert!(3 + 4 * 2 <= super::table::VALUES);
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_row_says_what_was_counted(values in any::<[u64; 29]>(), ring in any::<u32>()) {
            let mut values: Values = values;
            values[1] = ring.into();
            let intake = Intake::of(&values);
            prop_assert_eq!(Intake::of(&intake.values()), intake);
            let outcome = Outcome::of(&values);
            prop_assert_eq!(Outcome::of(&outcome.values()), outcome);
        }
    }

    #[test]
    fn a_tally_begins_anew_once_all_is_documented() {
        let mut tally = Tally::default();
        tally.add(2, 10);
        tally.add(3, 20);
        assert_eq!(tally, Tally { total: 5, documented: 0, first_ns: 10, last_ns: 20 });
        tally.documented = 5;
        tally.add(0, 25);
        tally.add(1, 30);
        assert_eq!((tally.undocumented(), tally.first_ns, tally.last_ns), (1, 30, 30));
    }
}
