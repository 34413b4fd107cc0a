//! Running the steps of a case.

use std::{
    collections::HashMap,
    thread,
    time::{Duration, Instant, SystemTime},
};

use serde_json::Value;

use super::{
    FireError,
    act::{Begun, act, begin, uninterrupted},
    cell::Case,
    enrol::Enrolled,
    servers::Servers,
    streams, telemetry, understood,
};
use crate::{
    actor::Action,
    interrupt,
    judge::{AgentEvidence, Fired, Window, attribute, matches},
    scenario::types::{Answer, BypassSwitch, Disturbance, Recreated, Scenario, Step, Until},
    world::World,
};

/// How long the endpoint may take to be sent something, after what was to be recorded has ended.
const UNMET_LIMIT: Duration = Duration::from_secs(5);

/// A case under way.
pub(super) struct Script<'a, 'c> {
    pub case: Case<'a, 'c>,
    pub world: &'a mut World,
    pub enrolled: Enrolled,
    /// Of every container, those that are no more included.
    pub agents: Vec<AgentEvidence>,
    pub fired: Vec<Fired>,
    /// Actions that began before the agents were enrolled, by path.
    pub early: HashMap<String, Begun>,
    /// The step that set what the endpoint answers, where it is not as usual.
    pub answering: Option<String>,
    /// The case's own.
    pub servers: Servers,
}

/// Begins what is to begin before the agents are enrolled. `labels` are the agents', in order.
pub(super) fn early(
    world: &World,
    labels: &[&str],
    scenario: &Scenario,
) -> Result<HashMap<String, Begun>, FireError> {
    let mut begun = HashMap::new();
    for (path, step) in scenario.each_step() {
        let Some(action) = Action::of(step).filter(|action| action.origin().is_early()) else { continue };
        let named = |by: &String| labels.iter().position(|label| label == by);
        let agent = step.by.as_ref().and_then(named).unwrap_or(0);
        begun.insert(path.clone(), begin(world, agent, &path, step, &action)?);
    }
    Ok(begun)
}

/// Goes on with what began early, or runs it from the start.
fn go_on(
    world: &World,
    early: Option<Begun>,
    agent: usize,
    path: &str,
    step: &Step,
    action: &Action,
) -> Result<Fired, FireError> {
    match early {
        Some(begun) => begun.finish(world, agent, path, step, action, SystemTime::now()),
        None => act(world, agent, path, step, action),
    }
}

impl Script<'_, '_> {
    /// Runs steps in order, and then ends what they did to the chain.
    pub fn run(&mut self, steps: &[Step]) -> Result<(), FireError> {
        for (index, step) in steps.iter().enumerate() {
            uninterrupted()?;
            let path = format!("steps[{index}]");
            if let Some(together) = &step.together {
                self.together(&path, together)?;
            } else if let Some(action) = Action::of(step) {
                let (container, room) = self.container(step);
                let action = self.complete(&path, room, &action)?;
                let early = self.early.remove(&path);
                let fired = go_on(self.world, early, room, &path, step, &action)?;
                self.fired.push(Fired { agent: container, ..fired });
            } else if let Some(disturbance) = step.disturbance() {
                self.disturb(&path, disturbance)?;
            } else {
                self.operate(&path, step)?;
            }
        }
        self.disturb("steps", Disturbance::Endpoint(Answer::Accept))?;
        self.servers.are_back(self.world)
    }

    /// Runs steps at the same time, and waits for all of them.
    fn together(&mut self, path: &str, steps: &[Step]) -> Result<(), FireError> {
        let mut early = std::mem::take(&mut self.early);
        // Said before anything begins, so that all of it is answered so.
        for (index, step) in steps.iter().enumerate() {
            if let Some(disturbance @ Disturbance::Endpoint(_)) = step.disturbance() {
                self.disturb(&format!("{path}.together[{index}]"), disturbance)?;
            }
        }
        let (this, lab) = (&*self, self.case.lab);
        let world = &*this.world;
        let results: Vec<Result<Fired, FireError>> = thread::scope(|scope| {
            let servers = &this.servers;
            let disturbances = steps.iter().filter_map(Step::disturbance);
            let disturbing: Vec<_> = disturbances
                .filter(|disturbance| !matches!(disturbance, Disturbance::Endpoint(_)))
                .map(|disturbance| scope.spawn(move || servers.disturb(lab, world, disturbance)))
                .collect();
            let started: Vec<_> = steps
                .iter()
                .enumerate()
                .filter_map(|(index, step)| {
                    let path = format!("{path}.together[{index}]");
                    Some((path, step, Action::of(step)?, this.container(step)))
                })
                .map(|(path, step, action, (container, room))| {
                    let action = this.complete(&path, room, &action);
                    let early = early.remove(&path);
                    scope.spawn(move || {
                        let action = action?;
                        let fired = go_on(world, early, room, &path, step, &action)?;
                        Ok(Fired { agent: container, ..fired })
                    })
                })
                .collect();
            let panicked =
                || FireError::Actor { path: path.to_owned(), problem: "its thread panicked".to_owned() };
            let mut results: Vec<_> =
                started.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(panicked()))).collect();
            let disturbed =
                disturbing.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(panicked())));
            results.extend(disturbed.filter_map(Result::err).map(Err));
            results
        });
        self.early = early;
        for result in results {
            self.fired.push(result?);
        }
        Ok(())
    }

    /// What a process is told to do, with what is only known here.
    fn complete(&self, path: &str, room: usize, action: &Action) -> Result<Action, FireError> {
        let complete = telemetry::delivery(self.case.lab.plane(), self.world, room, action);
        complete.map_err(|problem| FireError::Actor { path: path.to_owned(), problem })
    }

    /// Index of the container that a step is by, and the number of its agent: of several containers that were
    /// one after the other, the last.
    fn container(&self, step: &Step) -> (usize, usize) {
        let room = step.by.as_ref().and_then(|by| self.agents.iter().find(|agent| agent.agent == *by));
        let room = room.map_or(0, |agent| agent.room);
        let container = self.agents.iter().rposition(|agent| agent.room == room);
        (container.unwrap_or_default(), room)
    }

    /// Does something to the chain. What the endpoint answered until now must have been met by a record.
    fn disturb(&mut self, path: &str, disturbance: Disturbance) -> Result<(), FireError> {
        if let Disturbance::Endpoint(next) = disturbance {
            let endpoint = &self.case.lab.endpoint;
            if let Some(path) = self.answering.take() {
                let deadline = Instant::now() + UNMET_LIMIT;
                let answer = endpoint.answering();
                if !endpoint.has_answered(deadline) {
                    return Err(FireError::Unmet { path, answer });
                }
            }
            self.answering = (next != Answer::Accept).then(|| path.to_owned());
        }
        self.servers.disturb(self.case.lab, self.world, disturbance)
    }

    /// Waits until a document of the container's is in the store.
    fn until(&self, path: &str, until: &Until, container: &AgentEvidence) -> Result<(), FireError> {
        let lab = self.case.lab;
        let is_meant = |document: &Value| {
            attribute(document, "container_id") == container.container_id.as_str()
                && matches(document, &until.filter)
        };
        if streams::arrives(lab, &until.stream, is_meant)? {
            return Ok(());
        }
        let why = lab.explain(container.cgroup_id);
        Err(FireError::Awaited { path: path.to_owned(), stream: until.stream.clone(), why })
    }

    /// What the operator and the runtime do, and time.
    fn operate(&mut self, path: &str, step: &Step) -> Result<(), FireError> {
        if let Some(wait) = step.wait {
            interrupt::sleep(wait);
        }
        let (container, room) = self.container(step);
        if let (Some(until), Some(agent)) = (&step.until, self.agents.get(container)) {
            self.until(path, until, agent)?;
        }
        let manager = &self.case.lab.manager;
        let Some(agent) = self.agents.get_mut(container) else { return Ok(()) };
        let before = SystemTime::now();
        if let Some(switch) = &step.bypass {
            match switch {
                BypassSwitch::On(duration) => manager.bypass_on(agent.cgroup_id, *duration)?,
                BypassSwitch::Off => manager.bypass_off(agent.cgroup_id).map(drop)?,
            }
            let after = SystemTime::now();
            for window in &mut agent.bypass {
                window.until = Some(window.until.map_or(after, |until| until.min(after)));
            }
            if let BypassSwitch::On(duration) = switch {
                agent.bypass.push(Window { from: (before, after), until: Some(after + *duration), what: () });
            }
        }
        if let Some(rules) = &step.rules {
            // What the kernel hands over is served before, and what it no longer hands over until after.
            self.servers.apply(self.case, self.world, room, rules)?;
            manager.apply_rules(agent.cgroup_id, &understood(rules)?)?;
            let after = SystemTime::now();
            if let Some(last) = agent.rules.last_mut() {
                last.until = Some(after);
            }
            agent.rules.push(Window { from: (before, after), until: None, what: rules.clone() });
        }
        if let Some(Recreated::Container) = step.recreate {
            self.enrolled.end(self.case, self.world, agent)?;
            self.world.recreate(room)?;
            // Before it says anything.
            self.servers.apply(self.case, self.world, room, &self.case.cell.scenario.rules)?;
            self.agents.push(self.enrolled.enrol(self.case, self.world, room)?);
        }
        Ok(())
    }
}
