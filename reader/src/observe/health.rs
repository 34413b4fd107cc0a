//! Which part of the reader does not work, and why. A change is logged once, when it happens.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

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
    drain_ns: AtomicU64,
}

impl Default for Health {
    fn default() -> Self {
        let causes = [
            (Component::Drain, "starting: the ring is not open yet".to_owned()),
            (Component::Export, "starting: the endpoint has not answered yet".to_owned()),
        ];
        Self { causes: Mutex::new(causes.into()), drain_ns: AtomicU64::default() }
    }
}

impl Health {
    /// A part does not work. Logged where the cause is new.
    pub fn down(&self, component: Component, cause: &str) {
        let before = self.lock().insert(component, cause.to_owned());
        if before.as_deref() != Some(cause) {
            tracing::error!(event = "egress_reader_unavailable", component = component.as_str(), cause);
        }
    }

    /// A part works. Logged where it did not before.
    pub fn up(&self, component: Component) {
        let before = self.lock().remove(&component);
        if let Some(was) = before {
            tracing::info!(event = "egress_reader_available", component = component.as_str(), was);
        }
    }

    /// The drain thread passed its loop at `now_ns` since boot.
    pub fn drain_alive(&self, now_ns: u64) {
        self.drain_ns.store(now_ns, Relaxed);
    }

    /// What to answer at `now_ns` since boot.
    pub fn report(&self, now_ns: u64) -> Report {
        let mut causes: BTreeMap<_, _> =
            self.lock().iter().map(|(component, cause)| (component.as_str(), cause.clone())).collect();
        let silent_ns = now_ns.saturating_sub(self.drain_ns.load(Relaxed));
        if silent_ns > DRAIN_STALLED_NS {
            causes.entry(Component::Drain.as_str()).or_insert_with(|| {
                format!("stalled: the drain thread has been silent for {} s", silent_ns / 1_000_000_000)
            });
        }
        Report { status: if causes.is_empty() { "ok" } else { "unavailable" }, causes }
    }

    /// A panic elsewhere leaves the map whole.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Component, String>> {
        self.causes.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
