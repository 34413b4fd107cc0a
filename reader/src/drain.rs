//! Takes records out of the ring. Runs on a thread of its own and waits for nothing but the ring: a
//! full spool is a counted loss, never a reason to stop.

mod decode;
mod fold;
mod lock;
mod pinned;

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use abi::{Fold, FoldKey, LossPoint, Noted};
#[cfg(test)]
pub(crate) use decode::encode;
pub use decode::{DecodeError, decode};
pub use fold::{Added, Readings, StoredFold};
pub use lock::{ConsumerLock, LockError};
pub use pinned::PinnedRing;

use crate::{
    Fault,
    clock::{Offset, boot_ns},
    observe::{Component, Counters, Health},
    spool::{Producer, Recovered, Ring, Spool, Stored},
};

/// Bounds the latency of a record: the kernel side wakes the reader by amount, not for each record.
const WAIT: Duration = Duration::from_millis(50);
/// Between attempts to open the ring, and after an error.
const RETRY: Duration = Duration::from_millis(500);
/// How often the source is asked whether it still is the one that is pinned.
const CHECK: Duration = Duration::from_secs(1);
/// Between readings of what was folded.
const FOLDS: Duration = Duration::from_millis(250);
/// Most records of one pass, so that a flood cannot keep the thread from hearing that it must stop.
const PASS: usize = 4096;
/// Longest last pass: under a flood the ring is never empty.
const LAST_PASS: Duration = Duration::from_secs(2);

/// Where records come from. Only what [`drain`](Drain::run) needs of a ring.
pub trait Source {
    /// Waits until there is something to take, at most `timeout`. False: nothing came.
    ///
    /// # Errors
    /// Where the source is broken and must be opened anew.
    fn wait(&mut self, timeout: Duration) -> io::Result<bool>;

    /// Hands the oldest item to `take`, with its position, and releases it after that. False: there is none.
    /// Positions rise, and an item that was not released comes again at the same one.
    fn next(&mut self, take: &mut dyn FnMut(u64, &[u8])) -> bool;

    /// Which ring this is: no other has this number while the machine runs.
    fn id(&self) -> u32;

    /// Every entry of denied attempts that were folded, with its counts since it was made.
    ///
    /// # Errors
    /// Where they cannot be read.
    fn folds(&mut self) -> io::Result<Vec<(FoldKey, Fold)>>;

    /// How much of an entry is noted as documented; None: the entry is not there any more.
    ///
    /// # Errors
    /// Where that cannot be read.
    fn noted(&self, key: &FoldKey, fold: &Fold) -> io::Result<Option<u64>>;

    /// Notes how much of an entry is documented.
    ///
    /// # Errors
    /// Where that cannot be written.
    fn note(&mut self, key: &FoldKey, noted: Noted) -> io::Result<()>;

    /// Whether something else has taken this source's place, so that nothing will come from it.
    ///
    /// # Errors
    /// Where that cannot be told.
    fn is_replaced(&self) -> io::Result<bool>;
}

/// Why a source could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It may be there later.
    #[error("{0}")]
    NotYet(String),
    /// Reading it would be wrong; someone must act.
    #[error("{0}")]
    Refused(String),
}

/// The stage.
#[derive(Debug)]
pub struct Drain {
    /// What comes after.
    pub spool: Arc<Spool>,
    /// What was in it at the start.
    pub recovered: Recovered,
    /// Where drained records and losses are counted.
    pub counters: Arc<Counters>,
    /// Where it says how it is.
    pub health: Arc<Health>,
    /// A fault to show.
    pub fault: Fault,
}

impl Drain {
    /// Opens a source, again where it breaks or is replaced, and drains it until the other end of
    /// `stop` is dropped; then drains what is there a last time.
    ///
    /// # Errors
    /// What `open` refuses.
    pub fn run<S: Source>(
        &self,
        stop: &Receiver<()>,
        mut open: impl FnMut() -> Result<S, OpenError>,
    ) -> Result<(), OpenError> {
        let mut faulty = 0_u64;
        // Of the same ring they go on: what could not be noted is known here alone.
        let mut known = None;
        loop {
            match open() {
                Ok(mut source) => match self.drain(stop, &mut source, &mut known, &mut faulty) {
                    Ok(End::Stopped) => return Ok(()),
                    Ok(End::Replaced) => {
                        tracing::warn!(event = "ring_replaced", "another ring was pinned; opening it");
                        continue;
                    }
                    Err(error) => {
                        self.health.down(Component::Drain, &format!("the ring cannot be read: {error}"))
                    }
                },
                Err(OpenError::NotYet(cause)) => self.health.down(Component::Drain, &cause),
                Err(refused) => {
                    self.health.down(Component::Drain, &refused.to_string());
                    return Err(refused);
                }
            }
            if stopped_within(stop, RETRY) {
                return Ok(());
            }
        }
    }

    fn drain<S: Source>(
        &self,
        stop: &Receiver<()>,
        source: &mut S,
        known: &mut Option<(Ring, Readings)>,
        faulty: &mut u64,
    ) -> io::Result<End> {
        let mut checked = Instant::now();
        let mut folded = Instant::now();
        let ring = self.spool.producer().attach(source.id(), Offset::measure()?, &self.recovered);
        let of_ring = known.take().filter(|(of, _)| *of == ring);
        let (_, readings) = known.insert(of_ring.unwrap_or_else(|| {
            let stored =
                if ring == self.recovered.ring { self.recovered.folds.clone() } else { HashMap::new() };
            (ring, Readings::resume(stored))
        }));
        loop {
            let now = boot_ns()?;
            self.health.up(Component::Drain);
            self.health.drain_alive(now);
            if stopped_within(stop, Duration::ZERO) {
                self.last_pass(source, faulty);
                self.folds(source, readings)?;
                self.spool.producer().document_losses();
                return Ok(End::Stopped);
            }
            if folded.elapsed() >= FOLDS {
                self.folds(source, readings)?;
                folded = Instant::now();
            }
            if checked.elapsed() >= CHECK {
                if source.is_replaced()? {
                    self.last_pass(source, faulty);
                    self.folds(source, readings)?;
                    return Ok(End::Replaced);
                }
                self.spool.producer().document_losses();
                checked = Instant::now();
            }
            if source.wait(WAIT)? && self.pass(source, faulty) == 0 {
                // A record is reserved and not yet committed: poll(2) says readable, there is
                // nothing to take. Do not spin on it.
                stopped_within(stop, Duration::from_millis(1));
            }
        }
    }

    /// Spools what was folded since the last time. What finds no room is counted at the next.
    fn folds<S: Source>(&self, source: &mut S, readings: &mut Readings) -> io::Result<()> {
        let mut producer = self.spool.producer();
        let entries = source.folds()?;
        readings.keep(&entries);
        for &(key, fold) in &entries {
            if readings.is_old(&key, &fold) {
                continue;
            }
            let Some(noted) = source.noted(&key, &fold)? else { continue };
            let note = |count| Noted { first_ns: fold.first_ns, count };
            match readings.added(&key, &fold, noted) {
                Added::Record(record) if producer.push_fold(&record) => {
                    self.counters.folded(record.event_count);
                    readings.told(key, &fold);
                    source.note(&key, note(fold.count))?;
                    readings.documented(key, &fold);
                }
                Added::Record(_) => {}
                Added::Note(count) => {
                    if count != noted {
                        source.note(&key, note(count))?;
                    }
                    readings.documented(key, &fold);
                }
            }
        }
        Ok(())
    }

    fn last_pass<S: Source>(&self, source: &mut S, faulty: &mut u64) {
        let start = Instant::now();
        while self.pass(source, faulty) > 0 && start.elapsed() < LAST_PASS {}
    }

    fn pass<S: Source>(&self, source: &mut S, faulty: &mut u64) -> usize {
        let mut producer = self.spool.producer();
        let now_ns = boot_ns().unwrap_or_default();
        let mut taken = 0_usize;
        let mut take = |position, bytes: &[u8]| self.take(&mut producer, position, bytes, now_ns, faulty);
        while taken < PASS && source.next(&mut take) {
            taken = taken.saturating_add(1);
        }
        taken
    }

    fn take(&self, producer: &mut Producer<'_>, position: u64, bytes: &[u8], now_ns: u64, faulty: &mut u64) {
        if self.fault == Fault::RecordSwallowed {
            *faulty = faulty.wrapping_add(1);
            if faulty.is_multiple_of(2) {
                return;
            }
        }
        if let Some(delay) = self.fault.delay() {
            thread::sleep(delay);
        }
        let (stored, point) = match decode(bytes) {
            Ok(record) => (producer.push(&record, position, now_ns), LossPoint::SpoolFull),
            Err(error) => {
                tracing::debug!(event = "record_undecodable", %error);
                (producer.undecodable(position, now_ns), LossPoint::Decode)
            }
        };
        match stored {
            Stored::At(_) => self.counters.drained(),
            Stored::Full => {
                self.counters.drained();
                self.counters.lost(point, 1);
            }
            Stored::Again => {}
        }
    }
}

enum End {
    Stopped,
    Replaced,
}

fn stopped_within(stop: &Receiver<()>, time: Duration) -> bool {
    !matches!(stop.recv_timeout(time), Err(RecvTimeoutError::Timeout))
}

#[cfg(test)]
mod tests;
