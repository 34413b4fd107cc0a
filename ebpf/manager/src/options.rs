//! The command line.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use abi::{Enrolment, pin};
use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;
use manager::{EnrolRequest, Error, LoadOptions, Manager, Network, Proxy, ResolverAddresses};

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
pub struct Cli {
    /// Folder of pins, on a bpffs.
    #[arg(long, global = true, default_value = pin::DEFAULT_DIR)]
    pub pin_dir: PathBuf,
    /// Folder of state files.
    #[arg(long, global = true, default_value = Enrolment::DEFAULT_STATE_DIR)]
    pub state_dir: PathBuf,
    /// What this machine is called in events and logs. Default: the host name.
    #[arg(long, global = true)]
    pub node: Option<String>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
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
        /// Also while it has processes: nothing of theirs is denied or recorded any more.
        #[arg(long)]
        force: bool,
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
pub enum RulesCommand {
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
pub enum BypassCommand {
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
pub struct AuditArgs {
    /// As JSON, one object an audit; docs/ledger.md has its fields.
    #[arg(long)]
    pub json: bool,
    /// Again and again, with so many seconds in between, until interrupted.
    #[arg(long, value_name = "SECONDS")]
    pub watch: Option<Seconds>,
    /// Folder of the reader's spool. Default: `spool` in the state directory.
    #[arg(long)]
    pub spool_dir: Option<PathBuf>,
    /// Documents of the store, as JSON, one a line. Without them the last hop is not asked.
    #[arg(long, value_name = "FILE")]
    pub documents: Option<PathBuf>,
}

#[derive(Args)]
pub struct EnrolArgs {
    /// The container's cgroup v2 folder.
    pub cgroup: PathBuf,
    /// The runtime's identifier of the container.
    #[arg(long)]
    pub container_id: String,
    /// Value of its label dev.clawker.agent.
    #[arg(long, default_value = "")]
    pub agent: String,
    /// Value of its label dev.clawker.project.
    #[arg(long, default_value = "")]
    pub project: String,
    /// YAML file of its egress rules. Without one, nothing is permitted.
    #[arg(long)]
    pub rules: Option<PathBuf>,
    /// Where its DNS goes, to its resolver view: an address that the container can reach. Given twice, one is IPv4
    /// and one IPv6; DNS to a name server of a family without one is denied.
    #[arg(long, requires = "upstream")]
    pub resolver: Vec<SocketAddr>,
    /// Where the view listens if another server, such as CoreDNS, stands at --resolver and asks it. It answers that
    /// server alone, and this machine.
    #[arg(long, requires = "resolver")]
    pub view: Option<SocketAddr>,
    /// The DNS server that the view asks.
    #[arg(long, requires = "resolver")]
    pub upstream: Option<SocketAddr>,
    /// A prefix of its own network, where it reaches infrastructure alone. May be given several times.
    #[arg(long)]
    pub subnet: Vec<IpNet>,
    /// An address of the host in its own network. May be given several times.
    #[arg(long)]
    pub gateway: Vec<IpAddr>,
    /// What it may reach in its own network, as address:port. May be given several times.
    #[arg(long)]
    pub infrastructure: Vec<SocketAddr>,
    /// A network of the stack itself, which no name leads it to: addresses in it are left out of what its names resolve to, as
    /// loopback and metadata services always are. May be given several times.
    #[arg(long, value_name = "PREFIX")]
    pub forbidden: Vec<IpNet>,
    /// The proxy's IPv4 address. Rules with a `listener` hand their flows to it.
    #[arg(long)]
    pub proxy: Option<Ipv4Addr>,
    /// The proxy's IPv6 address.
    #[arg(long, requires = "proxy")]
    pub proxy6: Option<Ipv6Addr>,
    /// Port of the proxy that takes TCP that no rule knows. Without one, that is denied.
    #[arg(long, requires = "proxy")]
    pub catch_all: Option<u16>,
    /// Shortest time a DNS answer permits its addresses, in seconds.
    #[arg(long, default_value_t = Seconds(EnrolRequest::DNS_TTL_FLOOR))]
    pub dns_ttl_floor: Seconds,
    /// UDP flows without a datagram for this long end, in seconds.
    #[arg(long, default_value_t = Seconds(EnrolRequest::UDP_IDLE))]
    pub udp_idle: Seconds,
    /// Most flows open at once.
    #[arg(long, default_value_t = EnrolRequest::FLOW_QUOTA)]
    pub flow_quota: u64,
    /// Enrol although processes in it share the host's network or can have CAP_NET_ADMIN or CAP_NET_RAW.
    #[arg(long)]
    pub accept_unobserved: bool,
}

impl EnrolArgs {
    /// What is asked for.
    pub fn request(self) -> Result<EnrolRequest, Error> {
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
        request.forbidden = self.forbidden;
        request.proxy = Proxy { v4: self.proxy, v6: self.proxy6, catch_all: self.catch_all };
        request.dns_ttl_floor = self.dns_ttl_floor.0;
        request.udp_idle = self.udp_idle.0;
        request.flow_quota = self.flow_quota;
        request.accept_unobserved = self.accept_unobserved;
        Ok(request)
    }
}

impl Cli {
    /// The set that it names.
    pub fn set(&self) -> Manager {
        let set = Manager::at(&self.pin_dir, &self.state_dir);
        match &self.node {
            Some(node) => set.on_node(node),
            None => set,
        }
    }
}

/// A time on the command line, in seconds: `30`, `0.5`, `30s`.
#[derive(Clone, Copy)]
pub struct Seconds(pub Duration);

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
