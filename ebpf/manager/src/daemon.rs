//! `ebpf-manager run`: the sweeper, and a resolver view per enrolled container.

mod views;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use emitter::{Later, Owner, What};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};

pub use self::views::ViewState;
use self::views::Views;
use crate::{
    Manager,
    error::{Error, Result},
    lock::Lock,
    state::{read_json, write_json},
    tell::part,
};

/// How often flows are swept and new containers looked for.
const PERIOD: Duration = Duration::from_millis(250);

/// How often it is looked for containers that were retired long ago.
const FORGET: Duration = Duration::from_secs(60);

/// What a running daemon tells of itself, as the state file `run.json` holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// Its process.
    pub pid: u32,
    /// How the views stand, by cgroup id.
    pub(crate) views: Views,
    /// Questions that views had too many of at once, by cgroup id.
    #[serde(default)]
    pub(crate) put_off: BTreeMap<u64, u64>,
    /// Answers that views left addresses out of, by cgroup id.
    #[serde(default)]
    pub(crate) withheld: BTreeMap<u64, u64>,
}

impl Manager {
    /// Runs until `stop` resolves. A failure degrades what it concerns, is logged when it changes, and is
    /// tried again; while this is not running, flows stay open and are not lost.
    ///
    /// # Errors
    /// If the pinned set is gone or of another version when it starts, or another process runs on it.
    pub async fn run(&self, stop: impl Future<Output = ()>) -> Result<()> {
        self.pins.check()?;
        let Some(_lock) = Lock::try_take(&self.run_lock())? else {
            return Err(Error::Running {
                pid: read_json(&self.run_file())?.map(|daemon: Daemon| daemon.pid),
            });
        };
        descriptors();
        tokio::pin!(stop);
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = None;
        // While one is written, names are answered and flows swept.
        let (later, keeping) = Later::start(self.events().clone()).map_err(Error::file(self.state_dir()))?;
        let mut serving = views::Serving::new(later.clone());
        let trouble = |what| Trouble::new(what, later.clone());
        let (mut sweeping, mut looking, mut telling) =
            (trouble("sweep"), trouble("views"), trouble("run_file"));
        let (mut clearing, mut forgetting, mut readying) =
            (trouble("retired"), trouble("gone"), trouble("ready"));
        let mut ending = trouble("bypass");
        let mut rounds = interval(FORGET);
        tracing::info!(event = "manager_running", pin_dir = %self.pins.dir().display());
        loop {
            tokio::select! {
                () = &mut stop => {
                    tracing::info!(event = "manager_stopping");
                    break;
                }
                _ = rounds.tick() => {
                    forgetting.note(self.forget_gone());
                }
                _ = ticks.tick() => {
                    sweeping.note(self.sweep(None));
                    ending.note(self.clone().ended_bypasses().await);
                    clearing.note(self.clear_retired());
                    looking.note(serving.refresh(self).await);
                    let states = serving.states();
                    let view = |cgroup_id| states.get(&cgroup_id).cloned().unwrap_or(ViewState::Starting);
                    readying.note(self.refresh_ready(view));
                    let (put_off, withheld) = (serving.put_off(), serving.withheld());
                    let daemon = Daemon { pid: std::process::id(), views: states, put_off, withheld };
                    if told.as_ref() != Some(&daemon) && telling.note(write_json(&self.run_file(), &daemon)) {
                        told = Some(daemon);
                    }
                }
            }
        }
        drop((sweeping, looking, telling, clearing, forgetting, readying, ending));
        drop((serving, later));
        // It panics only where a bug does, and has then said so.
        let _ = keeping.join();
        Ok(())
    }

    /// The same beside what else runs: an event is on the disk before its bypass is forgotten.
    async fn ended_bypasses(self) -> Result<usize> {
        match tokio::task::spawn_blocking(move || self.end_bypasses()).await {
            Ok(result) => result,
            // It panicked, and has said so.
            Err(error) => Err(Error::file("bypass_map")(std::io::Error::other(error))),
        }
    }

    /// The daemon that runs on this set, if one does.
    ///
    /// # Errors
    /// If a state file cannot be read.
    pub fn daemon(&self) -> Result<Option<Daemon>> {
        if Lock::is_held(&self.run_lock())? { read_json(&self.run_file()) } else { Ok(None) }
    }

    fn run_lock(&self) -> PathBuf {
        self.state_dir.join("run.lock")
    }

    fn run_file(&self) -> PathBuf {
        self.state_dir.join("run.json")
    }
}

/// Has this process have as many files open as it may: each question of a view's has a socket.
fn descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, most)| {
        setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
        Ok(most)
    });
    match raised {
        Ok(most) => tracing::debug!(event = "descriptors", most),
        Err(error) => tracing::warn!(event = "descriptors_not_raised", %error),
    }
}

/// What is tried again and again: its failures are logged when they begin, change, and end, and told as events when they
/// begin and end.
struct Trouble {
    what: &'static str,
    last: Option<String>,
    later: Later,
}

impl Trouble {
    const fn new(what: &'static str, later: Later) -> Self {
        Self { what, last: None, later }
    }

    /// Whether it went well.
    fn note<T>(&mut self, result: Result<T>) -> bool {
        let now = result.err().map(|error| error.to_string());
        if self.last != now {
            match &now {
                Some(error) => tracing::error!(event = "failing", what = self.what, error),
                None => tracing::info!(event = "recovered", what = self.what),
            }
            let change = match (&self.last, &now) {
                (None, Some(_)) => Some(What::Degraded),
                (Some(_), None) => Some(What::Recovered),
                _ => None,
            };
            if let Some(change) = change {
                self.later.record(part(change, Owner::default(), self.what, now.as_deref()));
            }
            self.last = now;
        }
        self.last.is_none()
    }
}
