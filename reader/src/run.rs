//! The process: starts the stages, watches them, ends them in order.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use emitter::{Events, Later, Telemetry};
use tokio::{
    net::TcpListener,
    runtime,
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
    time::{Instant, sleep, timeout, timeout_at},
};
use tracing_subscriber::{
    EnvFilter, Layer as _, fmt::layer as fmt_layer, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::{
    Fault, Options,
    attribute::{Attributor, Containers, Enrolments, Owners, PinnedNames, Watch},
    drain::{ConsumerLock, Drain, OpenError, PinnedRing},
    export::{Client, DeadLetters, Endpoint, Exporter},
    observe::{Component, Counters, Health, Losses, Pages, serve},
    spool::{self, Recovered, Spool},
};

/// Longest time to export what is queued, after the stop.
const FAREWELL: Duration = Duration::from_secs(10);
/// Longest time that records wait, once, for the containers that already run.
const LISTING: Duration = Duration::from_secs(5);
/// Before a stage that panicked is started again.
const RESTART: Duration = Duration::from_secs(1);

/// Runs the reader until SIGTERM or SIGINT. Logs JSON lines to stderr, unless the process already
/// has a subscriber; `RUST_LOG` selects, default `info`.
///
/// # Errors
/// What someone must act on: another reader holds the lock, the pinned ABI version is another one,
/// the address is taken, the endpoint's options do not fit. An endpoint that does not answer and a
/// ring that is not pinned yet are waited for.
pub fn run(options: Options) -> anyhow::Result<()> {
    let node = node(&options)?;
    let events = Events::of(&options.state_dir, "reader", Some(&node));
    let telemetry = Telemetry::new(&options.telemetry, events.clone());
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = fmt_layer().json().flatten_event(true).with_writer(io::stderr).with_filter(filter);
    // An embedding process may have its own subscriber; then that one is used.
    let _ = tracing_subscriber::registry().with(lines).with(telemetry.logs()).try_init();
    let shipping = telemetry.start()?;
    let (later, keeping) = Later::start(events).context("cannot start the thread that keeps events")?;
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(process(options, node, later));
    runtime.shutdown_timeout(RESTART);
    if let Err(error) = &result {
        tracing::error!(
            event = "egress_reader_unavailable",
            component = "process",
            cause = format!("{error:#}")
        );
    }
    // Where a stage did not end in time, its thread may hold on to what keeps it.
    let _ = keeping.ends_within(RESTART);
    shipping.stop();
    result
}

/// What this machine is called.
fn node(options: &Options) -> anyhow::Result<String> {
    match &options.node {
        Some(node) => Ok(node.clone()),
        None => Ok(nix::unistd::gethostname()
            .context("cannot read the host name; give --node")?
            .to_string_lossy()
            .into_owned()),
    }
}

async fn process(options: Options, node: String, later: Later) -> anyhow::Result<()> {
    // Before anything else: from here on a signal drains.
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    if options.fault != Fault::None {
        tracing::error!(
            event = "fault_injected",
            fault = options.fault.as_str(),
            "this reader misbehaves on purpose; its documents are no evidence",
        );
    }
    let lock = ConsumerLock::take(&options.state_dir)?;
    let stages = Stages::new(&options, node, later.clone())?;
    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("cannot listen on {}; choose another --listen", options.listen))?;
    tracing::info!(event = "listening", address = %listener.local_addr()?, "/metrics, /healthz and /containers");
    let server = tokio::spawn(serve(listener, stages.pages()));

    let losses = Losses::new(&stages.counters, later);
    let telling = tokio::spawn(losses.tell());
    let (stop, mut drained) = stages.start_drain()?;
    let exporting = tokio::spawn(stages.clone().export(stages.watch_containers()));
    let ended = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        ended = &mut drained => Some(ended),
    };
    tracing::info!(event = "stopping", queued = stages.spool.depth());
    drop(stop);
    let ended = match ended {
        Some(ended) => ended,
        None => drained.await,
    };
    stages.spool.close();
    let deadline = Instant::now().checked_add(FAREWELL);
    if let Some(deadline) = deadline {
        // A time-out is told below by what is left; a panic was told when it happened.
        let _ = timeout_at(deadline, exporting).await;
    }
    server.abort();
    telling.abort();
    let left = stages.spool.depth();
    if left > 0 {
        tracing::warn!(
            event = "records_left",
            left,
            "the endpoint did not answer in time; the next reader sends them"
        );
    }
    tracing::info!(event = "stopped", left);
    // Ring and spool are the next reader's.
    drop(lock);
    ended.context("the drain thread is gone")?.context("the ring is refused")
}

/// How the drain thread ended.
type DrainEnd = oneshot::Receiver<Result<(), OpenError>>;

/// What the stages share, and how to start them.
#[derive(Clone)]
struct Stages {
    options: Arc<Options>,
    node: String,
    client: Client,
    spool: Arc<Spool>,
    spool_dir: PathBuf,
    _spool_lock: Arc<ConsumerLock>,
    recovered: Recovered,
    counters: Arc<Counters>,
    health: Arc<Health>,
    containers: Option<Arc<Containers>>,
}

impl Stages {
    fn new(options: &Options, node: String, later: Later) -> anyhow::Result<Self> {
        let spool_dir = options.spool_dir.clone().unwrap_or_else(|| options.state_dir.join(spool::FOLDER));
        let client = Client::new(&options.endpoint, &options.tls)?;
        let spool_lock = ConsumerLock::take(&spool_dir)?;
        let (spool, recovered) = Spool::open(&spool_dir, options.queue)?;
        if spool.depth() > 0 {
            tracing::info!(event = "spool_resumed", records = spool.depth(), path = %spool_dir.display());
        }
        Ok(Self {
            node,
            client,
            spool: Arc::new(spool),
            spool_dir,
            _spool_lock: Arc::new(spool_lock),
            counters: Arc::new(Counters::resume(&recovered)),
            recovered,
            health: Arc::new(Health::telling(later)),
            containers: options.docker.as_ref().map(|_| Arc::default()),
            options: Arc::new(options.clone()),
        })
    }

    fn pages(&self) -> Pages {
        Pages {
            counters: Arc::clone(&self.counters),
            health: Arc::clone(&self.health),
            spool: Arc::clone(&self.spool),
            containers: self.containers.clone(),
        }
    }

    /// Starts the drain thread. It ends when the sender is dropped, or with a refusal.
    fn start_drain(&self) -> anyhow::Result<(mpsc::Sender<()>, DrainEnd)> {
        let (stop, stopped) = mpsc::channel();
        let (end, ended) = oneshot::channel();
        let drain = Drain {
            spool: Arc::clone(&self.spool),
            counters: Arc::clone(&self.counters),
            health: Arc::clone(&self.health),
            recovered: self.recovered.clone(),
            fault: self.options.fault,
        };
        let pin_dir = self.options.pin_dir.clone();
        thread::Builder::new()
            .name("drain".to_owned())
            .spawn(move || {
                let result = loop {
                    let run = || drain.run(&stopped, || PinnedRing::open(&pin_dir));
                    // The stage's state is in the spool and the counters, which no panic leaves half done.
                    match catch_unwind(AssertUnwindSafe(run)) {
                        Ok(result) => break result,
                        Err(_) => drain
                            .health
                            .down(Component::Drain, "the drain thread panicked; starting it again"),
                    }
                    if !matches!(stopped.recv_timeout(RESTART), Err(mpsc::RecvTimeoutError::Timeout)) {
                        break Ok(());
                    }
                };
                // Nobody listens only where the process is ending anyway.
                let _ = end.send(result);
            })
            .context("cannot start the drain thread")?;
        Ok((stop, ended))
    }

    /// Follows the container runtime, where it is asked, starting again after a panic. Tells when it has listed all
    /// that run.
    fn watch_containers(&self) -> watch::Receiver<bool> {
        let (listed, told) = watch::channel(self.containers.is_none());
        if let (Some(socket), Some(containers)) = (self.options.docker.clone(), self.containers.clone()) {
            let watch =
                Watch { containers, counters: Arc::clone(&self.counters), health: Arc::clone(&self.health) };
            tokio::spawn(async move {
                loop {
                    let (following, socket, listed) = (watch.clone(), socket.clone(), listed.clone());
                    // It ends by a panic alone.
                    let _ = tokio::spawn(async move { following.run(&socket, listed).await }).await;
                    watch.health.down(Component::Docker, "following Docker panicked; starting it again");
                    sleep(RESTART).await;
                }
            });
        }
        told
    }

    fn owners(&self) -> Owners {
        let enrolments = Enrolments::new(&self.options.state_dir, Arc::clone(&self.counters));
        Owners::new(enrolments, self.containers.clone(), Arc::clone(&self.counters))
    }

    /// Exports until the spool is closed and empty, starting again after a panic.
    async fn export(self, mut listed: watch::Receiver<bool>) {
        // Where the runtime does not answer, records go out by their enrolments: health says so.
        let _ = timeout(LISTING, listed.wait_for(|listed| *listed)).await;
        loop {
            let names = PinnedNames::new(&self.options.pin_dir, Arc::clone(&self.counters));
            let exporter = Exporter {
                client: self.client.clone(),
                spool: Arc::clone(&self.spool),
                attributor: Attributor::new(
                    self.owners(),
                    Box::new(names),
                    self.node.clone(),
                    self.options.fault,
                ),
                counters: Arc::clone(&self.counters),
                health: Arc::clone(&self.health),
                dead_letters: DeadLetters::new(&self.spool_dir),
                endpoint: Endpoint::default(),
                batch: self.options.batch,
                in_flight: self.options.in_flight,
                flush: Duration::from_millis(self.options.flush_ms),
                fault: self.options.fault,
            };
            if tokio::spawn(exporter.run()).await.is_ok() {
                return;
            }
            self.health.down(Component::Export, "the exporter panicked; starting it again");
            sleep(RESTART).await;
        }
    }
}
