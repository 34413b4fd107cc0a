//! Looking for the records that an endpoint cannot take, in a batch that it keeps refusing.
//!
//! An endpoint that refuses everything is out of order, and its records are kept. So nothing is given up unless the
//! endpoint takes another record at the same time.

use std::{error::Error as _, iter, sync::Arc};

use bytes::Bytes;
use tonic::Status;

use super::{Answered, Forwarder};
use crate::store::Kept;

/// How often a lone record is refused before it is given up.
const REFUSALS: u32 = 3;
/// Records of a batch, and of the newest, that are tried alone where none is known to be taken.
const SAMPLES: usize = 4;

/// What a refusal of a part means.
enum Verdict {
    /// It was taken after all, or a lone record was given up and is counted.
    Settled { poison: bool },
    /// There is a record in it that the endpoint cannot take.
    Divide,
    /// The endpoint takes nothing at this time.
    OutOfOrder,
}

impl Forwarder {
    /// Settles what can be settled of a batch that was refused.
    pub(super) async fn isolate(&mut self, mut batch: Vec<Kept>, answered: &mut Answered) {
        if !self.takes_others(&mut batch, answered).await {
            return;
        }
        let whole = batch.len();
        let (mut work, mut poisoned) = (vec![batch], false);
        while let Some(mut part) = work.pop() {
            if part.is_empty() {
                continue;
            }
            let Err(status) = self.ask(&part, answered).await else { continue };
            let verdict = match part.as_slice() {
                [lone] => self.insist(lone, status, answered).await,
                _ if self.takes_proof().await => Verdict::Divide,
                _ => Verdict::OutOfOrder,
            };
            match verdict {
                Verdict::Settled { poison } => poisoned |= poison,
                Verdict::Divide => {
                    let rest = part.split_off(part.len() / 2);
                    work.extend([rest, part]);
                }
                Verdict::OutOfOrder => return,
            }
        }
        if !poisoned {
            // Each part was taken: the whole was too large.
            self.limit = (whole / 2).max(1);
        }
    }

    /// Whether the endpoint takes a record: one that it took before, or a sample of those that wait, which is settled then.
    async fn takes_others(&mut self, batch: &mut Vec<Kept>, answered: &mut Answered) -> bool {
        if self.takes_proof().await {
            return true;
        }
        // It may be that one which the store has no place for any more.
        self.proof = None;
        for sample in self.samples(batch).await {
            match self.ask(std::slice::from_ref(&sample), answered).await {
                Ok(()) => {
                    batch.retain(|kept| kept.sequence != sample.sequence);
                    return self.proof.is_some();
                }
                // Nobody is there to be asked.
                Err(status) if status.source().is_some() => return false,
                Err(_) => {}
            }
        }
        false
    }

    /// Other ones each time, of the batch and of the newest: a whole batch may be one that the endpoint cannot take.
    async fn samples(&self, batch: &[Kept]) -> Vec<Kept> {
        let places = iter::repeat_with(|| fastrand::usize(..batch.len().max(1))).take(SAMPLES);
        let mut samples: Vec<Kept> = places.filter_map(|place| batch.get(place).cloned()).collect();
        let store = Arc::clone(&self.lane.store);
        if let Ok(Ok(newest)) = tokio::task::spawn_blocking(move || store.newest(SAMPLES)).await {
            samples.extend(newest);
        }
        samples
    }

    async fn takes_proof(&mut self) -> bool {
        let Some(proof) = self.proof.clone() else { return false };
        let answer = self.client.export(vec![proof]).await;
        answer.inspect_err(|status| self.failed(status)).is_ok()
    }

    /// Sends a lone record that was refused once until it is taken, or was refused often enough while others were taken.
    async fn insist(&mut self, lone: &Kept, mut status: Status, answered: &mut Answered) -> Verdict {
        for _ in 1..REFUSALS {
            if !self.takes_proof().await {
                return Verdict::OutOfOrder;
            }
            match self.ask(std::slice::from_ref(lone), answered).await {
                Ok(()) => return Verdict::Settled { poison: false },
                Err(again) => status = again,
            }
        }
        if !self.takes_proof().await {
            return Verdict::OutOfOrder;
        }
        self.state.set(None);
        answered.sequences.push(lone.sequence);
        let records: [Bytes; 1] = [lone.record.clone()];
        self.reject(&records, 1, &format!("{:?}: {}", status.code(), status.message()), answered);
        Verdict::Settled { poison: true }
    }
}
