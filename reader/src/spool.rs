//! Records between the ring and the endpoint's answer, in files that survive the reader.
//!
//! One producer (the drain thread) and one consumer (the exporter): push, read without removing, settle. They share
//! no lock but two that are held for a moment: of the list of segments, and of what the consumer lost. [`format`] has the layout and its reasons, [`abi::spool::table`] that
//! of the counters.
//!
//! # The equations
//! For each container, in attempts (records weighted by `event_count`), at rest:
//! ```text
//! submitted + folded = records + folded here + spool_full          (and undecodable items, whose container is unknown)
//! records + folded   = answered + pending + spool_damaged
//! answered           = distinct event_id in the store + backend_rejected
//! ```

mod recovery;
mod segment;
mod table;
mod tail;
mod writer;

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use abi::{LossPoint, Record};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

pub use abi::spool::{Content, FOLDER, Intake, Loss, Outcome, Ring, Tally, counts, format};
pub use recovery::{OpenError, Recovered};
pub use tail::{Batch, Entry, Rejected, Settled};
pub use writer::Stored;

use crate::clock::{Offset, boot_ns};
use segment::Piece;
use tail::Tail;
use writer::Writer;

/// A bounded queue in files: one producer, one consumer.
#[derive(Debug)]
pub struct Spool {
    writer: Mutex<Writer>,
    tail: Mutex<Tail>,
    /// All that may hold what is not acknowledged; the last is the one being written.
    segments: Mutex<VecDeque<Piece>>,
    /// What the consumer lost, for the writer to tell of.
    backend: Mutex<HashMap<(u64, LossPoint), Tally>>,
    next: AtomicU64,
    acknowledged: AtomicU64,
    closed: AtomicBool,
    changed: Notify,
    nonce: u64,
    bound: u64,
    boot: u128,
}

impl Spool {
    /// A part of every `event_id`: chosen when the spool was made, kept for its life.
    pub const fn nonce(&self) -> u64 {
        self.nonce
    }

    /// The producer's side, for a number of pushes. What is pushed is seen when it is dropped.
    pub fn producer(&self) -> Producer<'_> {
        Producer { spool: self, writer: lock(&self.writer) }
    }

    /// No more records will come: what is there need not wait for company.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Entries stored and not acknowledged.
    pub fn depth(&self) -> u64 {
        self.next.load(Ordering::Acquire).saturating_sub(self.acknowledged.load(Ordering::Acquire))
    }

    /// Most records it stores.
    pub const fn bound(&self) -> u64 {
        self.bound
    }

    /// Waits until `batch` entries are there, or the first has waited for `flush`, or the spool is closed. False:
    /// closed and empty, for good. May be cancelled at any time.
    pub async fn ready(&self, batch: usize, flush: Duration) -> bool {
        loop {
            if self.depth() > 0 || self.is_closed() {
                break;
            }
            self.changed.notified().await;
        }
        let deadline = Instant::now().checked_add(flush);
        loop {
            let (depth, closed) = (self.depth(), self.is_closed());
            if depth >= batch as u64 || closed {
                return depth > 0;
            }
            match deadline {
                Some(at) if timeout_at(at, self.changed.notified()).await.is_err() => return true,
                Some(_) => {}
                None => self.changed.notified().await,
            }
        }
    }

    /// Waits until the spool is closed. May be cancelled at any time.
    pub async fn closed(&self) {
        while !self.is_closed() {
            self.changed.notified().await;
        }
    }

    /// The oldest entries, at most `limit`. They stay until settled: without that, the next call returns them again.
    ///
    /// # Errors
    /// Where a segment cannot be read.
    pub fn read(&self, limit: usize) -> io::Result<Batch> {
        let end = self.next.load(Ordering::Acquire);
        let mut batch = Batch { through: self.acknowledged.load(Ordering::Acquire), ..Batch::default() };
        let limit = batch.through.saturating_add(limit as u64).min(end);
        while batch.through < limit {
            let from = batch.through;
            let (piece, end) = self.piece(from, limit);
            let Some(piece) = piece else {
                // What lay here was in a file that is not there any more.
                batch.damaged.extend(from..end);
                batch.through = end;
                continue;
            };
            let bytes = piece.read(from, end.saturating_sub(from))?;
            let header = &piece.header;
            let earlier = (header.ring.boot != self.boot).then(|| Offset::new(0, header.wall));
            for (sequence, slot) in format::slots(&bytes, header.seed(), from) {
                match slot {
                    Some(slot) => batch.entries.push(Entry {
                        sequence,
                        nonce: header.nonce,
                        content: slot.content,
                        earlier,
                    }),
                    None => batch.damaged.push(sequence),
                }
                batch.through = sequence.saturating_add(1);
            }
        }
        Ok(batch)
    }

    /// The segment that holds the entry `from`, if one does, and where that ends: at the next segment, or at `limit`.
    fn piece(&self, from: u64, limit: u64) -> (Option<Piece>, u64) {
        let segments = lock(&self.segments);
        let next = segments.partition_point(|piece| piece.header.first <= from);
        let end = segments.get(next).map_or(limit, |piece| piece.header.first.min(limit));
        let piece =
            next.checked_sub(1).and_then(|at| segments.get(at)).filter(|piece| piece.header.end() > from);
        (piece.cloned(), piece.map_or(end, |piece| piece.header.end().min(end)))
    }

    /// Forgets a batch, which must be the oldest, and counts what became of it. Returns what was not counted
    /// before.
    pub fn settle(&self, batch: &Batch, rejected: &Rejected) -> Settled {
        let now_ns = boot_ns().unwrap_or_default();
        let mut tail = lock(&self.tail);
        let settled = tail.settle(batch, rejected, now_ns);
        self.publish_losses(&tail);
        drop(tail);
        self.acknowledged.store(batch.through, Ordering::Release);
        loop {
            let mut segments = lock(&self.segments);
            // The last one is being written.
            let done = segments.get(1).is_some_and(|next| next.header.first <= batch.through);
            let Some(piece) = segments.pop_front_if(|_| done) else { break };
            drop(segments);
            if let Err(error) = std::fs::remove_file(&piece.path) {
                tracing::warn!(event = "spool_file_left", path = %piece.path.display(), %error);
            }
        }
        settled
    }

    fn publish_losses(&self, tail: &Tail) {
        let mut backend = lock(&self.backend);
        for (cgroup_id, outcome) in &tail.outcomes {
            for (point, tally) in
                [(LossPoint::BackendRejected, outcome.rejected), (LossPoint::SpoolDamaged, outcome.damaged)]
            {
                if tally.total > 0 {
                    backend.insert((*cgroup_id, point), tally);
                }
            }
        }
    }
}

/// The spool's end towards the ring.
pub struct Producer<'a> {
    spool: &'a Spool,
    writer: MutexGuard<'a, Writer>,
}

impl Producer<'_> {
    /// From here on items come from the ring `id` of this boot, and times are those of `clock`.
    pub fn attach(&mut self, id: u32, clock: Offset, recovered: &Recovered) -> Ring {
        let ring = Ring { boot: self.spool.boot, id };
        let stored = if recovered.ring == ring { recovered.accounted } else { 0 };
        self.writer.attach(ring, stored, clock.wall_of(0));
        ring
    }

    /// Stores a record that lies at `position` of the ring; never waits for the consumer.
    pub fn push(&mut self, record: &Record, position: u64, now_ns: u64) -> Stored {
        self.make_room();
        self.writer.push(record, position, self.spool.acknowledged.load(Ordering::Acquire), now_ns)
    }

    /// Counts what lies at `position` of the ring and is no record.
    pub fn undecodable(&mut self, position: u64, now_ns: u64) -> Stored {
        self.writer.undecodable(position, now_ns)
    }

    /// Stores a record of folded attempts. False: there is no room; read the fold again later.
    pub fn push_fold(&mut self, record: &Record) -> bool {
        self.make_room();
        self.writer.push_fold(record, self.spool.acknowledged.load(Ordering::Acquire)).is_some()
    }

    /// Stores what tells of losses that no document tells of yet.
    pub fn document_losses(&mut self) {
        let backend = lock(&self.spool.backend).clone();
        self.make_room();
        self.writer.document(&backend, self.spool.acknowledged.load(Ordering::Acquire));
    }

    fn make_room(&mut self) {
        match self.writer.rotate() {
            Ok(Some(piece)) => {
                let mut segments = lock(&self.spool.segments);
                // An empty one of another ring had this place, and this name.
                segments.pop_back_if(|last| last.header.first == piece.header.first);
                segments.push_back(piece);
            }
            Ok(None) => {}
            // Each record that finds no room is counted; this says why.
            Err(error) => tracing::error!(
                event = "spool_cannot_grow",
                path = %self.writer.dir.display(),
                %error,
                "records are lost until there is room"
            ),
        }
    }
}

impl Drop for Producer<'_> {
    fn drop(&mut self) {
        self.writer.flush();
        if self.spool.next.swap(self.writer.next, Ordering::AcqRel) != self.writer.next {
            self.spool.changed.notify_one();
        }
    }
}

/// A panic elsewhere leaves what is behind the lock as the next reader would find it in the files.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
