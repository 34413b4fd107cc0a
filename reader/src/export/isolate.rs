//! Looking for the records that an endpoint cannot take, in a batch that it keeps refusing.
//!
//! An endpoint that refuses everything is out of order, and its records are kept. So nothing is given up unless the
//! endpoint takes another record at the same time: one that it took before, or one of the batch. To send a document
//! again adds no event to the store, where its `event_id` is already.

use bytes::Bytes;
use emitter::OTHERS_WORDS;
use tonic::Status;

use super::{Exporter, Letter, answer::cause, request};
use crate::{observe::Component, spool::Rejected};

/// How often a lone record is refused before it is given up.
const REFUSALS: u32 = 3;
/// Records of a batch that are tried alone where none was ever taken.
const SAMPLES: usize = 8;

impl Exporter {
    /// Settles what can be settled of a group that was refused, and leaves the rest in it.
    pub(super) async fn isolate(&mut self, group: &mut Vec<Letter>, rejected: &mut Rejected) {
        if !self.takes_others(group, rejected).await {
            return;
        }
        let whole = group.len();
        let (mut work, mut poisoned) = (vec![std::mem::take(group)], false);
        while let Some(mut part) = work.pop() {
            if part.is_empty() {
                continue;
            }
            let Err(status) = self.ask(&part, rejected).await else { continue };
            let verdict = match part.as_slice() {
                [letter] => self.insist_alone(letter, status, rejected).await,
                _ if self.takes_proof().await => Verdict::Divide,
                _ => Verdict::OutOfOrder,
            };
            match verdict {
                Verdict::Taken => {}
                Verdict::GivenUp => poisoned = true,
                Verdict::Divide => {
                    let rest = part.split_off(part.len() / 2);
                    work.extend([rest, part]);
                }
                Verdict::OutOfOrder => {
                    group.append(&mut part);
                    group.extend(work.into_iter().flatten());
                    return;
                }
            }
        }
        if !poisoned {
            // Each part was taken: the whole was too large.
            self.endpoint.limit = Some((whole / 2).max(1));
        }
    }

    /// Whether the endpoint takes a record. Of a batch, where it never took one before: those are settled.
    async fn takes_others(&mut self, group: &mut Vec<Letter>, rejected: &mut Rejected) -> bool {
        if self.endpoint.proof.is_some() {
            return self.takes_proof().await;
        }
        let step = group.len().div_ceil(SAMPLES).max(1);
        for place in (0..group.len()).step_by(step) {
            let Some(letter) = group.get(place).cloned() else { break };
            if self.ask(&[letter], rejected).await.is_ok() {
                group.remove(place);
                return true;
            }
        }
        false
    }

    async fn takes_proof(&mut self) -> bool {
        let Some(proof) = self.endpoint.proof.clone() else { return false };
        self.takes(proof).await
    }

    async fn takes(&mut self, record: Bytes) -> bool {
        let answer = self.client.export(request(vec![record])).await;
        answer.inspect_err(|status| self.failed(status)).is_ok()
    }

    /// Sends a lone record that was refused once until it is taken, or was refused often enough while others were
    /// taken.
    async fn insist_alone(
        &mut self,
        letter: &Letter,
        mut status: Status,
        rejected: &mut Rejected,
    ) -> Verdict {
        for _ in 1..REFUSALS {
            if !self.takes_proof().await {
                return Verdict::OutOfOrder;
            }
            match self.ask(std::slice::from_ref(letter), rejected).await {
                Ok(()) => return Verdict::Taken,
                Err(again) => status = again,
            }
        }
        if !self.takes_proof().await {
            return Verdict::OutOfOrder;
        }
        self.health.up(Component::Export);
        let message = cause(&status);
        tracing::error!(target: OTHERS_WORDS, event = "backend_rejected", rejected = 1, sent = 1, message, "this record is lost");
        self.dead_letters.one(letter, &message);
        letter.reject(rejected);
        Verdict::GivenUp
    }
}

/// What a refusal of a part means.
enum Verdict {
    /// It was taken after all.
    Taken,
    /// A lone record that the endpoint cannot take. It is counted.
    GivenUp,
    /// There is a record in it that the endpoint cannot take.
    Divide,
    /// The endpoint takes nothing at this time.
    OutOfOrder,
}
