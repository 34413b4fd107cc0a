//! Who a record belongs to, and under which name it reached its destination.

mod cgroup;
mod containers;
mod docker;
mod enrolments;
mod holders;
mod names;
mod owners;

pub use containers::{Containers, Listed};
pub use docker::Watch;
pub use enrolments::Enrolments;
pub use names::{DomainNames, NoNames, PinnedNames};
pub use owners::{Contradiction, Owners};

use std::sync::Arc;

use abi::flow_flag;

use crate::{
    Fault,
    clock::Offset,
    document::{Attribution, EgressDocument, EventId, Owner, UnknownWord, Words, address},
    spool::{Content, Entry},
};

/// The stage: entries in, documents out.
pub struct Attributor {
    owners: Owners,
    names: Box<dyn DomainNames>,
    node: String,
    fault: Fault,
    /// Whom [`Fault::DeadLabel`] names.
    first: Option<Owner>,
}

impl Attributor {
    /// `node` goes into every `event_id`: the same for the life of a spool.
    pub fn new(owners: Owners, names: Box<dyn DomainNames>, node: String, fault: Fault) -> Self {
        Self { owners, names, node, fault, first: None }
    }

    /// Call before each batch: sees what was enrolled and retired since the last one.
    ///
    /// # Errors
    /// Why enrolments cannot be read at this time; what was read before is still used.
    pub fn refresh(&mut self, clock: Offset) -> Result<(), String> {
        self.names.refresh();
        self.owners.refresh(clock)
    }

    /// The document of one entry.
    ///
    /// # Errors
    /// A byte that is no member of its set: the entry cannot be read, now or later.
    pub fn attribute(&mut self, entry: &Entry, clock: Offset) -> Result<EgressDocument, UnknownWord> {
        let owner = self.owner(entry, clock);
        let id = EventId { node: &self.node, nonce: entry.nonce, sequence: entry.sequence };
        let record = match &entry.content {
            Content::Record(record) => record,
            Content::Loss(loss) => return Ok(EgressDocument::of_loss(loss, id, owner)),
        };
        let words = Words::of(record)?;
        // Identities of names are given anew at each boot.
        let domain = if entry.earlier.is_some() { 0 } else { record.flow.domain };
        let dst_host = match domain {
            0 => Arc::default(),
            domain => self.names.name(domain).unwrap_or_default(),
        };
        Ok(EgressDocument::new(record, words, id, owner, dst_host))
    }

    fn owner(&mut self, entry: &Entry, clock: Offset) -> Owner {
        // Neither cgroup ids nor the times of an earlier boot say anything about this one's containers.
        if entry.earlier.is_some() {
            return Owner::nobody(Attribution::Unknown);
        }
        let (start_ns, end_ns) = entry.content.times();
        let cgroup_id = entry.content.cgroup_id();
        let is_sum = match &entry.content {
            Content::Record(record) => record.flow.flags & flow_flag::FOLDED != 0,
            Content::Loss(_) => true,
        };
        // A sum over several holders of a cgroup id is nobody's.
        if is_sum && self.owners.changed_hands(cgroup_id, start_ns, end_ns, clock) {
            return Owner::nobody(Attribution::Unknown);
        }
        let src = match &entry.content {
            Content::Record(record) => address(record.flow.src),
            Content::Loss(_) => None,
        };
        let mut owner = self.owners.owner(cgroup_id, start_ns, end_ns, src, clock);
        if self.fault == Fault::LabelSwapped {
            std::mem::swap(&mut owner.agent, &mut owner.project);
        }
        if self.fault == Fault::DeadLabel {
            owner = self.first.get_or_insert(owner).clone();
        }
        owner
    }
}
