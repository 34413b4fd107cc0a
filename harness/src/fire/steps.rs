//! Running the steps of a case.

use std::{
    iter, thread,
    time::{Duration, SystemTime},
};

use super::{FireError, to_manager};
use crate::{
    actor::{Action, Report},
    judge::{AgentEvidence, Fired, Output, Window},
    lab::Lab,
    scenario::types::{BypassSwitch, Step},
    world::World,
};

/// How long an agent's process may take beyond what its step asks for.
const GRACE: Duration = Duration::from_secs(10);

/// A case under way.
pub(super) struct Script<'a> {
    pub lab: &'a Lab,
    pub world: &'a World,
    pub agents: Vec<AgentEvidence>,
    pub fired: Vec<Fired>,
}

impl Script<'_> {
    /// Runs steps in order.
    pub fn run(&mut self, steps: &[Step]) -> Result<(), FireError> {
        for (index, step) in steps.iter().enumerate() {
            let path = format!("steps[{index}]");
            if let Some(together) = &step.together {
                self.together(&path, together)?;
            } else if let Some(action) = Action::of(step) {
                let agent = self.agent(step);
                self.fired.push(act(self.world, agent, &path, step, &action)?);
            } else {
                self.operate(step)?;
            }
        }
        Ok(())
    }

    /// Runs steps at the same time, and waits for all of them.
    fn together(&mut self, path: &str, steps: &[Step]) -> Result<(), FireError> {
        let world = self.world;
        let this = &*self;
        let results: Vec<Result<Fired, FireError>> = thread::scope(|scope| {
            let started: Vec<_> = steps
                .iter()
                .enumerate()
                .filter_map(|(index, step)| {
                    Some((format!("{path}.together[{index}]"), step, Action::of(step)?, this.agent(step)))
                })
                .map(|(path, step, action, agent)| {
                    scope.spawn(move || act(world, agent, &path, step, &action))
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
            thread::sleep(wait);
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

/// Runs one action as an agent. Its process is waited for in this thread: it dies with it.
pub(super) fn act(
    world: &World,
    agent: usize,
    path: &str,
    step: &Step,
    action: &Action,
) -> Result<Fired, FireError> {
    let failed = |problem: String| FireError::Actor { path: path.to_owned(), problem };
    let started = SystemTime::now();
    let running = world.spawn_actor(agent, action).map_err(|error| failed(error.to_string()))?;
    let mut report: Report = running.wait(limit(step)).map_err(|error| failed(error.to_string()))?;
    let expected = step.outcome.clone().unwrap_or_else(|| default_outcome(step).to_owned());
    let exec = step.exec.clone().unwrap_or_default();
    if step.exec.is_some() {
        // The other end often knows better why a program failed.
        let detail = std::mem::take(&mut report.detail);
        report.detail = iter::once(detail).chain(world.far().said()).collect::<Vec<_>>().join("\n");
    }
    let output = Output { stdout: exec.stdout, stderr: exec.stderr };
    Ok(Fired { path: path.to_owned(), agent, report, expected, output, started })
}

/// What a step must end with where the case says nothing.
const fn default_outcome(step: &Step) -> &'static str {
    if step.exec.is_some() { "exit 0" } else { "ok" }
}

/// How long a step may take.
fn limit(step: &Step) -> Duration {
    let connect = step.connect.as_ref().map(|connect| {
        connect.timeout.unwrap_or(Duration::from_secs(5)).saturating_mul(4)
            + connect.pause.unwrap_or_default()
    });
    let send = step.send.as_ref().map(|send| send.pause.unwrap_or_default().saturating_mul(send.count));
    let exec = step.exec.as_ref().map(|exec| exec.timeout.unwrap_or(Duration::from_secs(30)));
    GRACE + connect.or(send).or(exec).unwrap_or_default()
}
