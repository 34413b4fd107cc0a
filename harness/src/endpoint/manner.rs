//! What the endpoint answers, and whether it came to that.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the endpoint makes of what it is sent. A request without records is a probe, and always accepted.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::Display,
    strum::EnumIter,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Answer {
    /// Stores everything.
    #[default]
    Accept,
    /// Stores nothing, and says INVALID_ARGUMENT.
    Reject,
    /// Stores everything, half a second later.
    Slow,
    /// Stores the first half of each batch, rounded down, and says `partial_success` of the rest.
    Partial,
    /// Stores nothing, and says INTERNAL, permanent: a collector's words for a store that is down.
    Internal,
}

/// The answer for whoever sends records.
#[derive(Default)]
pub struct Manner {
    given: Mutex<Given>,
    shown: Condvar,
}

#[derive(Clone, Copy, Default)]
struct Given {
    answer: Answer,
    /// Whether records were answered so.
    shown: bool,
}

impl Manner {
    fn lock(&self) -> MutexGuard<'_, Given> {
        // Two words that are always valid.
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set(&self, answer: Answer) {
        *self.lock() = Given { answer, shown: false };
    }

    /// The answer for a request.
    pub fn show(&self) -> Answer {
        let mut given = self.lock();
        given.shown = true;
        self.shown.notify_all();
        given.answer
    }

    pub fn get(&self) -> Answer {
        self.lock().answer
    }

    /// Waits until a request got the answer; `false` if none did before `deadline`.
    pub fn was_shown(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self.shown.wait_timeout_while(self.lock(), left, |given| !given.shown);
        waited.unwrap_or_else(PoisonError::into_inner).0.shown
    }
}
