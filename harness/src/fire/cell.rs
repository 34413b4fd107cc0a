//! From a cell to its evidence.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use abi::Ledger;
use manager::EnrolRequest;
use nix::sys::signal::Signal;
use stack::Lane;

use super::{
    act::Begun,
    control,
    enrol::Enrolled,
    house,
    servers::Servers,
    settle,
    steps::{self, Script},
    streams, telemetry,
};
use crate::{
    docker::DockerError,
    far::Plan,
    judge::{Evidence, Query, attribute},
    lab::Lab,
    scenario::{
        Cell,
        fields::COREDNS_STREAM,
        types::{Agent, Answer},
    },
    wire::Frames,
    world::{Ground, Notice, World, WorldError},
};

/// Why a cell could not be fired. Never the chain's fault alone: see each.
#[derive(Debug, thiserror::Error)]
pub enum FireError {
    /// The machine.
    #[error(transparent)]
    World(#[from] WorldError),
    /// The lab that the cell has to itself.
    #[error("its own lab did not start: {0:#}")]
    Lab(anyhow::Error),
    /// Rules that what ships does not understand.
    #[error("the rules are not understood: {0}")]
    Rules(#[from] serde_json::Error),
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
    /// An agent's container was not started.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// What was asked for is not all there.
    #[error("the enrolment of agent {0:?} is not complete, though nothing failed")]
    Incomplete(String),
    /// The start gate stayed shut.
    #[error(
        "the start gate of agent {agent:?} did not open though it is enrolled: its first process is `{name}`"
    )]
    Gate {
        /// Whose.
        agent: String,
        /// What the container's first process is called.
        name: String,
    },
    /// The proxy cannot serve these rules.
    #[error("there is no plan for the proxy: {0}")]
    Plan(#[from] stack::PlanError),
    /// The case's proxy could not be started.
    #[error("the proxy did not start: {0}")]
    Proxy(String),
    /// The case's CoreDNS did not do as it should.
    #[error("CoreDNS: {0}")]
    Coredns(String),
    /// The run is to end.
    #[error("interrupted by {0}")]
    Interrupted(Signal),
    /// What was to be done to the chain was not, or is not over.
    #[error("{0:#}; so the case shows nothing")]
    Disturbance(anyhow::Error),
    /// A fault of the endpoint met no record.
    #[error(
        "{path}: nothing was sent to the endpoint while it answered `{answer}`, so the step shows nothing"
    )]
    Unmet {
        /// The step that set it.
        path: String,
        /// What it answered.
        answer: Answer,
    },
    /// What a step waits for did not come.
    #[error("{path}: no such document came into {stream}: {why}")]
    Awaited {
        /// The step.
        path: String,
        /// The stream.
        stream: String,
        /// What is known of the chain.
        why: String,
    },
    /// The end of another stream was not seen.
    #[error("the last document of agent {agent:?} in {stream} did not reach the store: {why}")]
    Stream {
        /// Which.
        stream: String,
        /// Whose.
        agent: String,
        /// What is known of the plane.
        why: String,
    },
    /// What servers said was not read.
    #[error("what the servers said is not known: {0}")]
    Log(String),
    /// Prometheus was not asked.
    #[error("the series of agents' counters are not known: {0}")]
    Metrics(String),
    /// What the relay keeps was not looked through.
    #[error("the relay's files were not read: {0}")]
    Relay(String),
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
            Self::Actor { path, .. } | Self::Unmet { path, .. } | Self::Awaited { path, .. } => Some(path),
            _ => None,
        }
    }
}

/// A cell that is fired, in its lab, under its name.
#[derive(Clone, Copy)]
pub(super) struct Case<'a, 'c> {
    pub lab: &'a Lab,
    pub cell: &'c Cell,
    pub id: &'a str,
    pub agents: &'a [Agent],
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
    let case = Case { lab, cell, id, agents: &agents };
    let mut world = World::on(id, &cell.scenario.hosts, &agents, ground(case)?)?;
    let labels: Vec<&str> = agents.iter().map(|agent| agent.agent.as_str()).collect();
    let early = steps::early(&world, &labels, &cell.scenario)?;
    let fired = in_world(case, &mut world, early);
    *frames = world.frames();
    let (evidence, enrolled) = fired?;
    if keep {
        // In the order in which they must go.
        let notice = Notice::of(&world, id, &agents, &cell.name)?;
        lab.keep(notice.world.clone(), (notice, enrolled, world));
    }
    Ok(evidence)
}

/// What the world of a case stands on: in the stack tier, containers.
fn ground(case: Case<'_, '_>) -> Result<Ground, FireError> {
    let Some(plane) = case.lab.plane() else { return Ok(Ground::default()) };
    let mut ground = Ground { houses: house::houses(case, plane)?, ..Ground::default() };
    let scenario = &case.cell.scenario;
    if scenario.has_envoy() || scenario.has_coredns() {
        ground.far = Some(house::far_side(plane)?);
    }
    if scenario.has_envoy() {
        ground.trust = Some(plane.proxy_authority().certificate().to_owned());
    }
    Ok(ground)
}

/// Evidence, and what must go before the world does.
fn in_world<'c>(
    case: Case<'_, 'c>,
    world: &mut World,
    early: HashMap<String, Begun>,
) -> Result<(Evidence<'c>, Enrolled), FireError> {
    let Case { lab, cell, id, .. } = case;
    let mut enrolled = Enrolled::new(case);
    let mut evidence = Vec::new();
    // Before the agents: a listener that is not there would refuse what it is handed.
    let servers = Servers::start(case, world)?;
    for room in 0..case.agents.len() {
        evidence.push(enrolled.enrol(case, world, room)?);
    }
    if let (Some(proxy), None) = (&cell.scenario.proxy, &servers.envoy) {
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
    let fired = Vec::new();
    let mut script =
        Script { case, world, enrolled, agents: evidence, fired, early, answering: None, servers };
    script.run(&cell.scenario.steps)?;
    let Script { world, enrolled, agents: mut evidence, fired, servers, .. } = script;

    if let Some(envoy) = &servers.envoy {
        envoy.has_ended(world)?;
    }
    let mut streams = streams::streams(case, world, &mut evidence)?;
    let telling = lab.plane().filter(|_| cell.scenario.tells());
    let mut series = Vec::new();
    if let Some(plane) = telling {
        streams.insert(Lane::Claude.stream(), telemetry::documents(case, plane, &evidence)?);
        series = telemetry::series(plane, &evidence)?;
    }
    let absent = telling.zip(cell.scenario.expect.absent_everywhere.as_deref());
    let said = if absent.is_some() { servers.logs()? } else { Vec::new() };
    let Servers { envoy, coredns, .. } = servers;
    if let Some(coredns) = coredns {
        streams.insert(COREDNS_STREAM.to_owned(), coredns.documents(case, &evidence)?);
    }
    let settled = settle::settle(case, world, &mut evidence)?;
    let places = match absent {
        Some((plane, text)) => telemetry::places(case, plane, &said, text)?,
        None => Vec::new(),
    };
    drop(envoy);
    let repeated = streams::repeated(lab, &evidence);
    for agent in &mut evidence {
        agent.ledger = risen(&agent.ledger, &lab.manager.ledger(agent.cgroup_id)?);
    }
    let queries = queries(world);
    let denied = settled.documents.iter().any(|document| attribute(document, "verdict") == "DENIED");
    let result = Evidence {
        control: control::control(cell, id, &fired, &evidence, denied)?,
        cell,
        agents: evidence,
        documents: settled.documents,
        streams,
        series,
        places,
        repeated,
        sentinels: settled.sentinels,
        losses: settled.losses,
        wire: world.wire(),
        reader: lab.reader_counters(),
        alone: cell.scenario.disturbs(),
        fired,
        queries,
        ttl_floor: cell.scenario.settings.dns_ttl_floor.unwrap_or(EnrolRequest::DNS_TTL_FLOOR),
    };
    Ok((result, enrolled))
}

/// What counters rose by.
pub(super) fn risen(before: &Ledger, after: &Ledger) -> Ledger {
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
fn queries(world: &World) -> Vec<Query> {
    let (now, wall) = (std::time::Instant::now(), SystemTime::now());
    world
        .far()
        .queries()
        .into_iter()
        .filter_map(|query| {
            let asked = wall.checked_sub(now.saturating_duration_since(query.at))?;
            Some(Query { name: query.name, kind: query.kind, asked })
        })
        .collect()
}
