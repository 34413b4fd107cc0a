//! The spool's end towards the endpoint: what is read, and what became of it.

use std::collections::{BTreeMap, HashMap};

use abi::spool::{
    CURSOR,
    counts::{OTHERS, Outcome, UNKNOWN},
    table::{SELF, Values},
};

use super::table::Table;
use crate::clock::Offset;

/// An entry with its place in the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Place among all that this spool accepted, from 0.
    pub sequence: u64,
    /// Of the spool that gave the sequence.
    pub nonce: u64,
    /// What it is.
    pub content: super::Content,
    /// For an entry of an earlier boot, whose times are of that boot's clock: that clock.
    pub earlier: Option<Offset>,
}

/// Entries that lie one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Those that can be read, in order.
    pub entries: Vec<Entry>,
    /// Sequences of those that cannot.
    pub damaged: Vec<u64>,
    /// The sequence after the last.
    pub through: u64,
}

/// What became of a batch, without what was counted already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Attempts that the endpoint answered for.
    pub attempts: u64,
    /// Those of them that it refused for good.
    pub rejected: u64,
    /// Entries that could not be read.
    pub damaged: u64,
}

/// What became of one container's entries of a batch, without those that are counted already.
#[derive(Default)]
struct Share {
    records: u64,
    attempts: u64,
    rejected: u64,
    damaged: u64,
}

#[derive(Debug)]
pub(super) struct Tail {
    pub table: Table,
    pub outcomes: HashMap<u64, Outcome>,
    /// What the file says of itself: identity, then the cursor.
    pub head: Values,
}

impl Tail {
    /// Counts the entries of a batch that is answered, each once, however often it is answered. Returns what was
    /// not counted before.
    pub fn settle(&mut self, batch: &Batch, rejected: &Rejected, now_ns: u64) -> Settled {
        let mut shares: BTreeMap<u64, Share> = BTreeMap::new();
        for entry in &batch.entries {
            let key = self.key(entry.content.cgroup_id());
            let super::Content::Record(record) = &entry.content else { continue };
            if entry.sequence >= self.through(key) {
                let share = shares.entry(key).or_default();
                share.records = share.records.saturating_add(1);
                share.attempts = share.attempts.saturating_add(record.event_count);
            }
        }
        for (cgroup_id, attempts) in rejected {
            let key = self.key(*cgroup_id);
            if batch.through > self.through(key) {
                let share = shares.entry(key).or_default();
                share.rejected = share.rejected.saturating_add(*attempts);
            }
        }
        let counted = self.through(UNKNOWN);
        let damaged = batch.damaged.iter().filter(|sequence| **sequence >= counted).count() as u64;
        if damaged > 0 {
            shares.entry(UNKNOWN).or_default().damaged = damaged;
        }
        let mut settled = Settled::default();
        for (key, share) in shares {
            let outcome = self.outcomes.entry(key).or_default();
            outcome.records = outcome.records.saturating_add(share.records);
            outcome.attempts = outcome.attempts.saturating_add(share.attempts);
            outcome.rejected.add(share.rejected, now_ns);
            outcome.damaged.add(share.damaged, now_ns);
            outcome.through = batch.through;
            settled.attempts = settled.attempts.saturating_add(share.attempts);
            settled.rejected = settled.rejected.saturating_add(share.rejected);
            settled.damaged = settled.damaged.saturating_add(share.damaged);
            let values = outcome.values();
            if !self.table.store(key, &values) {
                tracing::error!(event = "spool_row_lost", key, "the table of counts has no row for it");
            }
        }
        // Last: until then the batch would be sent again, and these rows know it.
        if let Some(cursor) = self.head.get_mut(CURSOR) {
            *cursor = batch.through;
        }
        self.table.store(SELF, &self.head);
        settled
    }

    fn through(&self, key: u64) -> u64 {
        self.outcomes.get(&key).map_or(0, |outcome| outcome.through)
    }

    fn key(&self, cgroup_id: u64) -> u64 {
        if self.table.has_room(cgroup_id) { cgroup_id } else { OTHERS }
    }
}

/// Attempts that the endpoint refused for good, by cgroup id; by [`UNKNOWN`] where it did not say whose.
pub type Rejected = BTreeMap<u64, u64>;
