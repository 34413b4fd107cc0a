//! The resolver views of the enrolled containers, each served or tried again ever more rarely.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

use emitter::{Later, What};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{Manager, error::Result, resolver::Resolver, tell::part};

/// How long after the first failure a view is tried again; twice as long after each further one ...
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// ... up to this.
const LAST_RETRY: Duration = Duration::from_secs(10);

/// How every view stands, by cgroup id.
pub(crate) type Views = BTreeMap<u64, ViewState>;

/// How one resolver view stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ViewState {
    /// The container has none: its DNS is denied.
    None,
    /// It answers.
    Serving,
    /// It does not answer, and is tried again.
    Failed {
        /// Why.
        cause: String,
    },
    /// The daemon has not come to it yet.
    Starting,
    /// Nobody serves it: `ebpf-manager run` is not running.
    DaemonNotRunning,
}

impl fmt::Display for ViewState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Serving => "serving",
            Self::Failed { .. } => "failed",
            Self::Starting => "starting",
            Self::DaemonNotRunning => "not running",
        })
    }
}

/// The views that this process serves.
pub(super) struct Serving {
    views: HashMap<u64, Entry>,
    /// Where it says that one does not answer, or does again.
    later: Later,
}

struct Entry {
    /// Which enrolment: a cgroup id is used again.
    enrolled_ns: u64,
    state: State,
}

enum State {
    Serving { resolver: Resolver },
    Failed { cause: String, wait: Duration, again: Instant },
}

impl Serving {
    /// None yet.
    pub(super) fn new(later: Later) -> Self {
        Self { views: HashMap::new(), later }
    }

    /// Starts what is missing, and drops what is not wanted any more.
    pub(super) async fn refresh(&mut self, manager: &Manager) -> Result<()> {
        let wanted: HashMap<u64, u64> = manager
            .views()?
            .iter()
            .filter(|view| view.resolver.is_some())
            .map(|view| (view.cgroup_id, view.enrolled_ns))
            .collect();
        // Before any is started: the next holder of an id may want the same address.
        self.views.retain(|cgroup_id, entry| wanted.get(cgroup_id) == Some(&entry.enrolled_ns));
        for (cgroup_id, enrolled_ns) in wanted {
            let before = match self.views.get(&cgroup_id).map(|entry| &entry.state) {
                Some(State::Serving { .. }) => continue,
                Some(State::Failed { again, .. }) if Instant::now() < *again => continue,
                Some(State::Failed { cause, wait, .. }) => Some((cause.as_str(), *wait)),
                None => None,
            };
            let state = match Resolver::start(manager, cgroup_id).await {
                Ok(resolver) => {
                    tracing::info!(event = "view_started", cgroup_id);
                    if before.is_some() {
                        let owner = manager.owner(cgroup_id);
                        self.later.record(part(What::Recovered, owner, "resolver view", None));
                    }
                    State::Serving { resolver }
                }
                Err(error) => {
                    let cause = error.to_string();
                    if before.map(|(cause, _)| cause) != Some(&cause) {
                        tracing::error!(event = "view_failed", cgroup_id, cause);
                    }
                    if before.is_none() {
                        let owner = manager.owner(cgroup_id);
                        self.later.record(part(What::Degraded, owner, "resolver view", Some(&cause)));
                    }
                    let wait = before.map_or(FIRST_RETRY, |(_, wait)| wait.saturating_mul(2).min(LAST_RETRY));
                    let now = Instant::now();
                    State::Failed { cause, wait, again: now.checked_add(wait).unwrap_or(now) }
                }
            };
            self.views.insert(cgroup_id, Entry { enrolled_ns, state });
        }
        Ok(())
    }

    /// How each stands.
    pub(super) fn states(&self) -> Views {
        self.views
            .iter()
            .map(|(cgroup_id, entry)| {
                let state = match &entry.state {
                    State::Serving { .. } => ViewState::Serving,
                    State::Failed { cause, .. } => ViewState::Failed { cause: cause.clone() },
                };
                (*cgroup_id, state)
            })
            .collect()
    }

    /// Questions that each had too many of at once, since it serves; those that had any.
    pub(super) fn put_off(&self) -> BTreeMap<u64, u64> {
        self.counts(Resolver::put_off)
    }

    /// Answers that each left addresses out of, since it serves; those that did.
    pub(super) fn withheld(&self) -> BTreeMap<u64, u64> {
        self.counts(Resolver::withheld)
    }

    fn counts(&self, of: impl Fn(&Resolver) -> u64) -> BTreeMap<u64, u64> {
        let of = |(cgroup_id, entry): (&u64, &Entry)| match &entry.state {
            State::Serving { resolver } => Some((*cgroup_id, of(resolver))),
            State::Failed { .. } => None,
        };
        self.views.iter().filter_map(of).filter(|(_, count)| *count > 0).collect()
    }
}
