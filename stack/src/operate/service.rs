//! What each service is: its image, what it is told, what it sees, and what it may do.

use std::net::Ipv4Addr;

use stack::{AGENTS_MEMORY, AGENTS_VARIABLE, HEALTH, Lane, OUR_MEMORY, OUR_VARIABLE, PROXY_MEMORY};

use super::{
    files::User,
    settings::{Settings, host},
};

/// Everyone that need not be somebody in particular.
pub const USER: User = (10_001, 10_001);
/// The user that OpenSearch's image is made for.
const OPENSEARCH: User = (1000, 1000);

/// A container that is to run.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name, behind the stack's.
    pub name: &'static str,
    /// Its image's.
    pub image: &'static str,
    /// In place of the image's own.
    pub entrypoint: Option<&'static str>,
    pub user: User,
    pub command: Vec<String>,
    pub variables: Vec<(&'static str, String)>,
    pub mounts: Vec<Mount>,
    /// Folders in memory, beside a root that it cannot write to.
    pub scratch: Vec<&'static str>,
    /// Whether it cannot run without writing to its root.
    pub writes_root: bool,
    pub memory_mib: i64,
    /// Its weight where there is less of the processors than is wanted; the others' is 1024.
    pub cpu_shares: Option<i64>,
    /// Its address among the agents, if it serves them.
    pub agents: Option<Ipv4Addr>,
    /// Its address among the others, if it speaks with them.
    pub plane: Option<Ipv4Addr>,
    pub ready: Ready,
    /// Below the stack's folder: what it reads when it starts, and never again.
    pub read_once: Vec<&'static str>,
}

/// A file or folder below the stack's, as a service sees it.
#[derive(Clone, Debug)]
pub struct Mount {
    pub from: &'static str,
    pub at: &'static str,
    pub writable: bool,
}

/// When a service is ready.
#[derive(Clone, Copy, Debug)]
pub enum Ready {
    /// It answers this with 200.
    Answers(u16, &'static str),
    /// It takes connections.
    Listens(u16),
    /// It answers this with 200 to whoever administers it.
    ProxyAnswers(&'static str),
}

const fn reads(from: &'static str, at: &'static str) -> Mount {
    Mount { from, at, writable: false }
}

const fn writes(from: &'static str, at: &'static str) -> Mount {
    Mount { from, at, writable: true }
}

/// Where each is among the others.
pub const STORE: u8 = 10;
pub const COLLECTOR: u8 = 11;
pub const RELAY: u8 = 12;
pub const PROMETHEUS: u8 = 13;
/// Where the proxy is, among the others.
const PROXY: u8 = 14;
/// The collector of agents' own telemetry.
pub const AGENTS_COLLECTOR: u8 = 15;
/// Where the proxy and the resolver are among the agents.
pub const TO_PROXY: u8 = 2;
pub const TO_RESOLVER: u8 = 3;
/// Ports of the relay: records, and metrics.
pub const RELAY_PORT: u16 = 4320;
pub const RELAY_METRICS: u16 = 9465;
/// Port of the resolver.
pub const DNS: u16 = 53;
/// The machine itself, in each network.
pub const MACHINE: u8 = 1;

/// All of them, in the order in which they are started.
pub fn all(settings: &Settings) -> Vec<Service> {
    let each = [opensearch, relay, collector, agents_collector, envoy, coredns, prometheus];
    each.map(|service| service(settings)).to_vec()
}

/// What they have in common.
fn base(name: &'static str) -> Service {
    Service {
        name,
        image: name,
        entrypoint: None,
        user: USER,
        command: Vec::new(),
        variables: Vec::new(),
        mounts: Vec::new(),
        scratch: Vec::new(),
        writes_root: false,
        memory_mib: 512,
        cpu_shares: None,
        agents: None,
        plane: None,
        ready: Ready::Listens(0),
        read_once: Vec::new(),
    }
}

fn told<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

/// The store.
fn opensearch(settings: &Settings) -> Service {
    Service {
        user: OPENSEARCH,
        variables: vec![
            ("discovery.type", "single-node".to_owned()),
            // The image for tests has it off.
            ("cluster.routing.allocation.disk.threshold_enabled", "true".to_owned()),
            // Upstream's image would ask for passwords: nobody but the others reaches it.
            ("DISABLE_SECURITY_PLUGIN", "true".to_owned()),
            ("DISABLE_INSTALL_DEMO_CONFIG", "true".to_owned()),
        ],
        mounts: vec![writes("data/opensearch", "/usr/share/opensearch/data")],
        // It makes a key store beside its configuration.
        writes_root: true,
        memory_mib: 2048,
        plane: Some(host(settings.plane, STORE)),
        ready: Ready::Answers(9200, "/_cluster/health?wait_for_status=yellow&timeout=1s"),
        ..base("opensearch")
    }
}

/// What keeps the records of senders that cannot send again.
fn relay(settings: &Settings) -> Service {
    Service {
        // The smallest with a C library.
        image: "agent",
        entrypoint: Some("/usr/local/bin/relay"),
        command: of_relay(settings),
        mounts: vec![
            reads("relay/relay", "/usr/local/bin/relay"),
            reads("relay/certificates", "/etc/relay"),
            writes("data/relay", "/var/lib/relay"),
        ],
        plane: Some(host(settings.plane, RELAY)),
        ready: Ready::Listens(RELAY_METRICS),
        read_once: vec!["relay/relay", "relay/certificates"],
        ..base("relay")
    }
}

/// The collector of our own lanes.
fn collector(settings: &Settings) -> Service {
    Service {
        command: told(["--config", "/etc/otelcol/config.yaml"]),
        variables: vec![(OUR_VARIABLE.0, OUR_VARIABLE.1.to_owned())],
        memory_mib: OUR_MEMORY.into(),
        mounts: vec![
            reads("collector/config.yaml", "/etc/otelcol/config.yaml"),
            reads("collector/certificates", "/etc/otelcol/certificates"),
            reads("data/coredns", "/etc/otelcol/coredns"),
            writes("data/collector", "/etc/otelcol/state"),
        ],
        plane: Some(host(settings.plane, COLLECTOR)),
        ready: Ready::Answers(HEALTH, "/"),
        read_once: vec!["collector/config.yaml", "collector/certificates"],
        ..base("collector")
    }
}

/// The collector of what agents tell of themselves.
fn agents_collector(settings: &Settings) -> Service {
    Service {
        image: "collector",
        command: told(["--config", "/etc/otelcol/config.yaml"]),
        variables: vec![(AGENTS_VARIABLE.0, AGENTS_VARIABLE.1.to_owned())],
        mounts: vec![
            reads("agents-collector/config.yaml", "/etc/otelcol/config.yaml"),
            reads("agents-collector/certificates", "/etc/otelcol/certificates"),
        ],
        memory_mib: AGENTS_MEMORY.into(),
        // What agents send it to do waits for what the others have to do.
        cpu_shares: Some(256),
        plane: Some(host(settings.plane, AGENTS_COLLECTOR)),
        ready: Ready::Answers(HEALTH, "/"),
        read_once: vec!["agents-collector/config.yaml", "agents-collector/certificates"],
        ..base("agents-collector")
    }
}

/// The proxy.
pub fn envoy(settings: &Settings) -> Service {
    Service {
        command: told([
            "-c",
            "/etc/envoy/bootstrap.json",
            "--disable-hot-restart",
            // A connection whose chain of filters an apply changed, or removed, goes on for a day.
            "--drain-time-s",
            "86400",
            "--log-level",
            "warning",
            // It finds one of its own messages unfinished, and says so for each container.
            "--component-log-level",
            "misc:error",
        ]),
        mounts: vec![reads("envoy", "/etc/envoy")],
        // For the socket of its administration.
        scratch: vec!["/tmp"],
        memory_mib: PROXY_MEMORY.into(),
        agents: Some(host(settings.agents, TO_PROXY)),
        plane: Some(host(settings.plane, PROXY)),
        ready: Ready::ProxyAnswers("/ready"),
        read_once: vec!["envoy/bootstrap.json", "envoy/upstream-ca.crt", "envoy/lane", "envoy/telemetry"],
        ..base("envoy")
    }
}

/// The resolver in front of the views.
fn coredns(settings: &Settings) -> Service {
    Service {
        command: told(["-conf", "/etc/coredns/Corefile"]),
        mounts: vec![reads("coredns", "/etc/coredns"), writes("data/coredns", "/var/log/coredns")],
        agents: Some(host(settings.agents, TO_RESOLVER)),
        scratch: vec!["/tmp"],
        ready: Ready::Listens(DNS),
        ..base("coredns")
    }
}

/// Where agents' metrics are.
fn prometheus(settings: &Settings) -> Service {
    Service {
        command: told([
            "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path=/prometheus",
            "--storage.tsdb.retention.time=90d",
        ]),
        mounts: vec![reads("prometheus", "/etc/prometheus"), writes("data/prometheus", "/prometheus")],
        memory_mib: 1024,
        plane: Some(host(settings.plane, PROMETHEUS)),
        ready: Ready::Answers(9090, "/-/ready"),
        read_once: vec!["prometheus"],
        ..base("prometheus")
    }
}

/// What the relay is told: it sends what it kept of each lane to that lane's second receiver.
fn of_relay(settings: &Settings) -> Vec<String> {
    let mut command: Vec<String> = [
        "--state-dir=/var/lib/relay",
        "--tls-ca=/etc/relay/relay-ca.crt",
        "--tls-cert=/etc/relay/server.crt",
        "--tls-key=/etc/relay/server.key",
        "--forward-ca=/etc/relay/collector-ca.crt",
        "--forward-cert=/etc/relay/forward.crt",
        "--forward-key=/etc/relay/forward.key",
    ]
    .map(str::to_owned)
    .to_vec();
    command.push(format!("--receive=0.0.0.0:{RELAY_PORT}"));
    command.push(format!("--listen=0.0.0.0:{RELAY_METRICS}"));
    command.push(format!("--node={}", settings.name));
    for (lane, port) in Lane::ALL.into_iter().filter_map(|lane| Some((lane, lane.kept_port()?))) {
        let collector = host(settings.plane, collector_of(lane).1);
        command.push(format!("--lane={}=https://{collector}:{port}", lane.word()));
        command.extend(lane.is_numbered().then(|| format!("--numbered={}", lane.word())));
    }
    command
}

/// Which collector has a lane's receivers: its folder, and where it is.
pub const fn collector_of(lane: Lane) -> (&'static str, u8) {
    if lane.is_trusted() { ("collector", COLLECTOR) } else { ("agents-collector", AGENTS_COLLECTOR) }
}

/// Folders that services write to, and whose they are.
pub fn data(settings: &Settings) -> Vec<(&'static str, User)> {
    let of = |service: Service| {
        let written = service.mounts.into_iter().filter(|mount| mount.writable);
        written.map(move |mount| (mount.from, service.user)).collect::<Vec<_>>()
    };
    all(settings).into_iter().flat_map(of).collect()
}
