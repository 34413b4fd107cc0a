//! The agents' containers, from enrolment to the end.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant, SystemTime},
};

use manager::{EnrolRequest, Manager, ResolverAddresses, ViewState, resolver::Resolver};

use super::{FireError, cell::Case, coredns, house, network, proxy, settle, understood};
use crate::{
    judge::{AgentEvidence, Window},
    scenario::types::Agent,
    world::{AgentEnd, World},
};

/// How long the address of a resolver view may be taken by the view before.
const TAKEN_LIMIT: Duration = Duration::from_secs(2);
/// Between attempts to have it.
const LOOK: Duration = Duration::from_millis(2);

/// Enrolled containers, retired on drop.
pub(super) struct Enrolled {
    manager: Manager,
    /// By the agent's number.
    live: Vec<Live>,
}

/// A container as far as it is there.
#[derive(Default)]
struct Live {
    cgroup_id: Option<u64>,
    resolver: Option<Resolver>,
}

impl Enrolled {
    /// None yet.
    pub fn new(case: Case<'_, '_>) -> Self {
        let live = case.agents.iter().map(|_| Live::default()).collect();
        Self { manager: case.lab.manager.clone(), live }
    }

    /// Enrols the container of agent `room`, and starts its resolver view.
    pub fn enrol(
        &mut self,
        case: Case<'_, '_>,
        world: &World,
        room: usize,
    ) -> Result<AgentEvidence, FireError> {
        let (agent, end) = (&case.agents[room], world.agent(room));
        let before = self.manager.ledger(end.cgroup_id).unwrap_or_default();
        let from = SystemTime::now();
        self.manager.enrol(&request(case, agent, room, end)?)?;
        self.live[room].cgroup_id = Some(end.cgroup_id);
        self.live[room].resolver = Some(resolver(&self.manager, world, end, &agent.agent)?);
        if let Some(pid) = world.house(room) {
            if !self.manager.ready_if_complete(end.cgroup_id, &ViewState::Serving)?
                && case.lab.leave_out.is_empty()
            {
                return Err(FireError::Incomplete(agent.agent.clone()));
            }
            if case.lab.leave_out.is_empty() {
                house::opens(&agent.agent, pid)?;
            }
        }
        Ok(AgentEvidence {
            agent: agent.agent.clone(),
            project: agent.project.clone(),
            room,
            is_live: true,
            container_id: container_id(case.id, end),
            cgroup_id: end.cgroup_id,
            addresses: [end.address, end.v6],
            subnets: end.subnets,
            gateways: end.gateways,
            resolvers: resolvers(case, room, end),
            ledger: before,
            sentinels: 0,
            bypass: Vec::new(),
            rules: vec![Window { from: (from, from), until: None, what: case.cell.scenario.rules.clone() }],
        })
    }

    /// Ends the container of an agent as its runtime would.
    pub fn end(
        &mut self,
        case: Case<'_, '_>,
        world: &World,
        old: &mut AgentEvidence,
    ) -> Result<(), FireError> {
        let live = &mut self.live[old.room];
        world.end_processes(old.room);
        // No hook of it will end them later.
        settle::end_flows(case.lab, old.cgroup_id)?;
        live.resolver = None;
        live.cgroup_id = None;
        self.manager.retire(old.cgroup_id)?;
        old.is_live = false;
        Ok(())
    }
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        for live in &mut self.live {
            drop(live.resolver.take());
            if let Some(cgroup_id) = live.cgroup_id
                && let Err(error) = self.manager.retire(cgroup_id)
            {
                tracing::warn!(%error, cgroup_id, "an agent was not retired");
            }
        }
    }
}

/// Where an agent's DNS is sent to.
fn resolvers(case: Case<'_, '_>, room: usize, end: &AgentEnd) -> [SocketAddr; 2] {
    if case.cell.scenario.has_coredns() { coredns::addresses(room) } else { end.resolvers }
}

fn request(
    case: Case<'_, '_>,
    agent: &Agent,
    room: usize,
    end: &AgentEnd,
) -> Result<EnrolRequest, FireError> {
    let scenario = &case.cell.scenario;
    let settings = &scenario.settings;
    let mut request = EnrolRequest::new(&end.cgroup, container_id(case.id, end));
    request.agent = agent.agent.clone();
    request.project = agent.project.clone();
    request.rules = understood(&scenario.rules)?;
    let mut addresses = ResolverAddresses::new(&resolvers(case, room, end), World::authority())?;
    if scenario.has_coredns() {
        addresses = addresses.behind(coredns::view(room))?;
    }
    request.resolver = Some(addresses);
    request.network = network(scenario, &end.subnets, &end.gateways);
    request.forbidden = scenario.forbidden().collect();
    request.proxy = proxy(scenario.proxy.as_ref());
    request.accept_unobserved = true;
    request.leave_out = case.lab.leave_out.clone();
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
pub(super) fn container_id(id: &str, end: &AgentEnd) -> String {
    format!("{id}-{}", end.cgroup_id)
}

/// Starts an agent's resolver view on the far side, where production has it beside the proxy.
fn resolver(manager: &Manager, world: &World, end: &AgentEnd, agent: &str) -> Result<Resolver, FireError> {
    let deadline = Instant::now() + TAKEN_LIMIT;
    let cgroup_id = end.cgroup_id;
    loop {
        let manager = manager.clone();
        let started = world.far().run(async move { Resolver::start(&manager, cgroup_id).await });
        match started.ok_or_else(|| FireError::Resolver(agent.to_owned()))? {
            // The view of the container before lets go of its address in its own time.
            Err(manager::Error::Listen { .. }) if Instant::now() < deadline => thread::sleep(LOOK),
            other => return Ok(other?),
        }
    }
}
