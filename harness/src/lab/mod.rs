//! What the cells of one run share, as the containers of one machine do: the loaded programs, the
//! reader in a process of its own, and the endpoint it exports to.

mod fault;
mod leftovers;
pub(crate) mod needs;
mod reader_counters;
mod reader_process;
mod sweeper;
mod tier;

use std::{
    any::Any,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

pub use fault::Fault;
pub(crate) use needs::missing;
pub use reader_counters::ReaderCounters;
pub use tier::{Availability, available};

use manager::{LoadOptions, Manager, Program};
use reader_process::ReaderProcess;
use sweeper::Sweeper;

use crate::{endpoint::Endpoint, world::KeptWorld};

/// A running chain. Dropping it ends and removes everything.
pub struct Lab {
    /// The kernel side.
    pub manager: Manager,
    /// Where documents arrive.
    pub endpoint: Endpoint,
    /// Programs that are not attached: a fault.
    pub leave_out: Vec<Program>,
    kept: Mutex<Vec<(KeptWorld, Box<dyn Any + Send>)>>,
    sweeper: Option<Sweeper>,
    reader: ReaderProcess,
    state: tempfile::TempDir,
}

impl Lab {
    /// Keeps a world, and what goes with it, up until the lab ends. The guards go in their order.
    pub fn keep(&self, world: KeptWorld, guards: impl Any + Send) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push((world, Box::new(guards)));
    }

    /// The worlds that are kept, in the order of their cells.
    pub fn kept(&self) -> Vec<KeptWorld> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut worlds: Vec<KeptWorld> = kept.iter().map(|(world, _)| world.clone()).collect();
        worlds.sort_by(|a, b| a.cell.cmp(&b.cell));
        worlds
    }

    /// Loads the programs, starts the endpoint and the reader, with a fault switched on or none.
    ///
    /// # Errors
    /// If the kernel refuses the programs or a process cannot be started.
    pub fn start(fault: Option<Fault>) -> anyhow::Result<Self> {
        leftovers::sweep()?;
        let state = leftovers::state_dir()?;
        let pin_dir: PathBuf = leftovers::pin_dir();
        let options = LoadOptions {
            pin_dir: pin_dir.clone(),
            state_dir: state.path().to_owned(),
            faults: fault.map_or(0, Fault::programs),
            ..LoadOptions::default()
        };
        // Before what its failure would leave loaded.
        let endpoint = Endpoint::start()?;
        let manager = Manager::load(&options)?;
        let reader = ReaderProcess::start(
            &pin_dir,
            state.path(),
            &endpoint.uri(),
            fault.map_or(reader::Fault::None, Fault::reader),
        );
        let reader = match reader {
            Ok(reader) => reader,
            Err(error) => {
                manager.unload()?;
                return Err(error.into());
            }
        };
        let sweeper = Some(Sweeper::start(&manager));
        Ok(Self {
            sweeper,
            manager,
            endpoint,
            leave_out: fault.map_or_else(Vec::new, Fault::leave_out),
            kept: Mutex::default(),
            reader,
            state,
        })
    }

    /// What the reader counted up to now; `None` if it does not answer.
    pub fn reader_counters(&self) -> Option<ReaderCounters> {
        let mut counters = ReaderCounters::ask(self.reader.pages()?).ok()?;
        // Asked after the reader: what it saw acknowledged is there by now.
        counters.received = self.endpoint.received();
        Some(counters)
    }

    /// Whether the reader is no more, so that nothing will reach the endpoint.
    pub fn reader_has_ended(&self) -> bool {
        self.reader.has_ended()
    }

    /// What is known of a container's records on their way, for a failure.
    pub fn explain(&self, cgroup_id: u64) -> String {
        let ledger = match self.manager.ledger(cgroup_id) {
            Ok(ledger) => format!(
                "kernel: denied {}, opened {}, closed {}, submitted {}, folded {}",
                ledger.denied, ledger.opened, ledger.closed, ledger.submitted, ledger.folded
            ),
            Err(error) => error.to_string(),
        };
        format!("{ledger}; reader: {}; state in {}", self.reader.explain(), self.state.path().display())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.kept.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        drop(self.sweeper.take());
        self.reader.stop();
        if let Err(error) = self.manager.unload() {
            tracing::warn!(%error, "the lab's programs were not unloaded");
        }
    }
}
