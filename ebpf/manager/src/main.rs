//! The `ebpf-manager` command.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::{
    fmt,
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    str::FromStr,
    thread,
    time::Duration,
};

use abi::{Enrolment, pin};
use clap::{Args, Parser, Subcommand};
use emitter::{Event, Owner, Telemetry, What};
use ipnet::IpNet;
use manager::{
    AuditRequest, EnrolRequest, Error, Kind, LoadOptions, Manager, Network, Proxy, ResolverAddresses,
};
use nix::unistd::geteuid;
use tracing_subscriber::{
    EnvFilter, Layer as _, fmt::layer as fmt_layer, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

const AUDIT_EXIT_CODES: &str = "\
Exit codes:
  0  closed: nothing is missing at any hop
  1  open: more or less is there than was handed over
  2  cannot be read";

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed: a file, the kernel, the machine
  2  cannot be done: the command line, a rules file, an address
  3  refused as things stand: nothing loaded, not enrolled, enrolled already, still in use, another daemon";

/// Loads the egress programs, enrols containers, and shows what they do.
#[derive(Parser)]
#[command(name = "ebpf-manager", version, after_help = EXIT_CODES)]
struct Cli {
    /// Folder of pins, on a bpffs.
    #[arg(long, global = true, default_value = pin::DEFAULT_DIR)]
    pin_dir: PathBuf,
    /// Folder of state files.
    #[arg(long, global = true, default_value = Enrolment::DEFAULT_STATE_DIR)]
    state_dir: PathBuf,
    /// What this machine is called in events and logs. Default: the host name.
    #[arg(long, global = true)]
    node: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Load and pin the programs. Enforcement begins with the first `enrol`.
    Load {
        /// Size of the record ring in bytes: a power of two.
        #[arg(long, default_value_t = LoadOptions::default().ring_bytes)]
        ring_bytes: u32,
    },
    /// Decide and record everything a cgroup does from now on.
    Enrol(Box<EnrolArgs>),
    /// Stop deciding and recording for a container.
    Retire {
        /// Its cgroup id, as `status` shows it.
        cgroup_id: u64,
    },
    /// A container's egress rules.
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Let a container pass for a time; recording goes on.
    #[command(subcommand)]
    Bypass(BypassCommand),
    /// Show every map.
    Dump {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show every container.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show, for every container and hop, whether every attempt is accounted for.
    #[command(after_help = AUDIT_EXIT_CODES)]
    Audit(AuditArgs),
    /// Sweep flows, answer DNS and send events, until terminated.
    Run(emitter::Options),
    /// Unpin everything.
    Unload {
        /// Also while programs are attached to containers: they are detached, and enforcement ends.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Subcommand)]
enum RulesCommand {
    /// Replace the rules by those of a YAML file.
    Apply {
        /// The file: a list of rules.
        file: PathBuf,
        /// Cgroup id of the container.
        #[arg(long)]
        cgroup_id: u64,
    },
}

#[derive(Subcommand)]
enum BypassCommand {
    /// Switch it on, or move its end.
    On {
        /// Cgroup id of the container.
        cgroup_id: u64,
        /// For how long, in seconds.
        #[arg(long = "for", value_parser = lasting)]
        duration: Seconds,
    },
    /// Switch it off now; what it permitted is cut.
    Off {
        /// Cgroup id of the container.
        cgroup_id: u64,
    },
}

#[derive(Args)]
struct AuditArgs {
    /// As JSON, one object an audit; docs/ledger.md has its fields.
    #[arg(long)]
    json: bool,
    /// Again and again, with so many seconds in between, until interrupted.
    #[arg(long, value_name = "SECONDS")]
    watch: Option<Seconds>,
    /// Folder of the reader's spool. Default: `spool` in the state directory.
    #[arg(long)]
    spool_dir: Option<PathBuf>,
    /// Documents of the store, as JSON, one a line. Without them the last hop is not asked.
    #[arg(long, value_name = "FILE")]
    documents: Option<PathBuf>,
}

#[derive(Args)]
struct EnrolArgs {
    /// The container's cgroup v2 folder.
    cgroup: PathBuf,
    /// The runtime's identifier of the container.
    #[arg(long)]
    container_id: String,
    /// Value of its label dev.clawker.agent.
    #[arg(long, default_value = "")]
    agent: String,
    /// Value of its label dev.clawker.project.
    #[arg(long, default_value = "")]
    project: String,
    /// YAML file of its egress rules. Without one, nothing is permitted.
    #[arg(long)]
    rules: Option<PathBuf>,
    /// Where its DNS goes, to its resolver view: an address that the container can reach. Given twice, one is IPv4
    /// and one IPv6; DNS to a name server of a family without one is denied.
    #[arg(long, requires = "upstream")]
    resolver: Vec<SocketAddr>,
    /// Where the view listens if another server, such as CoreDNS, stands at --resolver and asks it. It answers that
    /// server alone, and this machine.
    #[arg(long, requires = "resolver")]
    view: Option<SocketAddr>,
    /// The DNS server that the view asks.
    #[arg(long, requires = "resolver")]
    upstream: Option<SocketAddr>,
    /// A prefix of its own network, where it reaches infrastructure alone. May be given several times.
    #[arg(long)]
    subnet: Vec<IpNet>,
    /// An address of the host in its own network. May be given several times.
    #[arg(long)]
    gateway: Vec<IpAddr>,
    /// What it may reach in its own network, as address:port. May be given several times.
    #[arg(long)]
    infrastructure: Vec<SocketAddr>,
    /// The proxy's IPv4 address. Rules with a `listener` hand their flows to it.
    #[arg(long)]
    proxy: Option<Ipv4Addr>,
    /// The proxy's IPv6 address.
    #[arg(long, requires = "proxy")]
    proxy6: Option<Ipv6Addr>,
    /// Port of the proxy that takes TCP that no rule knows. Without one, that is denied.
    #[arg(long, requires = "proxy")]
    catch_all: Option<u16>,
    /// Shortest time a DNS answer permits its addresses, in seconds.
    #[arg(long, default_value_t = Seconds(EnrolRequest::DNS_TTL_FLOOR))]
    dns_ttl_floor: Seconds,
    /// UDP flows without a datagram for this long end, in seconds.
    #[arg(long, default_value_t = Seconds(EnrolRequest::UDP_IDLE))]
    udp_idle: Seconds,
    /// Most flows open at once.
    #[arg(long, default_value_t = EnrolRequest::FLOW_QUOTA)]
    flow_quota: u64,
    /// Enrol although processes in it share the host's network or can have CAP_NET_ADMIN or CAP_NET_RAW.
    #[arg(long)]
    accept_unobserved: bool,
}

impl EnrolArgs {
    /// What is asked for.
    fn request(self) -> Result<EnrolRequest, Error> {
        let mut request = EnrolRequest::new(self.cgroup, self.container_id);
        request.agent = self.agent;
        request.project = self.project;
        request.rules =
            self.rules.map(|path| rules::read(&path).map_err(Error::Rules)).transpose()?.unwrap_or_default();
        let addresses = |upstream| {
            let addresses = ResolverAddresses::new(&self.resolver, upstream)?;
            self.view.map_or(Ok(addresses), |view| addresses.behind(view))
        };
        request.resolver = self.upstream.map(addresses).transpose()?;
        request.network =
            Network { subnets: self.subnet, gateways: self.gateway, infrastructure: self.infrastructure };
        request.proxy = Proxy { v4: self.proxy, v6: self.proxy6, catch_all: self.catch_all };
        request.dns_ttl_floor = self.dns_ttl_floor.0;
        request.udp_idle = self.udp_idle.0;
        request.flow_quota = self.flow_quota;
        request.accept_unobserved = self.accept_unobserved;
        Ok(request)
    }
}

/// What a command about a container was to do.
fn of(what: What, cgroup_id: u64) -> Event {
    Event::new(what).of(Owner { cgroup_id: Some(cgroup_id), ..Owner::default() })
}

/// A time on the command line, in seconds: `30`, `0.5`, `30s`.
#[derive(Clone, Copy)]
struct Seconds(Duration);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number: f64 = text
            .trim_end_matches('s')
            .parse()
            .map_err(|_| format!("`{text}` is not a number of seconds, such as 600"))?;
        Duration::try_from_secs_f64(number).map(Self).map_err(|error| error.to_string())
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_secs_f64().fmt(f)
    }
}

/// Longest bypass: one that is forgotten ends by itself.
const LONGEST_BYPASS: Duration = Duration::from_secs(24 * 60 * 60);

/// Seconds, but not none: who means to end a bypass is told how.
fn lasting(text: &str) -> Result<Seconds, String> {
    let seconds = Seconds::from_str(text)?;
    if seconds.0.is_zero() {
        Err("that is no time; `bypass off` ends a bypass".to_owned())
    } else if seconds.0 > LONGEST_BYPASS {
        Err(format!("a bypass lasts at most a day, {} s; switch it on again then", LONGEST_BYPASS.as_secs()))
    } else {
        Ok(seconds)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let set = cli.set();
    // Whoever runs one command does not wait until something is sent.
    let telemetry = match &cli.command {
        Command::Run(options) => Some(Telemetry::new(options, set.events().clone())),
        _ => None,
    };
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,hickory_server=warn"));
    tracing_subscriber::registry()
        .with(fmt_layer().json().with_writer(io::stderr).with_filter(filter))
        .with(telemetry.as_ref().and_then(Telemetry::logs))
        .init();
    let is_audit = matches!(cli.command, Command::Audit(_));
    match run(cli, &set, telemetry) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ebpf-manager: {error:#}");
            let kind = error.downcast_ref().map_or(Kind::Failed, Error::kind);
            if kind == Kind::Failed && !geteuid().is_root() {
                eprintln!("ebpf-manager: this is not root, which it needs to be");
            }
            match kind {
                // What it found has the others.
                _ if is_audit => ExitCode::from(2),
                Kind::Failed => ExitCode::FAILURE,
                Kind::Request => ExitCode::from(2),
                Kind::Refused => ExitCode::from(3),
            }
        }
    }
}

impl Cli {
    /// The set that it names.
    fn set(&self) -> Manager {
        let set = Manager::at(&self.pin_dir, &self.state_dir);
        match &self.node {
            Some(node) => set.on_node(node),
            None => set,
        }
    }
}

fn run(cli: Cli, set: &Manager, telemetry: Option<Telemetry>) -> anyhow::Result<ExitCode> {
    let check = || set.check();
    // What comes to nothing here, the manager does not hear of.
    let early = |event: Event, error: Error| {
        set.tell_failed(event, &error);
        error
    };
    match cli.command {
        Command::Load { ring_bytes } => {
            let options = LoadOptions {
                pin_dir: cli.pin_dir.clone(),
                state_dir: cli.state_dir.clone(),
                ring_bytes,
                faults: 0,
                node: cli.node,
            };
            Manager::load(&options)?;
            println!("loaded and pinned at {}", cli.pin_dir.display());
        }
        Command::Enrol(args) => {
            let event = Event::new(What::Enrolled).of(Owner {
                agent: Some(args.agent.clone()),
                project: Some(args.project.clone()),
                container_id: Some(args.container_id.clone()),
                cgroup_id: None,
            });
            let request = args.request().and_then(|request| check().map(|()| request));
            let request = request.map_err(|error| early(event, error))?;
            let enrolment = set.enrol(&request)?;
            println!("enrolled cgroup {}", enrolment.cgroup_id);
            if request.resolver.is_some() && set.daemon()?.is_none() {
                eprintln!("ebpf-manager: its resolver view answers once `ebpf-manager run` is running");
            }
        }
        Command::Retire { cgroup_id } => {
            check().map_err(|error| early(of(What::Retired, cgroup_id), error))?;
            set.retire(cgroup_id)?;
            println!("retired cgroup {cgroup_id}");
        }
        Command::Rules(RulesCommand::Apply { file, cgroup_id }) => {
            let rules = rules::read(&file).map_err(Error::Rules);
            let rules = rules.and_then(|rules| check().map(|()| rules));
            let rules = rules.map_err(|error| early(of(What::RulesApplied, cgroup_id), error))?;
            set.apply_rules(cgroup_id, &rules)?;
            println!("{} rules applied to cgroup {cgroup_id}", rules.len());
        }
        Command::Bypass(BypassCommand::On { cgroup_id, duration }) => {
            check().map_err(|error| early(of(What::BypassOn, cgroup_id), error))?;
            set.bypass_on(cgroup_id, duration.0)?;
            println!("bypass on for cgroup {cgroup_id}, for {duration} s");
        }
        Command::Bypass(BypassCommand::Off { cgroup_id }) => {
            check().map_err(|error| early(of(What::BypassOff, cgroup_id), error))?;
            set.bypass_off(cgroup_id)?;
            println!("bypass off for cgroup {cgroup_id}");
        }
        Command::Dump { json } => {
            check()?;
            let dump = set.dump()?;
            if json { println!("{}", serde_json::to_string_pretty(&dump.0)?) } else { print!("{dump}") }
        }
        Command::Status { json } => {
            check()?;
            let status = set.status()?;
            if json { println!("{}", serde_json::to_string_pretty(&status)?) } else { println!("{status}") }
        }
        Command::Audit(args) => {
            let spool_dir = args.spool_dir.unwrap_or_else(|| cli.state_dir.join(abi::spool::FOLDER));
            check()?;
            return audit(set, &AuditRequest { spool_dir, documents: args.documents }, args.json, args.watch);
        }
        Command::Run(_) => {
            check()?;
            let shipping = telemetry.map(Telemetry::start).transpose()?;
            let result =
                tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
                    let mut terminate =
                        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
                    let stop = async move {
                        tokio::select! { _ = terminate.recv() => {}, _ = tokio::signal::ctrl_c() => {} }
                    };
                    set.run(stop).await?;
                    anyhow::Ok(())
                });
            if let Some(shipping) = shipping {
                shipping.stop();
            }
            result?;
        }
        Command::Unload { force } => {
            let containers = if force { set.unload()? } else { set.unload_unused().map(|()| 0)? };
            println!("unloaded; {containers} container(s) detached");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn audit(
    manager: &Manager,
    request: &AuditRequest,
    json: bool,
    watch: Option<Seconds>,
) -> anyhow::Result<ExitCode> {
    loop {
        let audit = manager.audit(request)?;
        let mut out = io::stdout().lock();
        match (json, watch) {
            (true, Some(_)) => writeln!(out, "{}", serde_json::to_string(&audit)?)?,
            (true, None) => writeln!(out, "{}", serde_json::to_string_pretty(&audit)?)?,
            (false, _) => writeln!(out, "{audit}")?,
        }
        match watch {
            Some(pause) => thread::sleep(pause.0),
            None if audit.closed => return Ok(ExitCode::SUCCESS),
            None => return Ok(ExitCode::from(1)),
        }
    }
}
