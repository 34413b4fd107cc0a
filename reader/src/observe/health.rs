//! Which part of the reader does not work, and why. A change is logged once, when it happens.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use emitter::{Event, Later, OTHERS_WORDS, What};
use serde::Serialize;

/// The drain thread passes its loop at least every 50 ms; this long without it is a hang.
const DRAIN_STALLED_NS: u64 = 5_000_000_000;

/// A part that can fail alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// The ring and its thread.
    Drain,
    /// Enrolments and names.
    Attribute,
    /// The endpoint.
    Export,
    /// The container runtime, where it is asked.
    Docker,
}

impl Component {
    /// Every member.
    pub const ALL: &'static [Self] = &[Self::Drain, Self::Attribute, Self::Export, Self::Docker];

    /// The word in logs and on the pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Attribute => "attribute",
            Self::Export => "export",
            Self::Docker => "docker",
        }
    }
}

/// What /healthz answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `ok` or `unavailable`.
    pub status: &'static str,
    /// The cause, for each part that does not work.
    pub causes: BTreeMap<&'static str, String>,
}

/// The state of every part. Drain and export count as down until they first worked.
#[derive(Debug)]
pub struct Health {
    causes: Mutex<BTreeMap<Component, String>>,
    /// Parts of which it was told that they do not work.
    told: Mutex<BTreeSet<Component>>,
    events: Option<Later>,
    drain_ns: AtomicU64,
}

impl Default for Health {
    fn default() -> Self {
        let causes = [
            (Component::Drain, "starting: the ring is not open yet".to_owned()),
            (Component::Export, "starting: the endpoint has not answered yet".to_owned()),
        ];
        Self {
            causes: Mutex::new(causes.into()),
            told: Mutex::default(),
            events: None,
            drain_ns: AtomicU64::default(),
        }
    }
}

impl Health {
    /// The same, told as events too: when a part ceases to work, and when it does again.
    #[must_use]
    pub fn telling(events: Later) -> Self {
        Self { events: Some(events), ..Self::default() }
    }

    /// A part does not work. Logged where the cause is new.
    pub fn down(&self, component: Component, cause: &str) {
        let before = lock(&self.causes).insert(component, cause.to_owned());
        if before.as_deref() == Some(cause) {
            return;
        }
        let part = component.as_str();
        match component {
            // The endpoint may quote a record.
            Component::Export => {
                tracing::error!(target: OTHERS_WORDS, event = "egress_reader_unavailable", component = part, cause);
            }
            _ => tracing::error!(event = "egress_reader_unavailable", component = part, cause),
        }
        if lock(&self.told).insert(component) {
            let cause = match component {
                Component::Export => cause.split(':').next().unwrap_or_default(),
                _ => cause,
            };
            self.tell(Event::new(What::Degraded).told(format!("{part}: {cause}")));
        }
    }

    /// A part works. Logged where it did not before.
    pub fn up(&self, component: Component) {
        let Some(was) = lock(&self.causes).remove(&component) else { return };
        let part = component.as_str();
        match component {
            Component::Export => {
                tracing::info!(target: OTHERS_WORDS, event = "egress_reader_available", component = part, was);
            }
            _ => tracing::info!(event = "egress_reader_available", component = part, was),
        }
        // That a part begins to work is no recovery.
        if lock(&self.told).remove(&component) {
            self.tell(Event::new(What::Recovered).told(part));
        }
    }

    fn tell(&self, event: Event) {
        if let Some(events) = &self.events {
            events.record(event);
        }
    }

    /// The drain thread passed its loop at `now_ns` since boot.
    pub fn drain_alive(&self, now_ns: u64) {
        self.drain_ns.store(now_ns, Relaxed);
    }

    /// What to answer at `now_ns` since boot.
    pub fn report(&self, now_ns: u64) -> Report {
        let mut causes: BTreeMap<_, _> =
            lock(&self.causes).iter().map(|(component, cause)| (component.as_str(), cause.clone())).collect();
        let silent_ns = now_ns.saturating_sub(self.drain_ns.load(Relaxed));
        if silent_ns > DRAIN_STALLED_NS {
            causes.entry(Component::Drain.as_str()).or_insert_with(|| {
                format!("stalled: the drain thread has been silent for {} s", silent_ns / 1_000_000_000)
            });
        }
        Report { status: if causes.is_empty() { "ok" } else { "unavailable" }, causes }
    }
}

/// A panic elsewhere leaves what is in it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ok_only_once_drain_and_export_have_worked() {
        let health = Health::default();
        assert_eq!(health.report(0).causes.keys().copied().collect::<Vec<_>>(), ["drain", "export"]);
        health.up(Component::Drain);
        health.up(Component::Export);
        assert_eq!(health.report(0), Report { status: "ok", causes: BTreeMap::new() });
        health.down(Component::Export, "connection refused");
        assert_eq!(health.report(0).causes["export"], "connection refused");
    }

    #[test]
    fn a_silent_drain_thread_is_not_ok() {
        let health = Health::default();
        health.up(Component::Drain);
        health.up(Component::Export);
        health.drain_alive(1_000_000_000);
        assert_eq!(health.report(6_000_000_000).status, "ok");
        assert_eq!(
            health.report(7_000_000_000).causes["drain"],
            "stalled: the drain thread has been silent for 6 s"
        );
    }
}
