//! The telemetry plane of a run in the stack tier: the document store, the collectors, the relay and Prometheus, as real servers in containers,
//! with the configuration that ships. One a run; cells are told apart by their agents.
//!
//! It must not know what a document should say.

mod certificates;
mod fault;
mod follow;
mod lane;
mod programs;
mod prometheus;
mod relay;
mod said;
mod search;

use std::{
    fs, io,
    net::{IpAddr, SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic::AtomicUsize},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use stack::{
    AGENTS_VARIABLE, Collector, HEALTH, Lane, OUR_VARIABLE,
    certificates::Authority,
    store::{Store, Wanted},
};
use tempfile::TempDir;

use crate::{
    docker::{Container, Docker, DockerError, Network, Order},
    endpoint::Sink,
    interrupt,
};
use certificates::Certificates;
pub use certificates::Credentials;
use follow::Follower;
pub use follow::INDEX;
use programs::Programs;
use prometheus::Prometheus;
pub use prometheus::Series;
pub use said::lines;
use search::Search;

/// Images that it is made of, and that agents are.
pub const IMAGES: [&str; 6] = ["agent", "collector", "coredns", "envoy", "opensearch", "prometheus"];
/// How long a server may take until it answers.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(100);
/// Port of agents' metrics, at their collector.
const METRICS: u16 = 9464;
/// Where a collector sees its files.
const INSIDE: &str = "/etc/otelcol";
/// Their configurations.
const CONFIG: &str = "config.yaml";
const AGENTS_CONFIG: &str = "agents-config.yaml";

/// Where the collectors are.
#[derive(Clone, Copy, Debug)]
struct Collectors {
    ours: IpAddr,
    agents: IpAddr,
}

impl Collectors {
    /// That which has a lane's receivers.
    const fn of(self, lane: Lane) -> IpAddr {
        if lane.is_trusted() { self.ours } else { self.agents }
    }
}

/// Running servers. Dropping it ends and removes them.
pub struct Plane {
    docker: Docker,
    follower: Follower,
    certificates: Certificates,
    collector: Mutex<Container>,
    /// That of agents' telemetry.
    agents_collector: Mutex<Container>,
    collectors: Collectors,
    relay: Mutex<Container>,
    /// Where the relay says how it is.
    relay_pages: SocketAddr,
    store: Mutex<Container>,
    search: Search,
    prometheus: Prometheus,
    /// What is stopped now.
    stopped: AtomicUsize,
    /// What was stopped, and did not come back.
    broken: OnceLock<String>,
    // After what is in them: networks, which stay where they are whatever becomes of a server.
    _places: [Container; 3],
    // Shared by cells; alone for the one that disturbs it.
    calm: RwLock<()>,
    programs: Programs,
    proxy_authority: Authority,
    files: TempDir,
}

impl Plane {
    /// Starts the servers in `files`, and returns when each of them answers. `tell` hears what is done meanwhile.
    ///
    /// # Errors
    /// If a server does not start; the error has the end of its log.
    pub fn start(files: TempDir, mut tell: impl FnMut(&str)) -> anyhow::Result<Self> {
        let docker = Docker::connect()?;
        docker.has_images(&IMAGES)?;
        docker.sweep()?;
        tell("building the start gate and the relay (some minutes the first time)");
        let programs = programs::build()?;
        // The servers are other users.
        fs::set_permissions(files.path(), fs::Permissions::from_mode(0o755))?;
        tell("starting opensearch");
        let (store_place, store_address) = place(&docker, "opensearch")?;
        let within = Network::Of(store_place.id().to_owned());
        let store = docker.start(Order::new("opensearch", "opensearch", within))?;
        let search = Search::new(SocketAddr::new(store_address, 9200));
        answers(&store, || search.is_ready())?;
        Store::new(search.url(), None, None)?.bootstrap(&Wanted::default())?;
        tell("starting collectors");
        // Their certificate names their addresses.
        let (collector_place, ours) = place(&docker, "the collector")?;
        let (agents_place, agents) = place(&docker, "the agents' collector")?;
        let collectors = Collectors { ours, agents };
        let certificates = Certificates::make(&files.path().join("certificates"), [ours, agents])?;
        configure(files.path(), &search, ours)?;
        let (relay, relay_pages) =
            relay::start(&docker, &programs.relay, files.path(), &collector_place, collectors)?;
        let order = |what: &str, place: &Container, config: &str| {
            Order::new(what, "collector", Network::Of(place.id().to_owned()))
                .sees(&files.path().join(config), &format!("{INSIDE}/config.yaml"))
                .sees(&files.path().join("certificates"), &format!("{INSIDE}/certificates"))
        };
        let mut of_ours = order("the collector", &collector_place, CONFIG)
            .sees(&files.path().join("coredns"), &format!("{INSIDE}/coredns"))
            .keeps(&files.path().join("state"), &format!("{INSIDE}/state"));
        of_ours.variables.push((OUR_VARIABLE.0.to_owned(), OUR_VARIABLE.1.to_owned()));
        let collector = docker.start(of_ours)?;
        answers(&collector, || runs(ours))?;
        let mut of_agents = order("the agents' collector", &agents_place, AGENTS_CONFIG);
        of_agents.variables.push((AGENTS_VARIABLE.0.to_owned(), AGENTS_VARIABLE.1.to_owned()));
        let agents_collector = docker.start(of_agents)?;
        answers(&agents_collector, || runs(agents))?;
        tell("starting prometheus");
        let metrics = SocketAddr::new(agents, METRICS);
        let prometheus = Prometheus::start(&docker, files.path(), metrics, relay_pages)?;
        let follower = Follower::start(search.clone())?;
        Ok(Self {
            docker,
            follower,
            certificates,
            collector: Mutex::new(collector),
            agents_collector: Mutex::new(agents_collector),
            collectors,
            relay: Mutex::new(relay),
            relay_pages,
            store: Mutex::new(store),
            search,
            prometheus,
            stopped: AtomicUsize::new(0),
            broken: OnceLock::new(),
            _places: [store_place, collector_place, agents_place],
            calm: RwLock::new(()),
            programs,
            proxy_authority: Authority::open(files.path(), "proxy")?,
            files,
        })
    }

    /// The daemon that its containers are of.
    #[must_use]
    pub const fn docker(&self) -> &Docker {
        &self.docker
    }

    /// A folder below its own, which servers see.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn folder(&self, name: &str) -> io::Result<TempDir> {
        let folder = tempfile::Builder::new().prefix(name).tempdir_in(self.files.path())?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        Ok(folder)
    }

    /// A folder where a resolver may keep its log, which the collector reads.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn log_folder(&self, name: &str) -> io::Result<TempDir> {
        let folder = tempfile::Builder::new().prefix(name).tempdir_in(self.files.path().join("coredns"))?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        Ok(folder)
    }

    /// Who signs the certificates that the proxy shows to agents.
    #[must_use]
    pub const fn proxy_authority(&self) -> &Authority {
        &self.proxy_authority
    }

    /// The start gate, as a static program.
    #[must_use]
    pub fn gate(&self) -> &Path {
        &self.programs.gate
    }

    /// Where a lane's receiver is.
    #[must_use]
    pub fn receiver(&self, lane: Lane) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.collectors.of(lane), lane.port()?))
    }

    /// Where a lane's receiver of OTLP over HTTP is.
    #[must_use]
    pub fn http_receiver(&self, lane: Lane) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.collectors.of(lane), lane.http_port()?))
    }

    /// What a sender of a lane shows, and checks by.
    #[must_use]
    pub fn credentials(&self, lane: Lane) -> Credentials {
        self.certificates.of(lane)
    }

    /// Folder of the lanes' authorities and certificates.
    #[must_use]
    pub fn certificates(&self) -> &Path {
        self.certificates.folder()
    }

    /// Where our own programs send their events and log lines.
    #[must_use]
    pub fn telemetry(&self) -> emitter::Options {
        let url = |lane| self.receiver(lane).map(|address| format!("https://{address}"));
        emitter::Options {
            events_endpoint: url(Lane::Overseer),
            logs_endpoint: url(Lane::Cp),
            lane_certificates: Some(self.certificates.folder().to_owned()),
        }
    }

    /// Has what arrives in the store added to `sink`: of the reader's stream what the node of that name sent, of the others
    /// everything.
    pub fn follow(&self, node: &str, sink: Sink) {
        self.follower.add(node, sink);
    }

    /// Series of the counters of these containers, of all that their collector had taken.
    ///
    /// # Errors
    /// If Prometheus does not tell.
    pub fn series_of(&self, containers: &[&str]) -> anyhow::Result<Vec<Series>> {
        self.prometheus.series_of(containers)
    }

    /// Every series that Prometheus has.
    ///
    /// # Errors
    /// If Prometheus does not tell.
    pub fn every_series(&self) -> anyhow::Result<Vec<Series>> {
        self.prometheus.all()
    }

    /// Files of the relay's that have one of these texts.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn on_disk(&self, texts: &[String]) -> io::Result<Vec<PathBuf>> {
        let has = |bytes: &[u8]| {
            texts.iter().any(|text| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
        };
        let mut found = Vec::new();
        for file in fs::read_dir(self.files.path().join("relay"))? {
            let path = file?.path();
            if has(&fs::read(&path)?) {
                found.push(path);
            }
        }
        Ok(found)
    }

    /// For as long as the guard lives nobody disturbs it.
    pub fn calm(&self) -> RwLockReadGuard<'_, ()> {
        self.calm.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For as long as the guard lives nobody else uses it.
    pub fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.calm.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the servers, for a failure.
    #[must_use]
    pub fn explain(&self) -> String {
        let state = |container: &Mutex<Container>| {
            let container = fault::lock(container);
            let state = if container.is_running() { "running" } else { "ended" };
            format!("{state}{}", container.told())
        };
        format!(
            "collector: {}\nagents' collector: {}\nrelay: {}\nopensearch: {}\n{}",
            state(&self.collector),
            state(&self.agents_collector),
            state(&self.relay),
            state(&self.store),
            self.follower.explain()
        )
    }
}

/// A network for one server, and its address: they are there before it and after it.
fn place(docker: &Docker, of: &str) -> Result<(Container, IpAddr), DockerError> {
    let network = Network::Named(Docker::network());
    let order = Order::new(format!("the network of {of}"), "agent", network).told(["sleep", "infinity"]);
    let place = docker.start(order)?;
    let address = place.address(&Docker::network())?;
    Ok((place, address))
}

/// The collectors' files. The relay is at `relay`.
fn configure(folder: &Path, search: &Search, relay: IpAddr) -> anyhow::Result<()> {
    for (name, mode) in [("coredns", 0o755), ("state", 0o777)] {
        let path = folder.join(name);
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    let collector = Collector {
        store: search.url().to_owned(),
        login: None,
        relay: Some(SocketAddr::new(relay, relay::RECEIVE).to_string()),
        certificates: format!("{INSIDE}/certificates"),
        resolver_log: format!("{INSIDE}/coredns/*"),
        state: format!("{INSIDE}/state"),
        metrics: format!("0.0.0.0:{METRICS}"),
    };
    for (name, config) in [(CONFIG, collector.config()), (AGENTS_CONFIG, collector.agents_config())] {
        let path = folder.join(name);
        fs::write(&path, serde_json::to_vec_pretty(&config)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Whether the collector there says that its pipelines run.
fn runs(collector: IpAddr) -> bool {
    prometheus::agent().get(format!("http://{}/", SocketAddr::new(collector, HEALTH))).call().is_ok()
}

fn listens(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, LOOK).is_ok()
}

/// Waits until a server answers.
fn answers(container: &Container, mut does: impl FnMut() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + ANSWER_LIMIT;
    while !does() {
        if let Some(signal) = interrupt::requested() {
            anyhow::bail!("interrupted by {signal}");
        }
        if !container.is_running() {
            return Err(container.failed("it ended while it started").into());
        }
        if Instant::now() >= deadline {
            return Err(container.failed(&format!("it does not answer within {ANSWER_LIMIT:?}")).into());
        }
        thread::sleep(LOOK);
    }
    Ok(())
}
