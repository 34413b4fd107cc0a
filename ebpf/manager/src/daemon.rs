//! `ebpf-manager run`: the sweeper, and a resolver view per enrolled container.

mod views;

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};

pub use self::views::ViewState;
use self::views::Views;
use crate::{
    Manager,
    error::{Error, Result},
    lock::Lock,
    state::{read_json, write_json},
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
        tokio::pin!(stop);
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut serving = views::Serving::default();
        let mut told = None;
        let (mut sweeping, mut looking, mut telling) =
            (Trouble::new("sweep"), Trouble::new("views"), Trouble::new("run_file"));
        let (mut clearing, mut forgetting, mut readying) =
            (Trouble::new("retired"), Trouble::new("gone"), Trouble::new("ready"));
        let mut rounds = interval(FORGET);
        tracing::info!(event = "manager_running", pin_dir = %self.pins.dir().display());
        loop {
            tokio::select! {
                () = &mut stop => {
                    tracing::info!(event = "manager_stopping");
                    return Ok(());
                }
                _ = rounds.tick() => {
                    forgetting.note(self.forget_gone());
                }
                _ = ticks.tick() => {
                    sweeping.note(self.sweep(None));
                    clearing.note(self.clear_retired());
                    looking.note(serving.refresh(self).await);
                    let states = serving.states();
                    let view = |cgroup_id| states.get(&cgroup_id).cloned().unwrap_or(ViewState::Starting);
                    readying.note(self.refresh_ready(view));
                    let daemon = Daemon { pid: std::process::id(), views: states };
                    if told.as_ref() != Some(&daemon) && telling.note(write_json(&self.run_file(), &daemon)) {
                        told = Some(daemon);
                    }
                }
            }
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

/// What is tried again and again: its failures are logged when they begin, change, and end.
struct Trouble {
    what: &'static str,
    last: Option<String>,
}

impl Trouble {
    const fn new(what: &'static str) -> Self {
        Self { what, last: None }
    }

    /// Whether it went well.
    fn note<T>(&mut self, result: Result<T>) -> bool {
        let now = result.err().map(|error| error.to_string());
        if self.last != now {
            match &now {
                Some(error) => tracing::error!(event = "failing", what = self.what, error),
                None => tracing::info!(event = "recovered", what = self.what),
            }
            self.last = now;
        }
        self.last.is_none()
    }
}
