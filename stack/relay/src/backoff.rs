//! How long to wait before the next attempt.

use std::time::Duration;

/// Exponential from 100 ms, at most 5 s, each wait drawn between half of that and all of it, so that
/// lanes do not come back at the same moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// First wait, at most.
    pub const FIRST: Duration = Duration::from_millis(100);
    /// Every wait, at most.
    pub const CAP: Duration = Duration::from_secs(5);

    /// The next wait.
    pub fn next(&mut self) -> Duration {
        let full = Self::FIRST.saturating_mul(2_u32.saturating_pow(self.attempts)).min(Self::CAP);
        self.attempts = self.attempts.saturating_add(1);
        full.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap() {
        let mut backoff = Backoff::default();
        for full_ms in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            let wait = backoff.next();
            let full = Duration::from_millis(full_ms);
            assert!(
                wait >= full / 2 && wait <= full,
                "{wait:?} is not within half of {full:?} and all of it"
            );
        }
        backoff.attempts = u32::MAX;
        assert!(backoff.next() <= Backoff::CAP);
    }
}
