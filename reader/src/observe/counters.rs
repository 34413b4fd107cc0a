//! The reader's side of the ledger. Monotone from the start of the process; one owner a counter.

use std::{
    array,
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use abi::LossPoint;

use crate::{attribute::Contradiction, document::Attribution, spool::Recovered};

/// Counters, each written by one stage. Those of the ledger go on from what the spool says at the start.
///
/// With nothing in the spool, in attempts:
/// `drained + folded = decode + spool_full + spool_damaged + exported + backend_rejected`.
#[derive(Debug)]
pub struct Counters {
    drained: AtomicU64,
    folded: AtomicU64,
    exported: AtomicU64,
    losses: [AtomicU64; abi::LOSS_POINTS],
    export_errors: AtomicU64,
    attributions: [AtomicU64; Attribution::ALL.len()],
    contradictions: [AtomicU64; Contradiction::ALL.len()],
    unreadable_enrolments: AtomicU64,
    unreadable_containers: AtomicU64,
    missing_names: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Items taken from the ring, records or not.
    pub drained: u64,
    /// Folded attempts that were made into records.
    pub folded: u64,
    /// Attempts in records that the endpoint accepted.
    pub exported: u64,
    /// Attempts lost, for each point of [`LossPoint`].
    pub losses: BTreeMap<LossPoint, u64>,
    /// Export requests that failed and were, or will be, sent again.
    pub export_errors: u64,
    /// Documents by how their container was found.
    pub attributions: BTreeMap<&'static str, u64>,
    /// Documents about which enrolment and runtime did not agree, by what about.
    pub contradictions: BTreeMap<&'static str, u64>,
    /// Enrolment files that could not be read.
    pub unreadable_enrolments: u64,
    /// Containers whose cgroup or labels could not be had from the runtime.
    pub unreadable_containers: u64,
    /// Documents whose record names a domain identity that has no name.
    pub missing_names: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            drained: AtomicU64::default(),
            folded: AtomicU64::default(),
            exported: AtomicU64::default(),
            losses: array::from_fn(|_| AtomicU64::default()),
            export_errors: AtomicU64::default(),
            attributions: array::from_fn(|_| AtomicU64::default()),
            contradictions: array::from_fn(|_| AtomicU64::default()),
            unreadable_enrolments: AtomicU64::default(),
            unreadable_containers: AtomicU64::default(),
            missing_names: AtomicU64::default(),
        }
    }
}

impl Counters {
    /// Counters that go on where an earlier reader of the same spool ended.
    pub fn resume(recovered: &Recovered) -> Self {
        let counters = Self::default();
        for intake in recovered.intakes.values() {
            let [drained, folded] = [&counters.drained, &counters.folded];
            drained.fetch_add(intake.records, Relaxed);
            folded.fetch_add(intake.folded, Relaxed);
            for (point, tally) in LossPoint::ALL.iter().zip(&intake.losses) {
                match point {
                    LossPoint::Decode | LossPoint::SpoolFull => {
                        drained.fetch_add(tally.total, Relaxed);
                        counters.lost(*point, tally.total);
                    }
                    LossPoint::Reboot => counters.lost(*point, tally.total),
                    // The consumer's own count is newer than this copy.
                    LossPoint::SpoolDamaged | LossPoint::BackendRejected => {}
                }
            }
        }
        for outcome in recovered.outcomes.values() {
            counters.lost(LossPoint::SpoolDamaged, outcome.damaged.total);
            counters.lost(LossPoint::BackendRejected, outcome.rejected.total);
            counters.exported(outcome.attempts.saturating_sub(outcome.rejected.total));
        }
        counters
    }

    /// An item came from the ring.
    pub fn drained(&self) {
        self.drained.fetch_add(1, Relaxed);
    }

    /// `count` folded attempts were made into a record.
    pub fn folded(&self, count: u64) {
        self.folded.fetch_add(count, Relaxed);
    }

    /// The endpoint accepted records of `count` attempts.
    pub fn exported(&self, count: u64) {
        self.exported.fetch_add(count, Relaxed);
    }

    /// `count` records were lost at `point`.
    pub fn lost(&self, point: LossPoint, count: u64) {
        if let Some(counter) = self.losses.get(usize::from(point as u8)) {
            counter.fetch_add(count, Relaxed);
        }
    }

    /// An export request failed.
    pub fn export_error(&self) {
        self.export_errors.fetch_add(1, Relaxed);
    }

    /// A record was attributed.
    pub fn attributed(&self, how: Attribution) {
        if let Some(counter) = self.attributions.get(how as usize) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Enrolment and runtime did not agree about a document.
    pub fn contradicted(&self, what: Contradiction) {
        if let Some(counter) = self.contradictions.get(what as usize) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// A container's cgroup or labels could not be had from the runtime.
    pub fn container_unreadable(&self) {
        self.unreadable_containers.fetch_add(1, Relaxed);
    }

    /// An enrolment file could not be read.
    pub fn enrolment_unreadable(&self) {
        self.unreadable_enrolments.fetch_add(1, Relaxed);
    }

    /// A record named a domain identity that has no name.
    pub fn name_missing(&self) {
        self.missing_names.fetch_add(1, Relaxed);
    }

    /// Every counter now; each is exact, the set of them is not one instant.
    pub fn read(&self) -> Reading {
        Reading {
            drained: self.drained.load(Relaxed),
            folded: self.folded.load(Relaxed),
            exported: self.exported.load(Relaxed),
            losses: LossPoint::ALL
                .iter()
                .filter_map(|point| Some((*point, self.losses.get(usize::from(*point as u8))?.load(Relaxed))))
                .collect(),
            export_errors: self.export_errors.load(Relaxed),
            attributions: Attribution::ALL
                .iter()
                .filter_map(|how| Some((how.as_str(), self.attributions.get(*how as usize)?.load(Relaxed))))
                .collect(),
            contradictions: Contradiction::ALL
                .iter()
                .filter_map(|what| {
                    Some((what.as_str(), self.contradictions.get(*what as usize)?.load(Relaxed)))
                })
                .collect(),
            unreadable_enrolments: self.unreadable_enrolments.load(Relaxed),
            unreadable_containers: self.unreadable_containers.load(Relaxed),
            missing_names: self.missing_names.load(Relaxed),
        }
    }
}
