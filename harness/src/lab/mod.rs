//! What the cells of one run share, as the containers of one machine do: the loaded programs, the
//! reader in a process of its own, and the endpoint it exports to. A cell that disturbs any of these has a lab
//! to itself.

mod fault;
mod leftovers;
pub(crate) mod needs;
mod own;
mod reader_counters;
mod reader_process;
mod supervisor;
mod sweeper;
mod tier;

use std::{
    any::Any,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

pub use fault::Fault;
pub(crate) use needs::missing;
pub(crate) use own::{OwnLab, Place};
pub use reader_counters::ReaderCounters;
pub use tier::{Availability, available};

use anyhow::Context as _;
use emitter::Telemetry;
use manager::{LoadOptions, Manager, Program};
use reader_process::ReaderCommand;
use stack::Lane;
use supervisor::{Order, Supervisor};
use sweeper::Sweeper;

use crate::{
    endpoint::Endpoint,
    interrupt,
    plane::Plane,
    scenario::types::{Disturbance, Outage, Process, Rollover, Stopped},
    world::{self, Cgroup, KeptWorld},
};

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
    shipping: Option<emitter::Running>,
    reader: Supervisor,
    fault: Option<Fault>,
    state: tempfile::TempDir,
    // Last: what is exported until the end arrives.
    plane: Option<Arc<Plane>>,
}

/// Name of the node of lab `number`: identities of events are told apart by it where several labs share a store.
fn node(number: usize) -> String {
    format!("lab{number}")
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

    /// Loads the programs, starts the endpoint and the reader, with a fault switched on or none. What dead runs
    /// left is removed before.
    ///
    /// # Errors
    /// If the kernel refuses the programs or a process cannot be started.
    pub fn start(fault: Option<Fault>) -> anyhow::Result<Self> {
        leftovers::sweep()?;
        Self::with(fault, None, None)
    }

    /// The same with the telemetry plane's own servers behind the reader, and agents in containers. `tell` hears what is
    /// waited for.
    ///
    /// # Errors
    /// If there is no Docker, or a server does not start, too.
    pub fn in_stack(fault: Option<Fault>, tell: impl FnMut(&str)) -> anyhow::Result<Self> {
        leftovers::sweep()?;
        let plane = Plane::start(leftovers::state_dir()?, tell)?;
        Self::with(fault, None, Some(Arc::new(plane)))
    }

    /// Another lab beside this one, with the same fault, and a ring of `ring` bytes where that is said.
    ///
    /// # Errors
    /// As of [`Lab::start`].
    pub fn another(&self, ring: Option<u32>) -> anyhow::Result<Self> {
        Self::with(self.fault, ring, self.plane.clone())
    }

    fn with(fault: Option<Fault>, ring: Option<u32>, plane: Option<Arc<Plane>>) -> anyhow::Result<Self> {
        static LABS: AtomicUsize = AtomicUsize::new(0);
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let state = leftovers::state_dir()?;
        let mut options = LoadOptions {
            pin_dir: leftovers::pin_dir(number),
            state_dir: state.path().to_owned(),
            faults: fault.map_or(0, Fault::programs),
            node: Some(node(number)),
            ..LoadOptions::default()
        };
        if let Some(bytes) = ring {
            options.ring_bytes = bytes;
        }
        // Before what its failure would leave loaded.
        let (endpoint, uri) = match &plane {
            None => {
                let endpoint = Endpoint::start()?;
                let uri = endpoint.uri();
                (endpoint, uri)
            }
            Some(plane) => {
                let (endpoint, sink) = Endpoint::elsewhere();
                plane.follow(&node(number), sink);
                let receiver = plane.receiver(Lane::Egress).map(|address| format!("https://{address}"));
                (endpoint, receiver)
            }
        };
        let command = ReaderCommand {
            pin_dir: options.pin_dir.clone(),
            state_dir: options.state_dir.clone(),
            endpoint: uri.context("the egress lane has no receiver")?,
            credentials: plane.as_ref().map(|plane| plane.credentials(Lane::Egress)),
            node: node(number),
            telemetry: plane.as_ref().map(|plane| plane.telemetry()),
            fault: fault.map_or(reader::Fault::None, Fault::reader),
            cgroup: Cgroup::create(&world::cgroup_mount()?, &format!("reader-{number}"))?,
        };
        let manager = Manager::load(&options)?;
        let reader = match Supervisor::start(command) {
            Ok(reader) => reader,
            Err(error) => {
                manager.unload()?;
                return Err(error.into());
            }
        };
        let sweeper = Some(Sweeper::start(&manager));
        // As `ebpf-manager run` does.
        let shipping = plane.as_ref().map(|plane| {
            let options = emitter::Options { logs_endpoint: None, ..plane.telemetry() };
            Telemetry::new(&options, manager.events().clone()).start()
        });
        Ok(Self {
            sweeper,
            shipping: shipping.transpose()?,
            manager,
            endpoint,
            leave_out: fault.map_or_else(Vec::new, Fault::leave_out),
            kept: Mutex::default(),
            reader,
            fault,
            state,
            plane,
        })
    }

    /// The telemetry plane, in the stack tier.
    pub fn plane(&self) -> Option<&Plane> {
        self.plane.as_deref()
    }

    /// Does that to the chain. What comes back by itself is not waited for.
    ///
    /// # Errors
    /// If the telemetry plane does not do as it should.
    pub fn disturb(&self, disturbance: Disturbance) -> anyhow::Result<()> {
        let plane = || self.plane.as_ref().context("there is no telemetry plane in this tier");
        match disturbance {
            Disturbance::Kill(kill) => at_random(kill.times, kill.within, || {
                self.reader.order(Order::Kill);
                Ok(())
            })?,
            Disturbance::Rollover(Rollover { lane, times, within }) => {
                let plane = plane()?;
                at_random(times, within, || plane.roll_over(&lane.stream()))
                    .with_context(|| format!("{} does not go on in another index", lane.stream()))?;
            }
            Disturbance::Restart(Process::Reader) => self.reader.order(Order::Restart),
            // The case's own, not the lab's.
            Disturbance::Restart(Process::Coredns | Process::Envoy)
            | Disturbance::Stop(Outage { part: Stopped::Coredns | Stopped::Envoy, .. }) => {}
            Disturbance::Stop(Outage { part: Stopped::Reader, length }) => {
                self.reader.order(Order::Stop(length))
            }
            Disturbance::Stop(Outage { part: Stopped::Endpoint, length }) => self.endpoint.leave(length),
            Disturbance::Stop(Outage { part, length }) => {
                plane()?.stop(part, length).with_context(|| format!("{part} was not stopped"))?;
            }
            Disturbance::Endpoint(answer) => self.endpoint.answer(answer),
        }
        Ok(())
    }

    /// Where the manager and the reader keep their files.
    pub fn state_dir(&self) -> &Path {
        self.state.path()
    }

    /// What the reader counted up to now; `None` if it does not answer.
    pub fn reader_counters(&self) -> Option<ReaderCounters> {
        let mut counters = ReaderCounters::ask(self.reader.pages()?).ok()?;
        // Asked after the reader: what it saw acknowledged is there by now.
        counters.received = self.endpoint.received();
        Some(counters)
    }

    /// Whether a part is stopped, and will be back by itself.
    pub(crate) fn is_disturbed(&self) -> bool {
        let plane = self.plane.as_ref().is_some_and(|plane| plane.is_disturbed());
        self.reader.is_stopped() || self.endpoint.is_away() || plane
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
        let plane = self.plane().map_or_else(String::new, |plane| format!("; {}", plane.explain()));
        format!(
            "{ledger}; reader: {}{plane}; state in {}",
            self.reader.explain(),
            self.state.path().display()
        )
    }
}

/// Does that so many times, at random instants of the time.
fn at_random(times: u32, within: Duration, does: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut instants: Vec<_> = (0..times).map(|_| within.mul_f64(fastrand::f64())).collect();
    instants.sort_unstable();
    let began = Instant::now();
    for instant in instants {
        interrupt::sleep(instant.saturating_sub(began.elapsed()));
        does()?;
    }
    Ok(())
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.kept.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        drop(self.sweeper.take());
        self.reader.end();
        if let Err(error) = self.manager.unload() {
            tracing::warn!(%error, "the lab's programs were not unloaded");
        }
        if let Some(shipping) = self.shipping.take() {
            shipping.stop();
        }
    }
}
