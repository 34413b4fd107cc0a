//! Sends batches to the endpoint and forgets a record only on its answer.
//!
//! An answer is a response, also one that rejects records (`partial_success`). Everything else is no answer: the
//! batch is kept and sent again for as long as it takes. INTERNAL too, because a collector whose store is down says
//! INTERNAL, permanent, and means neither. Only where the endpoint takes other records and keeps refusing a batch is
//! the record that it cannot take looked for ([`isolate`]).

mod answer;
mod client;
mod dead_letters;
mod isolate;
mod letter;

use std::{collections::HashSet, sync::Arc, time::Duration};

use abi::LossPoint;
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use bytes::{Bytes, BytesMut};
use emitter::OTHERS_WORDS;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep, timeout},
};
use tonic::Status;

pub use answer::Answer;
pub use client::Client;
pub use dead_letters::DeadLetters;

use crate::{
    Fault,
    attribute::Attributor,
    clock::Offset,
    observe::{Component, Counters, Health},
    spool::{Batch, Entry, Rejected, Spool, counts::UNKNOWN},
};
use letter::{Letter, groups, request};

/// How often enrolments are looked at while nothing comes.
const IDLE: Duration = Duration::from_secs(1);
/// How often the endpoint is asked whether it is there while nothing comes.
const PROBE: Duration = Duration::from_secs(10);
/// Longest wait between attempts once the spool is closed: the time to empty it is bounded.
const CLOSING: Duration = Duration::from_millis(500);
/// Requests of one reading of the spool, after which it is settled, for each that may be under way at once.
const ROUNDS: usize = 4;
/// Attempts before the reason is looked for in the batch.
const TRIES: u32 = 3;
/// The first wait after a failure, at least; ...
const FIRST: Duration = Duration::from_millis(50);
/// ... and the last ones. Each is up to twice as long, drawn, so that readers of many nodes do not come back at the same moment.
const LAST: Duration = Duration::from_millis(2500);
/// How long requests hold records of one container only, after an answer that did not say whose it rejected.
const CAREFUL: Duration = Duration::from_secs(600);
/// Encoded records share allocations of this many bytes.
const ROOM: usize = 256 << 10;

/// The stage, with attribution before it: takes entries from the spool, settles them there.
pub struct Exporter {
    /// The endpoint.
    pub client: Client,
    /// Where entries come from.
    pub spool: Arc<Spool>,
    /// Makes documents of them.
    pub attributor: Attributor,
    /// Where it counts.
    pub counters: Arc<Counters>,
    /// Where it says how it is.
    pub health: Arc<Health>,
    /// Where a record is kept that the endpoint refuses for good.
    pub dead_letters: DeadLetters,
    /// Most records in one request.
    pub batch: usize,
    /// Most requests under way at once.
    pub in_flight: usize,
    /// Longest wait for a batch to fill.
    pub flush: Duration,
    /// A fault to show.
    pub fault: Fault,
    /// What it knows of the endpoint.
    pub endpoint: Endpoint,
}

/// What came of a request, and what was in it.
type Delivered = (Result<ExportLogsServiceResponse, Status>, Vec<Letter>);

/// What is known of the endpoint from its answers.
#[derive(Debug, Default)]
pub struct Endpoint {
    /// A document that it took. To send it again adds no event to the store.
    proof: Option<Bytes>,
    /// Most records it takes at once, where that is less than the batch.
    limit: Option<usize>,
    /// Until when requests hold records that are alike.
    careful: Option<Instant>,
}

impl Exporter {
    /// Exports until the spool is closed and empty.
    pub async fn run(mut self) {
        self.refresh();
        self.probe().await;
        let mut answered = Instant::now();
        loop {
            match timeout(IDLE, self.spool.ready(self.batch, self.flush)).await {
                Ok(false) => return,
                Ok(true) => {
                    self.deliver().await;
                    answered = Instant::now();
                }
                Err(_idle) => {
                    self.refresh();
                    if answered.elapsed() >= PROBE {
                        self.probe().await;
                        answered = Instant::now();
                    }
                }
            }
        }
    }

    fn refresh(&mut self) -> Option<Offset> {
        let clock = match Offset::measure() {
            Ok(clock) => clock,
            Err(error) => {
                self.health.down(Component::Attribute, &format!("cannot read the boot clock: {error}"));
                return None;
            }
        };
        match self.attributor.refresh(clock) {
            Ok(()) => self.health.up(Component::Attribute),
            Err(cause) => self.health.down(Component::Attribute, &cause),
        }
        Some(clock)
    }

    /// An empty request: whether there is someone who answers.
    async fn probe(&mut self) {
        match self.client.export(request(Vec::new())).await {
            Ok(_) => self.health.up(Component::Export),
            Err(status) => self.failed(&status),
        }
    }

    /// Takes the oldest entries and stays with them until the endpoint has answered for all.
    async fn deliver(&mut self) {
        let limit = self.batch.saturating_mul(self.in_flight).saturating_mul(ROUNDS);
        let mut batch = match self.spool.read(limit) {
            Ok(batch) => batch,
            Err(error) => {
                self.health.down(Component::Export, &format!("the spool cannot be read: {error}"));
                return sleep(CLOSING).await;
            }
        };
        // Without a clock there is no timestamp; the batch stays where it is.
        let Some(clock) = self.refresh() else {
            return sleep(CLOSING).await;
        };
        hold_up(self.fault).await;
        let mut rejected = Rejected::new();
        let Some(refused) = self.send(&mut batch, clock, &mut rejected).await else {
            return sleep(CLOSING).await;
        };
        for group in refused {
            self.insist(group, &mut rejected).await;
        }
        hold_up(self.fault).await;
        self.settle(&batch, &rejected);
    }

    /// Sends a batch, some requests at a time, while the next ones are being made. Returns what was refused; None:
    /// a request broke, and everything is to be sent again. After a refusal no more is sent, and the batch ends there.
    async fn send(
        &mut self,
        batch: &mut Batch,
        clock: Offset,
        rejected: &mut Rejected,
    ) -> Option<Vec<Vec<Letter>>> {
        let careful = self.endpoint.careful.is_some_and(|until| Instant::now() < until);
        let limit = self.limit().max(1);
        let entries = std::mem::take(&mut batch.entries);
        let (mut sending, mut refused, mut sent) = (JoinSet::new(), Vec::new(), 0_usize);
        // Letters that are alike may lie anywhere in the batch.
        for part in entries.chunks(if careful { entries.len().max(1) } else { limit }) {
            if !refused.is_empty() {
                break;
            }
            sent = sent.saturating_add(part.len());
            let letters = self.letters(part, batch, clock);
            for group in groups(letters, limit, careful) {
                if sending.len() >= self.in_flight {
                    self.answered(sending.join_next().await?, &mut refused, rejected)?;
                }
                let (mut client, request) = (self.client.clone(), request(letter::records(&group)));
                sending.spawn(async move { (client.export(request).await, group) });
            }
        }
        while let Some(answer) = sending.join_next().await {
            self.answered(answer, &mut refused, rejected)?;
        }
        if let Some(rest) = entries.get(sent) {
            batch.through = rest.sequence;
            batch.damaged.retain(|sequence| *sequence < rest.sequence);
        }
        batch.entries = entries;
        batch.entries.truncate(sent);
        if !batch.damaged.is_empty() {
            let damaged: HashSet<u64> = batch.damaged.iter().copied().collect();
            batch.entries.retain(|entry| !damaged.contains(&entry.sequence));
        }
        Some(refused)
    }

    fn answered(
        &mut self,
        answer: Result<Delivered, JoinError>,
        refused: &mut Vec<Vec<Letter>>,
        rejected: &mut Rejected,
    ) -> Option<()> {
        match answer {
            Ok((Ok(response), group)) => self.accepted(&group, &response, rejected),
            Ok((Err(status), group)) => {
                self.failed(&status);
                refused.push(group);
            }
            Err(error) => {
                self.health.down(Component::Export, &format!("a request broke: {error}"));
                return None;
            }
        }
        Some(())
    }

    /// The documents of some entries of a batch. What cannot be read is noted in the batch as damaged.
    fn letters(&mut self, entries: &[Entry], batch: &mut Batch, clock: Offset) -> Vec<Letter> {
        let mut letters = Vec::with_capacity(entries.len());
        let (mut encoded, mut room) = (Vec::new(), BytesMut::new());
        for entry in entries {
            match self.attributor.attribute(entry, clock) {
                Ok(document) => {
                    self.counters.attributed(document.attribution);
                    let (_, end_ns) = entry.content.times();
                    let end = entry.earlier.unwrap_or(clock).wall_of(end_ns);
                    encoded.clear();
                    document.encode(end, clock.now_unix_ns(), &mut encoded);
                    if room.capacity() < encoded.len() {
                        room.reserve(ROOM.max(encoded.len()));
                    }
                    room.extend_from_slice(&encoded);
                    letters.push(Letter {
                        cgroup_id: entry.content.cgroup_id(),
                        attempts: entry.content.attempts(),
                        record: room.split().freeze(),
                    });
                }
                Err(error) => {
                    tracing::warn!(event = "record_unreadable", sequence = entry.sequence, %error);
                    batch.damaged.push(entry.sequence);
                }
            }
        }
        letters
    }

    /// Sends a group again and again, until the endpoint has answered for each of its records.
    async fn insist(&mut self, mut group: Vec<Letter>, rejected: &mut Rejected) {
        let mut waits = waits();
        let mut tries = 1_u32;
        while !group.is_empty() {
            if tries.is_multiple_of(TRIES) {
                self.isolate(&mut group, rejected).await;
                if group.is_empty() {
                    return;
                }
            }
            let wait = waits.next().unwrap_or(LAST);
            if self.spool.is_closed() {
                sleep(wait.min(CLOSING)).await;
            } else {
                tokio::select! {
                    () = sleep(wait) => {}
                    () = self.spool.closed() => {}
                }
            }
            tries = tries.saturating_add(1);
            if self.ask(&group, rejected).await.is_ok() {
                return;
            }
        }
    }

    /// Sends a group once.
    async fn ask(&mut self, group: &[Letter], rejected: &mut Rejected) -> Result<(), Status> {
        let response = self
            .client
            .export(request(letter::records(group)))
            .await
            .inspect_err(|status| self.failed(status))?;
        self.accepted(group, &response, rejected);
        Ok(())
    }

    fn failed(&self, status: &Status) {
        self.counters.export_error();
        self.health.down(Component::Export, &answer::cause(status));
    }

    /// An answer. What it rejects is counted under the container, where it says whose it is.
    fn accepted(&mut self, group: &[Letter], response: &ExportLogsServiceResponse, rejected: &mut Rejected) {
        self.health.up(Component::Export);
        let sent = group.len() as u64;
        let Answer { rejected: count, message } = Answer::of(response, sent);
        if count == 0 {
            if !message.is_empty() {
                tracing::warn!(target: OTHERS_WORDS, event = "backend_warned", sent, message);
            }
            if let Some(letter) = group.last() {
                // A copy of its own: the letter's bytes lie among those of the whole batch.
                self.endpoint.proof = Some(Bytes::copy_from_slice(&letter.record));
            }
            return self.endpoint.grow(group.len(), self.batch);
        }
        tracing::error!(
            target: OTHERS_WORDS,
            event = "backend_rejected",
            rejected = count,
            sent,
            message,
            "these records are lost"
        );
        self.endpoint.careful = Instant::now().checked_add(CAREFUL);
        self.dead_letters.some_of(group, count, &message);
        if count == sent {
            for letter in group {
                letter.reject(rejected);
            }
        } else if let Some(letter) = group.first().filter(|_| letter::are_alike(group)) {
            let attempts = rejected.entry(letter.cgroup_id).or_default();
            *attempts = attempts.saturating_add(letter.attempts.saturating_mul(count));
        } else {
            let attempts = rejected.entry(UNKNOWN).or_default();
            *attempts = attempts.saturating_add(count);
        }
    }

    fn settle(&self, batch: &Batch, rejected: &Rejected) {
        let settled = self.spool.settle(batch, rejected);
        self.counters.lost(LossPoint::SpoolDamaged, settled.damaged);
        self.counters.lost(LossPoint::BackendRejected, settled.rejected);
        self.counters.exported(settled.attempts.saturating_sub(settled.rejected));
    }

    fn limit(&self) -> usize {
        self.endpoint.limit.unwrap_or(self.batch)
    }
}

impl Endpoint {
    /// It took this many at once.
    fn grow(&mut self, taken: usize, batch: usize) {
        if let Some(limit) = self.limit.filter(|limit| taken >= *limit) {
            let more = limit.saturating_add(limit / 16).saturating_add(1);
            self.limit = (more < batch).then_some(more);
        }
    }
}

/// Waits where the fault says so. Else not even for no time, which the timer rounds up to a millisecond.
async fn hold_up(fault: Fault) {
    if let Some(delay) = fault.delay() {
        sleep(delay).await;
    }
}

/// Waits between attempts, from [`FIRST`] to [`LAST`], twice as long each time.
fn waits() -> ExponentialBackoff {
    let waits = ExponentialBuilder::new().with_min_delay(FIRST).with_max_delay(LAST);
    waits.without_max_times().with_jitter().build()
}
