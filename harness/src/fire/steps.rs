//! Running the steps of a case.

use std::{collections::HashMap, thread, time::SystemTime};

use super::{
    FireError,
    act::{Begun, act, begin, uninterrupted},
    to_manager,
};
use crate::{
    actor::Action,
    interrupt,
    judge::{AgentEvidence, Fired, Window},
    lab::Lab,
    scenario::types::{BypassSwitch, Scenario, Step},
    world::World,
};

/// A case under way.
pub(super) struct Script<'a> {
    pub lab: &'a Lab,
    pub world: &'a World,
    pub agents: Vec<AgentEvidence>,
    pub fired: Vec<Fired>,
    /// Actions that began before the agents were enrolled, by path.
    pub early: HashMap<String, Begun>,
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

impl Script<'_> {
    /// Runs steps in order.
    pub fn run(&mut self, steps: &[Step]) -> Result<(), FireError> {
        for (index, step) in steps.iter().enumerate() {
            uninterrupted()?;
            let path = format!("steps[{index}]");
            if let Some(together) = &step.together {
                self.together(&path, together)?;
            } else if let Some(action) = Action::of(step) {
                let agent = self.agent(step);
                let early = self.early.remove(&path);
                self.fired.push(go_on(self.world, early, agent, &path, step, &action)?);
            } else {
                self.operate(step)?;
            }
        }
        Ok(())
    }

    /// Runs steps at the same time, and waits for all of them.
    fn together(&mut self, path: &str, steps: &[Step]) -> Result<(), FireError> {
        let world = self.world;
        let mut early = std::mem::take(&mut self.early);
        let this = &*self;
        let results: Vec<Result<Fired, FireError>> = thread::scope(|scope| {
            let started: Vec<_> = steps
                .iter()
                .enumerate()
                .filter_map(|(index, step)| {
                    Some((format!("{path}.together[{index}]"), step, Action::of(step)?, this.agent(step)))
                })
                .map(|(path, step, action, agent)| {
                    let early = early.remove(&path);
                    scope.spawn(move || go_on(world, early, agent, &path, step, &action))
                })
                .collect();
            started
                .into_iter()
                .map(|thread| {
                    thread.join().unwrap_or_else(|_| {
                        Err(FireError::Actor {
                            path: path.to_owned(),
                            problem: "its thread panicked".to_owned(),
                        })
                    })
                })
                .collect()
        });
        self.early = early;
        for result in results {
            self.fired.push(result?);
        }
        Ok(())
    }

    /// Index of the agent that a step is by.
    fn agent(&self, step: &Step) -> usize {
        let named = |by: &String| self.agents.iter().position(|agent| agent.agent == *by);
        step.by.as_ref().and_then(named).unwrap_or(0)
    }

    /// What the operator does, and time.
    fn operate(&mut self, step: &Step) -> Result<(), FireError> {
        if let Some(wait) = step.wait {
            interrupt::sleep(wait);
        }
        let index = self.agent(step);
        let Some(agent) = self.agents.get_mut(index) else { return Ok(()) };
        let before = SystemTime::now();
        if let Some(switch) = &step.bypass {
            match switch {
                BypassSwitch::On(duration) => self.lab.manager.bypass_on(agent.cgroup_id, *duration)?,
                BypassSwitch::Off => self.lab.manager.bypass_off(agent.cgroup_id)?,
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
            self.lab.manager.apply_rules(agent.cgroup_id, &to_manager(rules))?;
            let after = SystemTime::now();
            if let Some(last) = agent.rules.last_mut() {
                last.until = Some(after);
            }
            agent.rules.push(Window { from: (before, after), until: None, what: rules.clone() });
        }
        Ok(())
    }
}
