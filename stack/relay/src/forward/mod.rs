//! Sends a lane's records on, the oldest first, and lets one go only on the endpoint's answer.
//!
//! An answer is a response, also one that rejects records (`partial_success`). Everything else is no answer, INTERNAL too:
//! a collector whose store is down says INTERNAL, permanent, and means neither. Only where the endpoint takes other records
//! and keeps refusing these is the one that it cannot take looked for ([`isolate`]).

mod isolate;

use std::{
    error::Error as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use bytes::Bytes;
use tokio::{sync::watch, time::sleep};
use tonic::Status;

use crate::{client::Client, dead_letters::DeadLetters, lane::Lane, store::Kept};

/// Records of a request, at most.
const BATCH: usize = 1000;
/// Bytes of a request, at most; the receiver takes four times as many.
const BYTES: usize = 4 << 20;
/// Attempts before the reason is looked for in the batch.
const TRIES: u32 = 3;
/// The first wait after a failure, at least; ...
const FIRST: Duration = Duration::from_millis(50);
/// ... and the last ones. Each is up to twice as long, drawn, so that lanes do not come back at the same moment.
const LAST: Duration = Duration::from_millis(2500);
/// How often the file is looked at while nobody says that there is something new.
const IDLE: Duration = Duration::from_secs(1);
/// Longest wait between attempts once the relay ends.
const CLOSING: Duration = Duration::from_millis(500);

/// How a lane's forwarder fares.
#[derive(Debug, Default)]
pub struct State {
    /// Requests without an answer.
    pub errors: AtomicU64,
    problem: Mutex<Option<String>>,
}

/// A lane's forwarder.
pub struct Forwarder {
    /// The lane.
    pub lane: Lane,
    /// Its endpoint.
    pub client: Client,
    /// Where a record is kept that the endpoint refuses for good.
    pub dead_letters: DeadLetters,
    /// Where it says how it fares.
    pub state: Arc<State>,
    /// A record that the endpoint took. To send it again adds no event to the store.
    pub proof: Option<Bytes>,
    /// Most records that the endpoint takes at once, as far as is known.
    pub limit: usize,
}

/// What came of records that were sent.
#[derive(Debug, Default)]
struct Answered {
    /// Those that were answered for.
    sequences: Vec<u64>,
    /// How many of them were refused for good.
    rejected: u64,
}

impl State {
    /// What is wrong now, if anything.
    pub fn problem(&self) -> Option<String> {
        self.lock().clone()
    }

    fn set(&self, problem: Option<String>) {
        *self.lock() = problem;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        // Replaced whole: valid even if a holder panicked.
        self.problem.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Forwarder {
    /// Of a lane, to an endpoint.
    pub fn new(lane: Lane, client: Client, dead_letters: DeadLetters, state: Arc<State>) -> Self {
        Self { lane, client, dead_letters, state, proof: None, limit: BATCH }
    }

    /// Forwards until `stop` says so and nothing is left, or it is cancelled.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let (mut tries, mut waits) = (0_u32, waits());
        loop {
            let batch = match self.oldest().await {
                Ok(batch) => batch,
                Err(problem) => {
                    self.state.set(Some(problem));
                    wait(waits.next().unwrap_or(LAST), &mut stop).await;
                    continue;
                }
            };
            if batch.is_empty() {
                if *stop.borrow() {
                    return;
                }
                tokio::select! {
                    () = self.lane.news() => {}
                    () = sleep(IDLE) => {}
                    _ = stop.changed() => {}
                }
                continue;
            }
            let mut answered = Answered::default();
            let taken = self.ask(&batch, &mut answered).await.is_ok();
            if taken {
                (tries, waits) = (0, self::waits());
                self.limit = self.limit.saturating_add(self.limit / 16).saturating_add(1).min(BATCH);
            } else {
                tries = tries.saturating_add(1);
                if tries.is_multiple_of(TRIES) {
                    self.isolate(batch, &mut answered).await;
                }
            }
            let progress = !answered.sequences.is_empty();
            self.settle(answered).await;
            if !progress {
                wait(waits.next().unwrap_or(LAST), &mut stop).await;
            }
        }
    }

    async fn oldest(&self) -> Result<Vec<Kept>, String> {
        let (store, limit) = (Arc::clone(&self.lane.store), self.limit);
        match tokio::task::spawn_blocking(move || store.oldest(limit, BYTES)).await {
            Ok(Ok(batch)) => Ok(batch),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(format!("its file was not read: {error}")),
        }
    }

    /// Sends records once.
    async fn ask(&mut self, records: &[Kept], answered: &mut Answered) -> Result<(), Status> {
        let bytes: Vec<Bytes> = records.iter().map(|kept| kept.record.clone()).collect();
        let (rejected, why) = match self.client.export(bytes.clone()).await {
            Ok(answer) => answer,
            Err(status) => {
                self.failed(&status);
                return Err(status);
            }
        };
        self.state.set(None);
        answered.sequences.extend(records.iter().map(|kept| kept.sequence));
        if rejected > 0 {
            self.reject(&bytes, rejected, &why, answered);
        } else {
            self.proof = bytes.last().cloned();
        }
        Ok(())
    }

    /// Counts what was refused for good, and keeps it for a person. Those records are in `answered`.
    fn reject(&self, records: &[Bytes], count: u64, why: &str, answered: &mut Answered) {
        tracing::error!(
            event = "backend_rejected",
            lane = %self.lane.name,
            rejected = count,
            sent = records.len(),
            "these records are not in the store; the file of dead letters has them, and the store's reason"
        );
        self.dead_letters.add(records, count, why);
        answered.rejected = answered.rejected.saturating_add(count);
    }

    fn failed(&self, status: &Status) {
        self.state.errors.fetch_add(1, Ordering::Relaxed);
        // The words of an endpoint may have a record's content in them; those of the connection do not.
        let problem = match status.source() {
            Some(cause) => format!("{:?}: {cause}", status.code()),
            None => format!("the endpoint answers {:?}; why is in its own log", status.code()),
        };
        if self.state.problem().as_ref() != Some(&problem) {
            tracing::warn!(event = "not_forwarded", lane = %self.lane.name, problem, "records are kept, and sent again");
        }
        self.state.set(Some(problem));
    }

    /// Lets them go. Where that fails they are sent again: the same `event_id` is the same event.
    async fn settle(&self, answered: Answered) {
        if answered.sequences.is_empty() {
            return;
        }
        if let Err(error) = self.lane.settle(answered.sequences, answered.rejected).await {
            self.state.set(Some(error.to_string()));
            sleep(CLOSING).await;
        }
    }
}

/// Not for long once the relay ends.
async fn wait(length: Duration, stop: &mut watch::Receiver<bool>) {
    if *stop.borrow() {
        return sleep(length.min(CLOSING)).await;
    }
    tokio::select! {
        () = sleep(length) => {}
        _ = stop.changed() => {}
    }
}

/// Waits between attempts, from [`FIRST`] to [`LAST`], twice as long each time.
fn waits() -> ExponentialBackoff {
    let waits = ExponentialBuilder::new().with_min_delay(FIRST).with_max_delay(LAST);
    waits.without_max_times().with_jitter().build()
}
