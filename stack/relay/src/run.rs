//! The process: opens the lanes, serves them, ends them in order.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::LogsServiceServer;
use tokio::{
    net::TcpListener,
    runtime,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tonic::transport::{
    Certificate, ClientTlsConfig, Identity, Server, ServerTlsConfig, server::TcpIncoming,
};
use tracing_subscriber::EnvFilter;

use crate::{
    Options,
    bound::Bounded,
    client::Client,
    dead_letters::DeadLetters,
    forward::{Forwarder, State},
    lane::Lane,
    options::{REQUEST, name},
    pages,
    service::Service,
    store::{self, Store},
};

/// Longest time for senders to get their answers, after the stop.
const ANSWERS: Duration = Duration::from_secs(5);
/// Longest time to forward what is kept, after the stop. What is left waits for the next start.
const FAREWELL: Duration = Duration::from_secs(10);
/// Requests of a connection at once.
const AT_ONCE: usize = 16;
/// Between two signs of life of a connection.
const ALIVE: Duration = Duration::from_secs(30);

/// Runs the relay until SIGTERM or SIGINT. Logs JSON lines to stderr; `RUST_LOG` selects, default `info`.
///
/// # Errors
/// What someone must act on: a file that another process has or that cannot be written, an address that is taken,
/// certificates that cannot be used. An endpoint that does not answer is waited for, a damaged file is set aside.
pub fn run(options: Options) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // An embedding process may have its own subscriber; then that one is used.
    let _ = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .try_init();
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(process(&options));
    runtime.shutdown_timeout(ANSWERS);
    result
}

async fn process(options: &Options) -> anyhow::Result<()> {
    // Before anything else: from here on a signal ends it in order.
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let identity = Identity::from_pem(read(&options.tls_cert)?, read(&options.tls_key)?);
    let tls = ServerTlsConfig::new()
        .identity(identity)
        .client_ca_root(Certificate::from_pem(read(&options.tls_ca)?));
    let mut server = Server::builder()
        .tls_config(tls)
        .context("--tls-ca, --tls-cert and --tls-key do not fit")?
        .concurrency_limit_per_connection(AT_ONCE)
        .http2_keepalive_interval(Some(ALIVE));
    let (stop, stopped) = watch::channel(false);
    let mut forwarders = JoinSet::new();
    let mut lanes = Vec::new();
    for forwarder in open(options)? {
        lanes.push((forwarder.lane.clone(), Arc::clone(&forwarder.state)));
        forwarders.spawn(forwarder.run(stopped.clone()));
    }
    let by_name = lanes.iter().map(|(lane, _)| (lane.name.to_string(), lane.clone())).collect();
    let service = LogsServiceServer::new(Service).max_decoding_message_size(REQUEST);
    let service = Bounded::new(service, Arc::new(by_name));
    let incoming = TcpIncoming::bind(options.receive)
        .with_context(|| format!("cannot listen on --receive {}", options.receive))?;
    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("cannot listen on --listen {}", options.listen))?;
    tracing::info!(
        event = "relay_started",
        receive = %incoming.local_addr().context("no address of its own")?,
        listen = %listener.local_addr().context("no address of its own")?,
        lanes = lanes.len(),
    );
    let pages = tokio::spawn(pages::serve(listener, lanes.into()));
    let (end, mut ended) = mpsc::channel::<()>(1);
    let served =
        tokio::spawn(server.add_service(service).serve_with_incoming_shutdown(incoming, async move {
            ended.recv().await;
        }));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!(event = "relay_ends");
    drop(end);
    // Senders that stay connected are cut off.
    let _ = timeout(ANSWERS, served).await;
    stop.send_replace(true);
    let all = async { while forwarders.join_next().await.is_some() {} };
    if timeout(FAREWELL, all).await.is_err() {
        tracing::warn!(
            event = "records_wait",
            "some records are not forwarded yet; they wait for the next start"
        );
    }
    pages.abort();
    Ok(())
}

/// Every lane, with what forwards it.
fn open(options: &Options) -> anyhow::Result<Vec<Forwarder>> {
    let folder = &options.state_dir;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make --state-dir {}", folder.display()))?;
    let node = match &options.node {
        Some(node) => node.clone(),
        None => host().context("give --node")?,
    };
    let identity = Identity::from_pem(read(&options.forward_cert)?, read(&options.forward_key)?);
    let authority = Certificate::from_pem(read(&options.forward_ca)?);
    let tls = ClientTlsConfig::new().ca_certificate(authority).identity(identity);
    let (mut forwarders, mut names) = (Vec::new(), BTreeSet::new());
    if let Some(stray) =
        options.numbered.iter().find(|name| options.lanes.iter().all(|one| one.lane != **name))
    {
        bail!("--numbered {stray} is none of the lanes");
    }
    for endpoint in &options.lanes {
        if !names.insert(&endpoint.lane) {
            bail!("--lane {} is given twice", endpoint.lane);
        }
        let room = options.room_mib.saturating_mul(1 << 20);
        let file = store::file(folder, &endpoint.lane);
        let numbered = options.numbered.contains(&endpoint.lane);
        let store = Arc::new(Store::open(file, node.clone(), room, numbered)?);
        let lane = Lane::start(&endpoint.lane, store).context("cannot start a thread")?;
        let client = Client::new(&endpoint.url, tls.clone())
            .with_context(|| format!("--lane {}={}", endpoint.lane, endpoint.url))?;
        let dead_letters = DeadLetters::new(folder, &endpoint.lane);
        forwarders.push(Forwarder::new(lane, client, dead_letters, Arc::new(State::default())));
    }
    Ok(forwarders)
}

fn host() -> anyhow::Result<String> {
    let host = nix::unistd::gethostname().context("the host has no name")?;
    name(&host.to_string_lossy()).map_err(|why| anyhow::anyhow!("the host's name does not fit: {why}"))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
