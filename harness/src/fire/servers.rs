//! The servers that a case has to itself in the stack tier: the proxy, and what DNS is sent to.

use serde_json::Value;

use super::{FireError, cell::Case, coredns::Coredns, envoy::Envoy};
use crate::{
    lab::Lab,
    plane::lines,
    scenario::types::{Disturbance, Outage, Process, Rule, Stopped},
    world::World,
};

/// Those that it has.
pub(super) struct Servers {
    pub envoy: Option<Envoy>,
    pub coredns: Option<Coredns>,
    /// Of each agent, what they serve.
    rules: Vec<Vec<Rule>>,
}

impl Servers {
    /// The lines of their logs: whose, and what.
    pub fn logs(&self) -> Result<Vec<(String, Value)>, FireError> {
        let mut all = Vec::new();
        if let Some(envoy) = &self.envoy {
            all.extend(lines("the log of Envoy", &envoy.log()?));
        }
        if let Some(coredns) = &self.coredns {
            all.extend(lines("the log of CoreDNS", &coredns.log()?));
        }
        Ok(all)
    }

    /// Starts them with the rules of the case for each of its agents. In the lab there are none.
    pub fn start(case: Case<'_, '_>, world: &World) -> Result<Self, FireError> {
        let scenario = &case.cell.scenario;
        let rules = vec![scenario.rules.clone(); case.agents.len()];
        let mut servers = Self { envoy: None, coredns: None, rules };
        let Some(plane) = case.lab.plane() else { return Ok(servers) };
        if scenario.has_envoy() {
            servers.envoy = Some(Envoy::start(case, world, &servers.rules, plane)?);
        }
        if scenario.has_coredns() {
            servers.coredns = Some(Coredns::start(case, world, &servers.rules, plane)?);
        }
        Ok(servers)
    }

    /// Has them serve other rules for the container that agent `room` has now, without a restart.
    pub fn apply(
        &mut self,
        case: Case<'_, '_>,
        world: &World,
        room: usize,
        rules: &[Rule],
    ) -> Result<(), FireError> {
        if let Some(of_room) = self.rules.get_mut(room) {
            *of_room = rules.to_vec();
        }
        if let (Some(envoy), Some(plane)) = (&mut self.envoy, case.lab.plane()) {
            envoy.apply(case, world, &self.rules, plane)?;
        }
        if let Some(coredns) = &self.coredns {
            coredns.apply(case, world, &self.rules)?;
        }
        Ok(())
    }

    /// Does that to one of them, or to the chain. What comes back by itself is not waited for.
    pub fn disturb(&self, lab: &Lab, world: &World, disturbance: Disturbance) -> Result<(), FireError> {
        match (disturbance, &self.envoy, &self.coredns) {
            (Disturbance::Restart(Process::Envoy), Some(envoy), _) => envoy.restart(world),
            (Disturbance::Restart(Process::Coredns), _, Some(coredns)) => coredns.restart(world),
            (Disturbance::Stop(Outage { part: Stopped::Envoy, length }), Some(envoy), _) => {
                envoy.leave(length)
            }
            (Disturbance::Stop(Outage { part: Stopped::Coredns, length }), _, Some(coredns)) => {
                coredns.leave(length)
            }
            _ => lab.disturb(disturbance).map_err(FireError::Disturbance),
        }
    }

    /// Waits until each of them serves again, if one was stopped.
    pub fn are_back(&self, world: &World) -> Result<(), FireError> {
        self.envoy.iter().try_for_each(|envoy| envoy.is_back(world))?;
        self.coredns.iter().try_for_each(|coredns| coredns.is_back(world))
    }
}
