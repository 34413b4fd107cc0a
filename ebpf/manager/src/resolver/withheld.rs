//! Addresses that the upstream says a name leads to, and no name does: told, and counted.

use std::{
    net::IpAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use emitter::OTHERS_WORDS;

/// Between two lines of one view. Whoever serves a name could fill the log else, and whoever asks for it.
const PAUSE: Duration = Duration::from_secs(60);

/// An address, and what makes it one that no name leads to.
pub(super) type Forbidden = (IpAddr, &'static str);

/// Of one view.
#[derive(Default)]
pub(super) struct Withheld {
    answers: AtomicU64,
    told: Mutex<Option<Instant>>,
}

impl Withheld {
    /// Counts an answer that such addresses were left out of, and tells of it if nothing was told for a while.
    pub fn note(&self, cgroup_id: u64, name: &str, (address, why): Forbidden) {
        let answers = self.answers.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if self.is_due(Instant::now()) {
            // The name is the agent's, and the address of whoever serves it.
            tracing::warn!(target: OTHERS_WORDS, event = "resolver_forbidden_address", cgroup_id, name, %address, why, answers);
        }
    }

    /// Answers that addresses were left out of.
    pub fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    fn is_due(&self, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let due = told.is_none_or(|before| now.saturating_duration_since(before) >= PAUSE);
        if due {
            *told = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_counted_and_one_a_minute_told() {
        let (withheld, start) = (Withheld::default(), Instant::now());
        for (after, told) in [(0, true), (1, false), (59, false), (60, true), (61, false), (200, true)] {
            assert_eq!(withheld.is_due(start + Duration::from_secs(after)), told, "{after}");
        }
        for _ in 0..3 {
            withheld.note(7, "evil.test", ([169, 254, 169, 254].into(), "a link-local address"));
        }
        assert_eq!(withheld.answers(), 3);
    }
}
