//! What was received, by stream.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use serde_json::Value;

/// Documents of one stream, or of several, in order of arrival.
pub type Documents = Vec<Arc<Value>>;

/// Every document.
#[derive(Default)]
pub struct Store {
    streams: Mutex<HashMap<String, Documents>>,
    arrived: Condvar,
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Documents>> {
        // Documents are only ever appended whole: valid even if a holder panicked.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Documents of all streams, those that came twice included.
    pub fn received(&self) -> u64 {
        self.lock().values().map(|documents| documents.len() as u64).sum()
    }

    /// Documents of `stream` from number `from` on. Predicates run on this copy, outside the lock.
    pub fn snapshot(&self, stream: &str, from: usize) -> Documents {
        self.lock()
            .get(stream)
            .and_then(|documents| documents.get(from..))
            .map(<[_]>::to_vec)
            .unwrap_or_default()
    }

    /// Waits until `stream` has more than `seen` documents; `false` at the deadline.
    pub fn wait_for_more(&self, stream: &str, seen: usize, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let none_yet =
            |streams: &mut HashMap<String, Documents>| streams.get(stream).is_none_or(|d| d.len() <= seen);
        let waited = self.arrived.wait_timeout_while(self.lock(), left, none_yet);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    pub fn add(&self, documents: Vec<(String, Documents)>) {
        let mut streams = self.lock();
        for (stream, documents) in documents {
            streams.entry(stream).or_default().extend(documents);
        }
        self.arrived.notify_all();
    }
}
