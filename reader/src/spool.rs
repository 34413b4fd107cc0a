//! Records between the ring and the endpoint's answer.
//!
//! The interface is that of a file that is written at one end and acknowledged at the other: push,
//! take without removing, acknowledge. Sequence numbers count what was accepted, without a gap.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use abi::Record;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// A record with its place in the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Place among all records accepted by this spool, from 0.
    pub sequence: u64,
    /// As it came from the ring.
    pub record: Record,
}

/// The spool is at its bound; the record was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the spool holds its {bound} records")]
pub struct Full {
    /// Records it holds.
    pub bound: usize,
}

/// A bounded queue in memory: one producer, one consumer.
#[derive(Debug)]
pub struct Spool {
    inner: Mutex<Inner>,
    changed: Notify,
    bound: usize,
}

#[derive(Debug, Default)]
struct Inner {
    entries: VecDeque<Entry>,
    next: u64,
    closed: bool,
}

impl Spool {
    /// A spool of at most `bound` unacknowledged records. Memory is taken as they come.
    pub fn new(bound: usize) -> Self {
        Self { inner: Mutex::default(), changed: Notify::new(), bound }
    }

    /// Stores a record; never waits for the consumer. Returns its sequence number.
    ///
    /// # Errors
    /// [`Full`], where the caller must count a loss.
    pub fn push(&self, record: Record) -> Result<u64, Full> {
        let mut inner = self.lock();
        if inner.entries.len() >= self.bound {
            return Err(Full { bound: self.bound });
        }
        let sequence = inner.next;
        inner.next = sequence.saturating_add(1);
        inner.entries.push_back(Entry { sequence, record });
        drop(inner);
        self.changed.notify_one();
        Ok(sequence)
    }

    /// No more records will come: what is there need not wait for company.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Records stored and not acknowledged.
    pub fn depth(&self) -> usize {
        self.lock().entries.len()
    }

    /// Most records it stores.
    pub const fn bound(&self) -> usize {
        self.bound
    }

    /// Waits until `batch` records are there, or the first has waited for `flush`, or the spool is
    /// closed. False: closed and empty, for good. May be cancelled at any time.
    pub async fn ready(&self, batch: usize, flush: Duration) -> bool {
        loop {
            let (depth, closed) = self.state();
            if depth > 0 || closed {
                break;
            }
            self.changed.notified().await;
        }
        let deadline = Instant::now().checked_add(flush);
        loop {
            let (depth, closed) = self.state();
            if depth >= batch || closed {
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

    /// The oldest records, at most `limit`. They stay until acknowledged: without that, the next
    /// call returns them again.
    pub fn take(&self, limit: usize) -> Vec<Entry> {
        self.lock().entries.iter().take(limit).copied().collect()
    }

    /// Forgets every record up to and with this sequence number.
    pub fn acknowledge(&self, through: u64) {
        let mut inner = self.lock();
        while inner.entries.front().is_some_and(|entry| entry.sequence <= through) {
            inner.entries.pop_front();
        }
    }

    fn state(&self) -> (usize, bool) {
        let inner = self.lock();
        (inner.entries.len(), inner.closed)
    }

    /// A panic elsewhere leaves the queue whole: no method can stop half-way through a change.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::sample;

    fn sequences(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.sequence).collect()
    }

    #[test]
    fn a_batch_stays_until_it_is_acknowledged() {
        let spool = Spool::new(10);
        for at in 0..5 {
            assert_eq!(spool.push(sample::record()), Ok(at));
        }
        assert_eq!(sequences(&spool.take(3)), [0, 1, 2]);
        assert_eq!(sequences(&spool.take(3)), [0, 1, 2]);
        spool.acknowledge(2);
        assert_eq!(sequences(&spool.take(3)), [3, 4]);
        assert_eq!(spool.depth(), 2);
    }

    #[test]
    fn the_bound_counts_what_is_not_acknowledged_and_leaves_no_gap() {
        let spool = Spool::new(2);
        assert_eq!(spool.push(sample::record()), Ok(0));
        assert_eq!(spool.push(sample::record()), Ok(1));
        assert_eq!(spool.push(sample::record()), Err(Full { bound: 2 }));
        spool.acknowledge(0);
        assert_eq!(spool.push(sample::record()), Ok(2));
        assert_eq!(sequences(&spool.take(9)), [1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lone_record_waits_no_longer_than_the_flush_time() {
        let spool = Spool::new(10);
        spool.push(sample::record()).unwrap();
        let start = Instant::now();
        assert!(spool.ready(5, Duration::from_millis(100)).await);
        assert_eq!(start.elapsed(), Duration::from_millis(100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_batch_and_a_closed_spool_do_not_wait() {
        let spool = Spool::new(10);
        let start = Instant::now();
        spool.push(sample::record()).unwrap();
        spool.push(sample::record()).unwrap();
        assert!(spool.ready(2, Duration::from_secs(9)).await);
        spool.close();
        assert!(spool.ready(5, Duration::from_secs(9)).await);
        spool.acknowledge(1);
        assert!(!spool.ready(5, Duration::from_secs(9)).await);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
