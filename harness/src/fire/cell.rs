//! From a cell to its evidence.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use abi::Ledger;
use manager::{EnrolRequest, Manager, ResolverAddresses, resolver::Resolver};
use nix::sys::signal::Signal;

use super::{
    act::Begun,
    control, network, proxy, settle,
    steps::{self, Script},
    to_manager,
};
use crate::{
    far::Plan,
    judge::{AgentEvidence, Evidence, Window, attribute},
    lab::Lab,
    scenario::{Cell, types::Agent},
    wire::Frames,
    world::{AgentEnd, Notice, World, WorldError},
};

/// Why a cell could not be fired. Never the chain's fault alone: see each.
#[derive(Debug, thiserror::Error)]
pub enum FireError {
    /// The machine.
    #[error(transparent)]
    World(#[from] WorldError),
    /// Enrolment, rules or bypass.
    #[error(transparent)]
    Manager(#[from] manager::Error),
    /// An agent's process could not be started or did not answer.
    #[error("{path}: the agent's process failed: {problem}")]
    Actor {
        /// The step.
        path: String,
        /// Why.
        problem: String,
    },
    /// The resolver view could not be started.
    #[error("the resolver view of {0} did not start")]
    Resolver(String),
    /// The case's proxy could not be started.
    #[error("the proxy did not start: {0}")]
    Proxy(String),
    /// The run is to end.
    #[error("interrupted by {0}")]
    Interrupted(Signal),
    /// The end of the event stream was not seen.
    #[error("the sentinel of agent {agent:?} did not reach the store within {waited:.1?}: {why}")]
    Sentinel {
        /// Whose.
        agent: String,
        /// How long it was waited for.
        waited: Duration,
        /// What is known of the chain.
        why: String,
    },
}

impl FireError {
    /// The step whose fault it is, as a path in the YAML.
    #[must_use]
    pub fn place(&self) -> Option<&str> {
        match self {
            Self::Actor { path, .. } => Some(path),
            _ => None,
        }
    }
}

/// Enrolled agents, retired on drop.
struct Enrolled {
    manager: Manager,
    cgroup_ids: Vec<u64>,
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        for cgroup_id in &self.cgroup_ids {
            if let Err(error) = self.manager.retire(*cgroup_id) {
                tracing::warn!(%error, cgroup_id, "an agent was not retired");
            }
        }
    }
}

/// The agents of a case: one, several, or an anonymous one.
pub(super) fn agents(cell: &Cell) -> Vec<Agent> {
    let mut agents: Vec<Agent> = cell.scenario.each_agent().cloned().collect();
    if agents.is_empty() {
        agents.push(Agent {
            agent: "agent".to_owned(),
            project: "lab".to_owned(),
            uid: None,
            caps: Vec::new(),
        });
    }
    agents
}

/// Fires a cell under the unique name `id`. `keep` leaves the world up for as long as the lab. What its
/// world's capture saw is in `frames` even if there is no evidence.
///
/// # Errors
/// If there is no evidence to judge.
pub fn fire<'c>(
    lab: &Lab,
    cell: &'c Cell,
    id: &str,
    keep: bool,
    frames: &mut Frames,
) -> Result<Evidence<'c>, FireError> {
    let agents = agents(cell);
    let world = World::new(id, &cell.scenario.hosts, &agents)?;
    let labels: Vec<&str> = agents.iter().map(|agent| agent.agent.as_str()).collect();
    let early = steps::early(&world, &labels, &cell.scenario)?;
    let fired = in_world(lab, cell, id, &agents, &world, early);
    *frames = world.frames();
    let (evidence, guards) = fired?;
    if keep {
        // In the order in which they must go.
        let notice = Notice::of(&world, id, &agents, &cell.name)?;
        lab.keep(notice.world.clone(), (notice, guards, world));
    }
    Ok(evidence)
}

/// Evidence, and what must go before the world does.
fn in_world<'c>(
    lab: &Lab,
    cell: &'c Cell,
    id: &str,
    agents: &[Agent],
    world: &World,
    early: HashMap<String, Begun>,
) -> Result<(Evidence<'c>, (Vec<Resolver>, Enrolled)), FireError> {
    let mut enrolled = Enrolled { manager: lab.manager.clone(), cgroup_ids: Vec::new() };
    let mut evidence = Vec::new();
    let mut resolvers = Vec::new();
    for (agent, end) in agents.iter().zip(world.agents()) {
        let before = lab.manager.ledger(end.cgroup_id).unwrap_or_default();
        let from = SystemTime::now();
        lab.manager.enrol(&request(lab, cell, id, agent, end)?)?;
        enrolled.cgroup_ids.push(end.cgroup_id);
        resolvers.push(resolver(lab, world, end, &agent.agent)?);
        evidence.push(AgentEvidence {
            agent: agent.agent.clone(),
            project: agent.project.clone(),
            container_id: container_id(id, end),
            cgroup_id: end.cgroup_id,
            addresses: [end.address, end.v6],
            subnets: end.subnets,
            gateways: end.gateways,
            resolvers: end.resolvers,
            ledger: before,
            sentinels: 0,
            bypass: Vec::new(),
            rules: vec![Window { from: (from, from), until: None, what: cell.scenario.rules.clone() }],
        });
    }
    if let Some(proxy) = &cell.scenario.proxy {
        let plan = Plan::of(proxy, &cell.scenario).map_err(FireError::Proxy)?;
        let started = world.far().run(async move { plan.start().await });
        started
            .ok_or(FireError::Proxy("it panicked".to_owned()))?
            .map_err(|error| FireError::Proxy(error.to_string()))?;
    }
    if !early.is_empty() {
        // What arrived while nothing was enforced is not judged.
        world.forget();
    }
    let mut script = Script { lab, world, agents: evidence, fired: Vec::new(), early };
    script.run(&cell.scenario.steps)?;
    let Script { agents: mut evidence, fired, .. } = script;

    let settled = settle::settle(lab, world, &mut evidence)?;
    for agent in &mut evidence {
        agent.ledger = risen(&agent.ledger, &lab.manager.ledger(agent.cgroup_id)?);
    }
    let queries = queries(world);
    let denied = settled.documents.iter().any(|document| attribute(document, "verdict") == "DENIED");
    let result = Evidence {
        control: control::control(cell, id, &fired, denied)?,
        cell,
        agents: evidence,
        documents: settled.documents,
        sentinels: settled.sentinels,
        wire: world.wire(),
        reader: lab.reader_counters(),
        fired,
        queries,
        ttl_floor: cell.scenario.settings.dns_ttl_floor.unwrap_or(EnrolRequest::DNS_TTL_FLOOR),
    };
    Ok((result, (resolvers, enrolled)))
}

fn request(
    lab: &Lab,
    cell: &Cell,
    id: &str,
    agent: &Agent,
    end: &AgentEnd,
) -> Result<EnrolRequest, FireError> {
    let settings = &cell.scenario.settings;
    let mut request = EnrolRequest::new(&end.cgroup, container_id(id, end));
    request.agent = agent.agent.clone();
    request.project = agent.project.clone();
    request.rules = to_manager(&cell.scenario.rules);
    request.resolver = Some(ResolverAddresses::new(&end.resolvers, World::authority())?);
    request.network = network(&cell.scenario.network, &end.subnets, &end.gateways);
    request.proxy = proxy(cell.scenario.proxy.as_ref());
    request.accept_unobserved = true;
    request.leave_out = lab.leave_out.clone();
    if let Some(floor) = settings.dns_ttl_floor {
        request.dns_ttl_floor = floor;
    }
    if let Some(idle) = settings.udp_idle {
        request.udp_idle = idle;
    }
    if let Some(quota) = settings.flow_quota {
        request.flow_quota = quota;
    }
    Ok(request)
}

/// What an agent's container is called: unique in the life of the reader.
fn container_id(id: &str, end: &AgentEnd) -> String {
    format!("{id}-{}", end.cgroup_id)
}

/// Starts an agent's resolver view on the far side, where production has it beside the proxy.
fn resolver(lab: &Lab, world: &World, end: &AgentEnd, agent: &str) -> Result<Resolver, FireError> {
    let manager = lab.manager.clone();
    let cgroup_id = end.cgroup_id;
    let started = world.far().run(async move { Resolver::start(&manager, cgroup_id).await });
    Ok(started.ok_or_else(|| FireError::Resolver(agent.to_owned()))??)
}

/// What counters rose by.
fn risen(before: &Ledger, after: &Ledger) -> Ledger {
    let mut overflow = after.overflow;
    for (count, before) in overflow.iter_mut().zip(before.overflow) {
        *count -= before;
    }
    Ledger {
        denied: after.denied - before.denied,
        opened: after.opened - before.opened,
        closed: after.closed - before.closed,
        submitted: after.submitted - before.submitted,
        folded: after.folded - before.folded,
        fold_keys: after.fold_keys - before.fold_keys,
        overflow,
        since_ns: after.since_ns,
    }
}

/// What the authority was asked, in wall-clock time.
fn queries(world: &World) -> Vec<(String, SystemTime)> {
    let (now, wall) = (std::time::Instant::now(), SystemTime::now());
    world
        .far()
        .queries()
        .into_iter()
        .filter_map(|query| {
            let asked = wall.checked_sub(now.saturating_duration_since(query.at))?;
            Some((query.name, asked))
        })
        .collect()
}
