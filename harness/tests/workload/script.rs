//! From a workload to its steps, each with the outcome that the naive model foresees.

use std::collections::BTreeMap;

use abi::Verdict;
use harness::{
    model::{self, Model, Surroundings},
    scenario::types::Rule,
};
use serde_json::{Value, json};

use super::{
    Attempt, Block, Workload,
    attempt::To,
    scenario::{self, NAME},
};

/// What an agent has at a moment.
#[derive(Clone)]
struct Standing {
    rules: Vec<Rule>,
    bypass: bool,
    /// Whether it has looked the name up, for IPv4 and for IPv6: then the name permits that address.
    knows: [bool; 2],
}

/// What the agents do, and what that must lead to.
pub struct Script {
    /// The steps of the scenario.
    pub steps: Vec<Value>,
    /// Whether anything may arrive, by `address:port` and transport.
    pub wire: BTreeMap<(String, &'static str), bool>,
    /// Flows that are let through, by agent and verdict.
    pub flows: BTreeMap<(usize, &'static str), u64>,
}

impl Script {
    /// Goes through the workload.
    pub fn of(workload: &Workload) -> Self {
        let fresh = Standing { rules: scenario::rules(&workload.rules), bypass: false, knows: [false; 2] };
        let mut agents = vec![fresh.clone(); workload.agents];
        let mut script = Self { steps: Vec::new(), wire: BTreeMap::new(), flows: BTreeMap::new() };
        for block in &workload.blocks {
            match block {
                Block::Acts(attempts) => script.one_by_one(&mut agents, attempts),
                Block::Together(attempts, disturbance) => {
                    let mut steps: Vec<Value> =
                        attempts.iter().map(|attempt| script.step(&mut agents, attempt)).collect();
                    steps.extend(disturbance.map(disturbed));
                    script.steps.push(json!({"together": steps}));
                }
                Block::Answered(answer, attempts) => {
                    script.steps.push(json!({"endpoint": answer}));
                    script.one_by_one(&mut agents, attempts);
                    script.steps.push(json!({"endpoint": "accept"}));
                }
                Block::Disturbed(disturbance) => script.steps.push(disturbed(disturbance)),
                Block::Bypass(agent, on) => {
                    let agent = agent % workload.agents;
                    agents[agent].bypass = *on;
                    let switch = if *on { json!({"on": "60s"}) } else { json!("off") };
                    script.steps.push(json!({"bypass": switch, "by": scenario::label(agent)}));
                }
                Block::Rules(agent, rules) => {
                    let agent = agent % workload.agents;
                    agents[agent].rules = scenario::rules(rules);
                    let rules: Vec<Value> = rules.iter().map(|rule| scenario::rule(*rule)).collect();
                    script.steps.push(json!({"rules": rules, "by": scenario::label(agent)}));
                }
                Block::Recreated(agent) => {
                    let agent = agent % workload.agents;
                    agents[agent] = fresh.clone();
                    script.steps.push(json!({"recreate": "container", "by": scenario::label(agent)}));
                }
            }
        }
        script
    }

    fn one_by_one(&mut self, agents: &mut [Standing], attempts: &[Attempt]) {
        for attempt in attempts {
            let step = self.step(agents, attempt);
            self.steps.push(step);
        }
    }

    fn step(&mut self, agents: &mut [Standing], attempt: &Attempt) -> Value {
        let number = attempt.agent % agents.len();
        let standing = &mut agents[number];
        let mut step = attempt.step();
        step["by"] = scenario::label(number).into();
        if let To::Name(v6) = attempt.to {
            let ruled = standing.rules.iter().any(|rule| rule.dst == NAME);
            if !ruled && !standing.bypass {
                step["outcome"] = "NXDOMAIN".into();
                return step;
            }
            standing.knows[usize::from(v6)] = true;
        }
        let (address, (first, last)) = (attempt.address(), attempt.ports());
        let leads = scenario::NAMED.contains(&address) && standing.knows[usize::from(address.is_ipv6())];
        let judgement = Model::new(&standing.rules, &Surroundings::default()).judge(&model::Attempt {
            dst: address,
            port: first,
            l4_proto: attempt.l4_proto(),
            names: leads.then(|| NAME.to_owned()).into_iter().collect(),
            bypass: standing.bypass,
        });
        let permitted = judgement.verdict != Verdict::Denied;
        step["outcome"] = if permitted { attempt.permitted_outcome() } else { "EPERM" }.into();
        let l4_proto = if attempt.l4_proto() == model::Proto::Tcp { "tcp" } else { "udp" };
        // What arrives between them is the model's to judge.
        for port in [first, last] {
            let to = std::net::SocketAddr::new(address, port).to_string();
            *self.wire.entry((to, l4_proto)).or_default() |= permitted;
        }
        if permitted {
            *self.flows.entry((number, judgement.verdict.as_str())).or_default() += attempt.flows();
        }
        step
    }
}

/// `action: value`, as a step.
fn disturbed(text: &str) -> Value {
    let (action, value) = text.split_once(": ").unwrap_or((text, ""));
    json!({action: value})
}
