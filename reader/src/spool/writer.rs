//! The spool's end towards the ring: slots, counts of what came in, and documents of what was lost.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::PathBuf,
};

use abi::{LossPoint, Record, flow_flag};

use super::{
    counts::{Intake, OTHERS, UNKNOWN},
    format::{Content, Header, Loss, Ring, Slot},
    segment::{Piece, Writable},
    table::Table,
};

/// Slots of a segment: 3.4 MB.
pub(super) const SLOTS: u32 = 16_384;
/// Losses are told even where there is no room for records: so many.
pub(super) const RESERVE: u64 = 1024;

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is in the spool, under this sequence.
    At(u64),
    /// It was stored before: the reader was killed between storing and releasing it.
    Again,
    /// There is no room. It is counted as lost.
    Full,
}

#[derive(Debug)]
pub(super) struct Writer {
    pub dir: PathBuf,
    pub nonce: u64,
    pub bound: u64,
    pub table: Table,
    pub intakes: HashMap<u64, Intake>,
    /// Rows that are behind their counts.
    pub dirty: HashSet<u64>,
    pub segment: Option<Writable>,
    pub next: u64,
    pub ring: Ring,
    /// Everything below this position of the ring is in the spool, or counted.
    pub accounted: u64,
    pub wall: u64,
}

impl Writer {
    /// From here on items come from `ring`; `wall` is the wall-clock time of the boot clock's 0. What was stored of
    /// it before is known from the last segment and the rows.
    pub fn attach(&mut self, ring: Ring, stored: u64, wall: u64) {
        let counted = self.intakes.values().filter(|intake| intake.ring == ring.id);
        let counted = counted.map(|intake| intake.accounted).max().unwrap_or(0);
        // The same ring, opened again by the same process.
        let known = if self.ring == ring { self.accounted } else { 0 };
        self.accounted = stored.max(counted).max(known);
        self.ring = ring;
        self.wall = wall;
    }

    /// A record that lies at `position` of the ring.
    pub fn push(&mut self, record: &Record, position: u64, acknowledged: u64, now_ns: u64) -> Stored {
        if position < self.accounted {
            return Stored::Again;
        }
        self.accounted = position.saturating_add(1);
        let cgroup_id = record.flow.cgroup_id;
        match self.append(Content::Record(*record), acknowledged, self.bound) {
            Some(sequence) => {
                let intake = self.intake(cgroup_id);
                intake.records = intake.records.saturating_add(record.event_count);
                Stored::At(sequence)
            }
            None => {
                self.lose(cgroup_id, LossPoint::SpoolFull, record.event_count, now_ns);
                Stored::Full
            }
        }
    }

    /// A record of folded attempts. It lies at no position; if there is no room it comes again, with more.
    pub fn push_fold(&mut self, record: &Record, acknowledged: u64) -> Option<u64> {
        let sequence = self.append(Content::Record(*record), acknowledged, self.bound)?;
        let intake = self.intake(record.flow.cgroup_id);
        intake.folded = intake.folded.saturating_add(record.event_count);
        Some(sequence)
    }

    /// What lies at `position` of the ring is no record.
    pub fn undecodable(&mut self, position: u64, now_ns: u64) -> Stored {
        if position < self.accounted {
            return Stored::Again;
        }
        self.accounted = position.saturating_add(1);
        self.lose(UNKNOWN, LossPoint::Decode, 1, now_ns);
        Stored::Full
    }

    /// Counts a loss, in the table before anything else happens: no slot tells of it.
    pub fn lose(&mut self, cgroup_id: u64, point: LossPoint, count: u64, now_ns: u64) {
        let (ring, accounted) = (self.ring.id, self.accounted);
        let key = self.key(cgroup_id);
        let intake = self.intake(cgroup_id);
        (intake.ring, intake.accounted) = (ring, accounted);
        if let Some(tally) = intake.loss(point) {
            tally.add(count, now_ns);
        }
        self.store(key);
    }

    /// Tells of losses that have no document yet. `backend` are those that the consumer counts.
    pub fn document(&mut self, backend: &HashMap<(u64, LossPoint), super::Tally>, acknowledged: u64) {
        for (&(cgroup_id, point), tally) in backend {
            if let Some(known) = self.intake(cgroup_id).loss(point) {
                known.reach(tally.total, tally.first_ns, tally.last_ns);
            }
        }
        let mut losses = Vec::new();
        for (cgroup_id, intake) in &self.intakes {
            for (point, tally) in LossPoint::ALL.iter().zip(&intake.losses) {
                if tally.undocumented() > 0 {
                    losses.push(Loss {
                        cgroup_id: *cgroup_id,
                        point: *point,
                        added: tally.undocumented(),
                        total: tally.total,
                        first_ns: tally.first_ns,
                        last_ns: tally.last_ns,
                    });
                }
            }
        }
        for loss in losses {
            if self.append(Content::Loss(loss), acknowledged, self.bound.saturating_add(RESERVE)).is_none() {
                return;
            }
            if let Some(tally) = self.intake(loss.cgroup_id).loss(loss.point) {
                tally.documented = loss.total;
            }
        }
    }

    /// Brings the rows up to their counts.
    pub fn flush(&mut self) {
        for key in std::mem::take(&mut self.dirty) {
            self.store(key);
        }
    }

    fn append(&mut self, content: Content, acknowledged: u64, bound: u64) -> Option<u64> {
        if self.next.saturating_sub(acknowledged) >= bound {
            return None;
        }
        let slot = Slot { sequence: self.next, accounted: self.accounted, content };
        if !self.segment.as_mut()?.write(&slot) {
            return None;
        }
        self.next = self.next.saturating_add(1);
        let key = self.key(content.cgroup_id());
        self.dirty.insert(key);
        Some(slot.sequence)
    }

    /// Makes a segment where the last one is full or of another ring.
    ///
    /// # Errors
    /// Where the disk has no room, for instance.
    pub fn rotate(&mut self) -> io::Result<Option<Piece>> {
        let usable = |segment: &Writable| !segment.is_full() && segment.header().ring == self.ring;
        if self.segment.as_ref().is_some_and(usable) {
            return Ok(None);
        }
        // A segment that is no longer the last is not counted again after a restart.
        self.flush();
        let header = Header {
            nonce: self.nonce,
            ring: self.ring,
            slots: SLOTS,
            first: self.next,
            accounted: self.accounted,
            wall: self.wall,
        };
        // It would refuse the next slot, whether or not another can be made.
        self.segment = None;
        let (segment, piece) = Writable::create(&self.dir, header)?;
        self.segment = Some(segment);
        Ok(Some(piece))
    }

    /// Counts what is in a slot that was written before the row was.
    pub fn recount(&mut self, slot: &Slot) {
        let cgroup_id = slot.content.cgroup_id();
        let key = self.key(cgroup_id);
        let intake = self.intake(cgroup_id);
        if slot.sequence < intake.through {
            return;
        }
        match &slot.content {
            Content::Record(record) if record.flow.flags & flow_flag::FOLDED != 0 => {
                intake.folded = intake.folded.saturating_add(record.event_count);
            }
            Content::Record(record) => intake.records = intake.records.saturating_add(record.event_count),
            Content::Loss(loss) => {
                if let Some(tally) = intake.loss(loss.point) {
                    tally.documented = tally.documented.max(loss.total);
                }
            }
        }
        self.dirty.insert(key);
    }

    /// The container's own row, or the one of all that have none.
    fn key(&self, cgroup_id: u64) -> u64 {
        if self.table.has_room(cgroup_id) { cgroup_id } else { OTHERS }
    }

    fn intake(&mut self, cgroup_id: u64) -> &mut Intake {
        let key = self.key(cgroup_id);
        self.intakes.entry(key).or_insert_with(|| {
            // At once, so that the table knows how many rows are taken.
            let new = Intake::default();
            self.table.store(key, &new.values());
            new
        })
    }

    fn store(&mut self, key: u64) {
        let through = self.next;
        let Some(intake) = self.intakes.get_mut(&key) else { return };
        intake.through = through;
        let values = intake.values();
        if !self.table.store(key, &values) {
            tracing::error!(event = "spool_row_lost", key, "the table of counts has no row for it");
        }
    }
}
