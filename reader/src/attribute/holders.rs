//! Who held a cgroup id or an address, and when: ids and addresses are reused.

use std::sync::Arc;

use crate::document::{Attribution, Owner};

/// Holders remembered of one id or address, beside those that still hold it.
const HOLDERS: usize = 8;
/// How long one that holds nothing any more is remembered, nanoseconds: a day.
const REMEMBERED_NS: u64 = 86_400_000_000_000;

/// One who held it, in a form that every document of its flows can share. Times are nanoseconds since boot.
#[derive(Clone, Debug)]
pub struct Holder {
    pub from_ns: u64,
    pub until_ns: Option<u64>,
    pub agent: Arc<str>,
    pub project: Arc<str>,
    pub container_id: Arc<str>,
}

impl Holder {
    fn holds_at(&self, time_ns: u64) -> bool {
        self.from_ns <= time_ns && self.until_ns.is_none_or(|until| until > time_ns)
    }
}

/// Everyone who held it, in the order in which they came.
#[derive(Debug, Default)]
pub struct History {
    holders: Vec<Holder>,
}

impl History {
    pub fn add(&mut self, new: Holder) {
        let same = |old: &&mut Holder| old.from_ns == new.from_ns && old.container_id == new.container_id;
        match self.holders.iter_mut().find(same) {
            Some(old) => *old = new,
            None => {
                let at = self.holders.partition_point(|holder| holder.from_ns <= new.from_ns);
                self.holders.insert(at, new);
                let gone = self.holders.iter().position(|holder| holder.until_ns.is_some());
                if let Some(gone) = gone.filter(|_| self.holders.len() > HOLDERS) {
                    self.holders.remove(gone);
                }
            }
        }
    }

    /// The last one has left.
    pub fn retire(&mut self, now_ns: u64) {
        if let Some(last) = self.holders.last_mut() {
            last.until_ns.get_or_insert(now_ns);
        }
    }

    /// This one has left.
    pub fn left(&mut self, container_id: &str, at_ns: u64) {
        for holder in self.holders.iter_mut().filter(|holder| *holder.container_id == *container_id) {
            holder.until_ns.get_or_insert(at_ns.max(holder.from_ns));
        }
    }

    /// Of an id that one has at a time: who held it when a flow started that ended at `end_ns`.
    pub fn owner(&self, start_ns: u64, end_ns: u64) -> Owner {
        // The last one who came by then: whoever came before had left by that.
        let after = self.holders.partition_point(|holder| holder.from_ns <= start_ns);
        let (until_then, later) = self.holders.split_at_checked(after).unwrap_or((&self.holders, &[]));
        let Some(holder) = until_then.last() else { return Owner::nobody(Attribution::Unknown) };
        if !holder.holds_at(start_ns) {
            return Owner::nobody(Attribution::Gone);
        }
        let successor = later.first().map(|next| next.from_ns);
        let over = [holder.until_ns, successor].into_iter().flatten().any(|left| left <= end_ns);
        Owner {
            attribution: if over { Attribution::Late } else { Attribution::Known },
            agent: Arc::clone(&holder.agent),
            project: Arc::clone(&holder.project),
            container_id: Arc::clone(&holder.container_id),
        }
    }

    /// Whether another one came after a start and by an end: what lies between belongs to neither for sure.
    pub fn changed_hands(&self, start_ns: u64, end_ns: u64) -> bool {
        self.holders.iter().any(|holder| holder.from_ns > start_ns && holder.from_ns <= end_ns)
    }

    /// Everyone who held it at this time; several where an address is shared.
    pub fn at(&self, time_ns: u64) -> impl Iterator<Item = &Holder> {
        self.holders.iter().filter(move |holder| holder.holds_at(time_ns))
    }

    pub fn is_remembered(&self, now_ns: u64) -> bool {
        self.holders
            .iter()
            .any(|holder| holder.until_ns.is_none_or(|until| now_ns.saturating_sub(until) < REMEMBERED_NS))
    }
}
