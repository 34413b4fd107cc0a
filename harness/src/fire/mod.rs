//! Fires one cell: builds its world, enrols its agents, runs its steps, settles, and gathers the
//! evidence. It judges nothing.

mod act;
mod cell;
mod control;
mod coredns;
mod enrol;
mod envoy;
mod house;
mod server;
mod servers;
mod settle;
mod steps;
mod streams;
mod telemetry;

use std::net::{IpAddr, Ipv4Addr};

use cell::Case;
pub use cell::{FireError, fire};
pub use envoy::prepared;
use ipnet::IpNet;

use crate::{
    scenario::types::{Proxy, Rule, Scenario},
    world::World,
};

/// Where sentinels are sent: an address that no host of a case may have.
pub const SENTINEL: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 254));

/// A case's rules, as what ships understands them.
///
/// # Errors
/// At the first that it does not.
pub fn understood(rules: &[Rule]) -> serde_json::Result<Vec<rules::Rule>> {
    rules.iter().map(|rule| serde_json::from_value(serde_json::to_value(rule)?)).collect()
}

/// As the parts of the plane are told of a container. Listeners are the plan's to give.
fn container(
    id: &str,
    agent: &str,
    project: &str,
    addresses: &[IpAddr],
    rules: &[Rule],
) -> Result<stack::Container, FireError> {
    let written: Vec<Rule> = rules.iter().cloned().map(|rule| Rule { listener: None, ..rule }).collect();
    Ok(stack::Container {
        container_id: id.to_owned(),
        agent: agent.to_owned(),
        project: project.to_owned(),
        addresses: addresses.to_vec(),
        rules: understood(&written)?,
    })
}

/// The containers that a world has now, with the rules of each.
fn containers(
    case: Case<'_, '_>,
    world: &World,
    rules: &[Vec<Rule>],
) -> Result<Vec<stack::Container>, FireError> {
    let agents = case.agents.iter().zip(world.agents()).zip(rules);
    let containers = agents.map(|((agent, end), rules)| {
        let id = enrol::container_id(case.id, end);
        container(&id, &agent.agent, &agent.project, &[end.address, end.v6], rules)
    });
    containers.collect()
}

/// An agent's own network, as the manager reads it: `subnets` and `gateways` are its link's.
pub fn network(scenario: &Scenario, subnets: &[IpNet], gateways: &[IpAddr]) -> manager::Network {
    let written = &scenario.network;
    manager::Network {
        subnets: subnets.iter().chain(&written.subnets).copied().collect(),
        gateways: gateways.iter().chain(&written.gateways).copied().collect(),
        infrastructure: scenario.infrastructure(gateways),
    }
}

/// The proxy of a case, as the manager reads it.
pub fn proxy(written: Option<&Proxy>) -> manager::Proxy {
    let Some(proxy) = written else { return manager::Proxy::default() };
    let (v4, v6) = World::proxy();
    manager::Proxy { v4: Some(v4), v6: Some(v6), catch_all: proxy.catch_all }
}
