//! The hops, and what each one keeps of what it was handed.
//!
//! # Why the residual is an interval
//! The counters live in maps, in files and in a store, so they are read one after the other while they rise. All of
//! them are read three times: first, then, last. At every moment `up >= down` as long as nothing is counted twice,
//! and both only rise, so the residual at the time of the middle reading lies between
//! ```text
//! low  = up(first) - down(then)       upstream was read before downstream
//! high = up(last)  - down(then)       downstream was read before upstream
//! ```
//! If nothing is lost, what was upstream at first is downstream by then: `low <= 0 <= high`. At rest the three
//! readings are one, and both bounds are exactly what is missing. What is on its way across a hop that no term
//! names (a few instructions in the kernel, a batch in the reader) is downstream a moment later: whoever finds
//! `low > 0` reads `then` and `last` again, and `first` stays.

use serde::{Serialize, Serializer, ser::SerializeTuple as _};

use crate::retired::Totals;

macro_rules! counts {
    ($($(#[$doc:meta])* $field:ident,)+) => {
        /// Counters of one container, or the sum of several, in attempts.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct Counts { $($(#[$doc])* pub $field: u64,)+ }

        impl Counts {
            /// Adds `more` to each.
            pub(crate) fn add(&mut self, more: &Self) {
                $(self.$field = self.$field.saturating_add(more.$field);)+
            }
        }
    };
}

counts! {
    /// Kernel: attempts that were denied.
    denied,
    /// Kernel: flows that were let through.
    opened,
    /// Kernel: flows that ended.
    closed,
    /// Kernel: flows in the table.
    open,
    /// Kernel: records handed to the ring.
    submitted,
    /// Kernel: denied attempts that were counted instead, since ever.
    folded,
    /// Kernel: those of them whose counters have not left the maps.
    folded_in_maps,
    /// Kernel: what the entries of `folds`, and the overflow beside them, add up to.
    in_folds,
    /// Kernel: those of which no record is in the spool yet.
    undocumented,
    /// In the ring, and not in the spool.
    in_ring,
    /// Spool: attempts in records from the ring.
    records,
    /// Spool: attempts in records that tell of folded ones.
    folds_told,
    /// Spool: lost because it was at its bound.
    spool_full,
    /// Spool: lost because the bytes were no record; of no known container.
    undecodable,
    /// Spool: attempts that the endpoint answered for.
    answered,
    /// Spool: attempts not answered yet.
    pending,
    /// Spool: entries that could not be read any more; of no known container.
    damaged,
    /// Answered, and refused for good.
    rejected,
    /// In the document store: distinct events, each with its `event_count`.
    stored,
}

impl Counts {
    /// Adds the kernel's counters of one container, or of several.
    pub(super) fn add_totals(&mut self, totals: Totals) {
        let Totals { denied, opened, closed, submitted, folded } = totals;
        self.add(&Self { denied, opened, closed, submitted, folded, ..Self::default() });
    }

    /// Attempts: what was denied, and what was let through.
    pub const fn attempts(&self) -> u64 {
        self.denied.saturating_add(self.opened)
    }

    /// Losses that are accounted for.
    pub const fn lost(&self) -> u64 {
        let in_spool = self.spool_full.saturating_add(self.undecodable).saturating_add(self.damaged);
        in_spool.saturating_add(self.rejected)
    }
}

/// A hand-over between two stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Hop {
    /// Flows opened, closed and open.
    Flows,
    /// From what ended to its record, or to the count of what was folded.
    Records,
    /// The count of what was folded, and where it is counted apart.
    Folds,
    /// From the kernel to the spool.
    Ring,
    /// From what was folded to records of it in the spool.
    FoldRecords,
    /// From the spool to the endpoint's answer.
    Spool,
    /// From the endpoint's answer to the store.
    Store,
}

/// Both sides of a hop's equation.
pub(super) struct Sides {
    pub up: Vec<(&'static str, u64)>,
    pub down: Vec<(&'static str, u64)>,
    /// Losses whose container is not known: part of the sum's downstream, and perhaps of any container's.
    pub unattributed: (&'static str, u64),
    /// What may be downstream already, though upstream does not count it yet.
    early: u64,
}

impl Hop {
    /// Every hop, in the order of the chain.
    pub const ALL: [Self; 7] =
        [Self::Flows, Self::Records, Self::Folds, Self::Ring, Self::FoldRecords, Self::Spool, Self::Store];

    /// As it is called in the output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flows => "flows",
            Self::Records => "records",
            Self::Folds => "folds",
            Self::Ring => "ring",
            Self::FoldRecords => "fold_records",
            Self::Spool => "spool",
            Self::Store => "store",
        }
    }

    /// Its equation, with a container's counters.
    pub(super) fn sides(self, counts: &Counts) -> Sides {
        let Counts { denied, opened, closed, open, submitted, folded, in_ring, records, .. } = *counts;
        let Counts { folds_told, answered, pending, rejected, stored, .. } = *counts;
        let (mut unattributed, mut early) = (("", 0), 0);
        let (up, down) = match self {
            Self::Flows => (vec![("opened", opened)], vec![("closed", closed), ("open", open)]),
            Self::Records => (
                vec![("denied", denied), ("closed", closed)],
                vec![("submitted", submitted), ("folded", folded)],
            ),
            Self::Folds => {
                (vec![("folded_in_maps", counts.folded_in_maps)], vec![("in_folds", counts.in_folds)])
            }
            Self::Ring => {
                unattributed = ("undecodable", counts.undecodable);
                let down =
                    vec![("in_ring", in_ring), ("records", records), ("spool_full", counts.spool_full)];
                (vec![("submitted", submitted)], down)
            }
            Self::FoldRecords => (
                vec![("folded", folded)],
                vec![("folds_told", folds_told), ("undocumented", counts.undocumented)],
            ),
            Self::Spool => {
                unattributed = ("damaged", counts.damaged);
                (
                    vec![("records", records), ("folds_told", folds_told)],
                    vec![("answered", answered), ("pending", pending)],
                )
            }
            Self::Store => {
                // Stored before the answer is counted, or though there never was one.
                early = pending;
                (vec![("answered", answered)], vec![("stored", stored), ("rejected", rejected)])
            }
        };
        Sides { up, down, unattributed, early }
    }
}

/// Bounds of what a hop did not hand on: negative where it handed on more than it was handed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// At least this much.
    pub low: i64,
    /// At most this much.
    pub high: i64,
}

impl Interval {
    /// Whether it can be that nothing is missing.
    pub const fn is_closed(self) -> bool {
        self.low <= 0 && self.high >= 0
    }

    /// The residual of a container at `hop`, of three readings one after the other.
    pub(super) fn of_container(hop: Hop, [first, then, last]: [&Counts; 3], unattributed: u64) -> Self {
        let (up_first, down, up_last) = (hop.sides(first), hop.sides(then), hop.sides(last));
        let down = total(&down.down);
        Self {
            low: difference(total(&up_first.up), down.saturating_add(unattributed)),
            high: difference(total(&up_last.up).saturating_add(up_last.early), down),
        }
    }

    /// The residual of all of them, of which every loss is one of theirs.
    pub(super) fn of_all(hop: Hop, [first, then, last]: [&Counts; 3]) -> Self {
        let (up_first, then, up_last) = (hop.sides(first), hop.sides(then), hop.sides(last));
        let down = total(&then.down).saturating_add(then.unattributed.1);
        Self {
            low: difference(total(&up_first.up), down),
            high: difference(total(&up_last.up).saturating_add(up_last.early), down),
        }
    }
}

impl Serialize for Interval {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut pair = serializer.serialize_tuple(2)?;
        pair.serialize_element(&self.low)?;
        pair.serialize_element(&self.high)?;
        pair.end()
    }
}

impl std::fmt::Display for Interval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.low == self.high {
            write!(f, "{}", self.low)
        } else {
            write!(f, "{} to {}", self.low, self.high)
        }
    }
}

fn total(terms: &[(&str, u64)]) -> u64 {
    terms.iter().fold(0, |sum, (_, term)| sum.saturating_add(*term))
}

fn difference(up: u64, down: u64) -> i64 {
    let exact = i128::from(up).saturating_sub(i128::from(down));
    i64::try_from(exact).unwrap_or(if exact < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests;
