//! A world: network namespaces, cgroups and servers that one cell has to itself.
//!
//! One namespace is the far side: every host of the scenario lives there, with real sockets. One
//! namespace and one cgroup an agent; a veth pair joins each to the far side, which does not
//! forward. Everything is owned by guards, so dropping a [`World`] leaves nothing behind, and
//! [`sweep`] removes what a killed process could not drop.
//!
//! It must not know rules, verdicts or documents: it provides the place, others enforce and judge.
//! No function here changes the namespace of the calling thread.

mod addresses;
mod build;
mod cgroup;
mod etc;
mod folder;
mod kept;
mod nested;
mod netns;
mod sweep;

use std::{
    any::Any,
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use indexmap::IndexMap;
use ipnet::IpNet;

use crate::{
    actor::{
        self, Action, Running, SpawnError,
        confine::{self, Confinement},
        stage::Part,
    },
    far::{Call, Exchange, Far},
    scenario::types::{Accept, Agent, Family, Host},
    wire::{Frames, Wire, WireSummary},
};
use etc::EtcFiles;
use netns::Netns;

pub(crate) use build::{AGENT_INTERFACE, AGENT_LINK, AGENT_MAC, FAR_MAC};
pub(crate) use cgroup::{Cgroup, mount as cgroup_mount};
pub(crate) use folder::Folder;
pub use kept::{Entrance, KeptAgent, KeptWorld, Notice};
pub use nested::Nested;
pub use sweep::{Swept, sweep};

/// Folder of every world's cgroups below the cgroup2 mount, and of their files below `/run`.
pub(crate) const FOLDER: &str = "clawker-lab";
/// Prefix of namespace names; the owner follows.
pub(crate) const NETNS_PREFIX: &str = "clw";
/// Most agents in one world: their /30 networks come out of 192.0.2.0/24.
pub const MOST_AGENTS: usize = 64;

/// Why a world could not be made. All of these are failures of the environment or of its caller,
/// never of the code under test.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// The identifier would not be a safe path component.
    #[error("world id `{0}` must be 1 to 64 of a-z, A-Z, 0-9, `_` and `-`")]
    Id(String),
    /// 192.0.2.0/24 has room for [`MOST_AGENTS`].
    #[error("{0} agents in one world, at most {MOST_AGENTS} fit; split the scenario")]
    TooManyAgents(usize),
    /// No cgroup v2 hierarchy.
    #[error(
        "no cgroup2 file system in /proc/self/mountinfo; mount one: mount -t cgroup2 none /sys/fs/cgroup"
    )]
    NoCgroup2,
    /// An agent asks for a capability that Linux does not have.
    #[error("agent `{agent}` asks for capability `{name}`, which does not exist; names look like net_raw")]
    Capability {
        /// The agent's label.
        agent: String,
        /// The unknown name.
        name: String,
    },
    /// A host cannot be served as the scenario says.
    #[error("host `{host}` port {port}: {reason}")]
    Serve {
        /// The host's name.
        host: String,
        /// The port.
        port: u16,
        /// What is wrong with it.
        reason: String,
    },
    /// The kernel refused.
    #[error("cannot {what}: {source}; worlds need root and free names")]
    Io {
        /// What was tried, with the path or name.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused a network setting.
    #[error("cannot {what}: {source}; worlds need CAP_NET_ADMIN and the veth driver")]
    Netlink {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        source: Box<rtnetlink::Error>,
    },
}

impl WorldError {
    pub(crate) fn io<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { what: what.into(), source: source.into() }
    }
}

/// Where one agent lives.
#[derive(Clone, Debug)]
pub struct AgentEnd {
    /// Its cgroup, an absolute path.
    pub cgroup: PathBuf,
    /// Inode number of the cgroup, as eBPF sees it.
    pub cgroup_id: u64,
    /// Its IPv4 address.
    pub address: IpAddr,
    /// Its IPv6 address.
    pub v6: IpAddr,
    /// The network of its veth.
    pub subnets: [IpNet; 2],
    /// The far end of its veth.
    pub gateways: [IpAddr; 2],
    /// On the far side of its own veth: where its resolver view listens, IPv4 and IPv6.
    pub resolvers: [SocketAddr; 2],
    /// Its network namespace.
    pub netns: PathBuf,
}

struct AgentRoom {
    end: AgentEnd,
    confinement: Confinement,
    // The guards, in the order in which they must go.
    cgroup: Cgroup,
    files: EtcFiles,
    netns: Netns,
    /// What made the cgroup and the namespace, where that was not the world.
    house: Option<House>,
}

/// A container that is an agent's room: the world joins its network to the far side, and the agent's processes live in
/// its cgroup.
pub struct House {
    /// Its first process.
    pub pid: u32,
    /// Its name for its runtime.
    pub id: String,
    /// What keeps it, and removes it when dropped.
    pub keeper: Box<dyn Any + Send + Sync>,
}

/// What a world stands on, where that is not of its own making.
#[derive(Default)]
pub struct Ground {
    /// Containers of the agents, one each; those that have none get a room of the world's own.
    pub houses: Vec<House>,
    /// The container whose network namespace is the far side.
    pub far: Option<House>,
    /// The authority that agents trust, and no other, as PEM.
    pub trust: Option<String>,
}

/// An isolated place with its far side. Dropping it ends every process in it and removes it.
pub struct World {
    id: String,
    /// Containers that took the place of others.
    recreated: usize,
    agents: Vec<AgentRoom>,
    far: Far,
    wire: Wire,
    far_netns: Netns,
    far_house: Option<House>,
    /// Addresses of the hosts.
    hosts: HashMap<String, Vec<IpAddr>>,
}

impl World {
    /// Builds a world: namespaces, links, cgroups, servers listening, capture running. `id` must be
    /// unique among this process's live worlds.
    pub fn new(id: &str, hosts: &IndexMap<String, Host>, agents: &[Agent]) -> Result<Self, WorldError> {
        Self::on(id, hosts, agents, Ground::default())
    }

    /// The same on what others made.
    pub fn on(
        id: &str,
        hosts: &IndexMap<String, Host>,
        agents: &[Agent],
        ground: Ground,
    ) -> Result<Self, WorldError> {
        let Ground { houses, far: far_house, trust } = ground;
        let safe = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if id.is_empty() || id.len() > 64 || !id.chars().all(safe) {
            return Err(WorldError::Id(id.to_owned()));
        }
        if agents.len() > MOST_AGENTS {
            return Err(WorldError::TooManyAgents(agents.len()));
        }
        let cgroup_mount = cgroup::mount()?;
        let mut houses = houses.into_iter();
        let mut homes = Vec::with_capacity(agents.len());
        for i in 0..agents.len() {
            let house = houses.next();
            let cgroup = match &house {
                Some(house) => Cgroup::adopt(&cgroup_mount, house.pid)?,
                None => Cgroup::create(&cgroup_mount, &format!("{id}-{i}"))?,
            };
            homes.push((cgroup, house));
        }
        let places: Vec<build::Home<'_>> = homes
            .iter()
            .map(|(cgroup, house)| match house {
                Some(house) => build::Home::Process(house.pid),
                None => build::Home::Cgroup(cgroup.procs()),
            })
            .collect();
        let network = build::network(id, hosts, &places, far_house.as_ref().map(|house| house.pid))?;
        let mut rooms = Vec::with_capacity(agents.len());
        for (i, ((agent, netns), (cgroup, house))) in agents.iter().zip(network.agents).zip(homes).enumerate()
        {
            let name = format!("{id}-{i}");
            let files = EtcFiles::create(&name, trust.as_deref())?;
            let confinement = Confinement::new(agent, cgroup.procs(), netns.fd(), files.binds())?;
            let end = AgentEnd {
                cgroup: cgroup.path().to_owned(),
                cgroup_id: cgroup.id(),
                address: addresses::agent_v4(i).into(),
                v6: addresses::agent_v6(i).into(),
                subnets: addresses::subnets(i),
                gateways: [addresses::far_v4(i).into(), addresses::far_v6(i).into()],
                resolvers: [addresses::far_v4(i).into(), addresses::far_v6(i).into()]
                    .map(|far| SocketAddr::new(far, addresses::RESOLVER_PORT)),
                netns: netns.path().to_owned(),
            };
            rooms.push(AgentRoom { end, confinement, cgroup, files, netns, house });
        }
        let wire = Wire::start(network.captures).map_err(WorldError::io("start the capture thread"))?;
        let far = Far::start(id, network.far.fd(), hosts)?;
        let hosts = hosts.iter().map(|(name, host)| (name.clone(), host.addr.clone())).collect();
        Ok(Self {
            id: id.to_owned(),
            recreated: 0,
            agents: rooms,
            far,
            wire,
            far_netns: network.far,
            far_house,
            hosts,
        })
    }

    /// The authoritative DNS server, which every agent's resolv.conf names.
    #[must_use]
    pub fn authority() -> SocketAddr {
        SocketAddr::new(addresses::AUTHORITY.into(), 53)
    }

    /// Where the proxy listens, if the case has one.
    #[must_use]
    pub const fn proxy() -> (Ipv4Addr, Ipv6Addr) {
        (addresses::PROXY_V4, addresses::PROXY_V6)
    }

    /// Agent number `i`, in the order given to [`World::new`]. Panics if there is none.
    #[must_use]
    pub fn agent(&self, i: usize) -> &AgentEnd {
        &self.agents[i].end
    }

    /// Every agent, in order.
    pub fn agents(&self) -> impl ExactSizeIterator<Item = &AgentEnd> {
        self.agents.iter().map(|room| &room.end)
    }

    /// First process of the container that agent `i` is in, if it is in one.
    pub(crate) fn house(&self, i: usize) -> Option<u32> {
        Some(self.agents[i].house.as_ref()?.pid)
    }

    /// The container that is the far side, if it is one, by its name for its runtime.
    pub(crate) fn far_house(&self) -> Option<&str> {
        Some(&self.far_house.as_ref()?.id)
    }

    /// The far side: its servers, and a place to run more.
    #[must_use]
    pub fn far(&self) -> &Far {
        &self.far
    }

    /// What arrived at the far side up to now, nothing that came before this call left out.
    #[must_use]
    pub fn wire(&self) -> WireSummary {
        self.wire.summary()
    }

    /// Forgets what arrived up to now: what comes after is another matter.
    pub fn forget(&self) {
        self.wire.forget();
    }

    /// Takes the frames that were captured up to now, of both directions.
    #[must_use]
    pub fn frames(&self) -> Frames {
        self.wire.frames()
    }

    /// Starts `action` as agent `i`: in its cgroup and namespaces, with its user and capabilities.
    /// The process dies with the calling thread (`PR_SET_PDEATHSIG`), so wait in the same thread.
    pub fn spawn_actor(&self, i: usize, action: &Action) -> Result<Running, SpawnError> {
        self.spawn_part(i, confine::Cgroup::Own, action, Part::Whole)
    }

    /// The same for a part of an action, and in another cgroup. A descriptor that `part` names is
    /// inherited.
    pub(crate) fn spawn_part(
        &self,
        i: usize,
        cgroup: confine::Cgroup<'_>,
        action: &Action,
        part: Part,
    ) -> Result<Running, SpawnError> {
        actor::spawn::start(&self.agents[i].confinement, cgroup, action, part)
    }

    /// Has the far side come to agent `i`, as `accept` says. `None` if its host has no address of that
    /// family, or is no host.
    pub(crate) fn call(&self, i: usize, accept: &Accept) -> Option<Call> {
        let end = &self.agents[i].end;
        let v6 = accept.family == Family::V6;
        let from = self
            .hosts
            .get(&accept.from.to_ascii_lowercase())?
            .iter()
            .copied()
            .find(|host| host.is_ipv6() == v6)?;
        let to = if v6 { end.v6 } else { end.address };
        let exchange = Exchange { send: accept.receive, receive: accept.send };
        match (accept.tcp, accept.udp) {
            (Some(port), _) => Some(self.far.call_tcp(from, SocketAddr::new(to, port), exchange)),
            (None, Some(port)) => Some(self.far.call_udp(from, SocketAddr::new(to, port), exchange)),
            (None, None) => None,
        }
    }

    /// Ends the processes of agent `i`.
    pub(crate) fn end_processes(&self, i: usize) {
        cgroup::kill_all(self.agents[i].cgroup.path());
    }

    /// Gives agent `i` a cgroup of its own anew, as a container that takes the place of another has, at the same
    /// addresses. What was in the old one ends with it. It is of the world's own making, whatever the one before was.
    pub(crate) fn recreate(&mut self, i: usize) -> Result<(), WorldError> {
        let room = &mut self.agents[i];
        self.recreated += 1;
        let name = format!("{}-{i}-{}", self.id, self.recreated);
        let cgroup = Cgroup::create(&cgroup::mount()?, &name)?;
        room.confinement.join(cgroup.procs())?;
        room.end.cgroup = cgroup.path().to_owned();
        room.end.cgroup_id = cgroup.id();
        room.cgroup = cgroup;
        room.house = None;
        Ok(())
    }

    /// A new cgroup in that of agent `i`.
    pub(crate) fn nest(&self, i: usize) -> Result<Nested, WorldError> {
        Nested::create(self.agents[i].cgroup.path())
    }

    /// Moves a process into the cgroup of agent `i`.
    pub(crate) fn move_in(&self, i: usize, pid: u32) -> Result<(), WorldError> {
        cgroup::move_to(&self.agents[i].cgroup.path().join("cgroup.procs"), pid)
    }

    /// Moves a process out of its cgroup, into the harness's own.
    pub(crate) fn move_out(&self, pid: u32) -> Result<(), WorldError> {
        cgroup::move_to(&cgroup::own()?.join("cgroup.procs"), pid)
    }

    /// Leaves namespaces, cgroups and files in place until [`sweep`]. The servers live as long as
    /// this process.
    pub fn keep(mut self) {
        for room in &mut self.agents {
            room.cgroup.keep();
            room.files.keep();
            room.netns.keep();
        }
        self.far_netns.keep();
        std::mem::forget(self);
    }
}
