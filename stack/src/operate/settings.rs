//! What is chosen once, by `up`, and kept beside what is made of it.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use stack::store::Retention;

use super::{Wrong, files};

/// Where the settings are, below the stack's folder.
const FILE: &str = "stack.json";
/// The smallest networks that all have room in: bits of a host's number.
const HOST_BITS: u8 = 6;

/// What may be said on the command line. What is not said is as it was the last time, or as it is by default.
#[derive(Args, Clone, Debug, Default)]
pub struct Given {
    /// What containers and networks are called: NAME-opensearch, NAME-agents [default: clawker].
    #[arg(long, value_parser = name)]
    name: Option<String>,
    /// Network of the agents, and of the proxy and the resolver that serve them [default: 198.18.0.0/24].
    #[arg(long, value_name = "SUBNET", value_parser = subnet)]
    agents: Option<Ipv4Net>,
    /// Network of everything else, which no agent reaches [default: 198.18.1.0/24].
    #[arg(long, value_name = "SUBNET", value_parser = subnet)]
    plane: Option<Ipv4Net>,
    /// Images are clawker/NAME:TAG [default: local].
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Whom the proxy asks for the addresses of upstreams [default: Docker's resolver].
    #[arg(long, value_name = "ADDRESS:PORT")]
    dns: Option<SocketAddr>,
    /// Authorities that upstreams' certificates are checked by [default: the machine's].
    #[arg(long, value_name = "PEM", value_parser = absolute)]
    authorities: Option<PathBuf>,
    /// The relay's program [default: `relay` beside this program].
    #[arg(long, value_name = "FILE", value_parser = absolute)]
    relay: Option<PathBuf>,
    /// Days that documents are kept after their index is full [default: 90].
    #[arg(long, value_name = "DAYS")]
    keep_days: Option<u32>,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub name: String,
    pub agents: Ipv4Net,
    pub plane: Ipv4Net,
    pub tag: String,
    pub dns: SocketAddr,
    pub authorities: PathBuf,
    relay: Option<PathBuf>,
    pub keep_days: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: "clawker".to_owned(),
            // For tests of network devices (RFC 2544): nobody's on the Internet.
            agents: Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 24),
            plane: Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 1, 0), 24),
            tag: "local".to_owned(),
            dns: SocketAddr::from(([127, 0, 0, 11], 53)),
            authorities: PathBuf::from("/etc/ssl/certs/ca-certificates.crt"),
            relay: None,
            keep_days: Retention::default().days_kept,
        }
    }
}

impl Settings {
    /// Those of the stack in `folder`; `None` if there is none.
    pub fn read(folder: &Path) -> anyhow::Result<Option<Self>> {
        let path = folder.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let read = serde_json::from_str(&text);
        read.map(Some).with_context(|| format!("{}: these are no settings of `stack up`", path.display()))
    }

    /// Those of the stack that is in `folder`.
    pub fn needed(folder: &Path) -> anyhow::Result<Self> {
        Self::read(folder)?.ok_or_else(|| {
            let folder = folder.display();
            Wrong(format!("there is no stack in {folder}: `stack up --dir {folder}` makes one")).into()
        })
    }

    /// With what is said now.
    pub fn with(self, given: &Given) -> anyhow::Result<Self> {
        let given = given.clone();
        let settings = Self {
            name: given.name.unwrap_or(self.name),
            agents: given.agents.unwrap_or(self.agents),
            plane: given.plane.unwrap_or(self.plane),
            tag: given.tag.unwrap_or(self.tag),
            dns: given.dns.unwrap_or(self.dns),
            authorities: given.authorities.unwrap_or(self.authorities),
            relay: given.relay.or(self.relay),
            keep_days: given.keep_days.unwrap_or(self.keep_days),
        };
        if settings.agents.contains(&settings.plane) || settings.plane.contains(&settings.agents) {
            let (agents, plane) = (settings.agents, settings.plane);
            return Err(Wrong(format!(
                "--agents {agents} and --plane {plane} overlap: agents must not reach the rest"
            ))
            .into());
        }
        Ok(settings)
    }

    /// Whether what belongs to it is called the same, and in the same networks.
    pub fn is_where(&self, other: &Self) -> bool {
        (&self.name, self.agents, self.plane) == (&other.name, other.agents, other.plane)
    }

    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        files::write(&folder.join(FILE), &serde_json::to_vec_pretty(self)?, 0o644, None).map(drop)
    }

    /// How long documents are kept.
    pub fn retention(&self) -> Retention {
        Retention { days_kept: self.keep_days, ..Retention::default() }
    }

    /// Where the relay's program is.
    pub fn relay(&self) -> anyhow::Result<PathBuf> {
        match &self.relay {
            Some(path) => Ok(path.clone()),
            None => {
                Ok(env::current_exe().context("cannot tell where this program is")?.with_file_name("relay"))
            }
        }
    }

    /// Name of a service's container.
    pub fn container(&self, service: &str) -> String {
        format!("{}-{service}", self.name)
    }

    /// Name of the network of agents.
    pub fn agents_network(&self) -> String {
        format!("{}-agents", self.name)
    }

    /// Name of the other.
    pub fn plane_network(&self) -> String {
        format!("{}-plane", self.name)
    }
}

/// The address of this number in a network; 1 is the machine's own.
pub fn host(network: Ipv4Net, number: u8) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(network.network()).saturating_add(u32::from(number)))
}

/// The part of a network that Docker gives to whoever comes: the upper half.
pub fn others(network: Ipv4Net) -> anyhow::Result<Ipv4Net> {
    let mut halves = network.subnets(network.prefix_len().saturating_add(1))?;
    halves.nth(1).with_context(|| format!("{network} has no upper half"))
}

fn subnet(text: &str) -> Result<Ipv4Net, String> {
    let net: Ipv4Net =
        text.parse().map_err(|_| format!("`{text}` is no IPv4 subnet, such as 198.18.0.0/24"))?;
    if net.prefix_len() > 32_u8.saturating_sub(HOST_BITS) {
        return Err(format!("{net} is too small: a /{} or wider has room", 32_u8.saturating_sub(HOST_BITS)));
    }
    Ok(net.trunc())
}

/// It is read again by the next `up`, wherever that is run.
fn absolute(text: &str) -> Result<PathBuf, String> {
    std::path::absolute(text).map_err(|error| error.to_string())
}

fn name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let right =
        text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(fits) && text.len() <= 30;
    right
        .then(|| text.to_owned())
        .ok_or_else(|| format!("`{text}`: a name has up to 30 of a-z, 0-9 and -, and begins with a letter"))
}
