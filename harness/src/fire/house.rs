//! Agents in containers of their own, behind the start gate.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use stack::Container;

use super::{FireError, act::uninterrupted, cell::Case};
use crate::{
    actor::confine::NOBODY,
    docker::{Docker, Network, Order},
    plane::Plane,
    scenario::types::Agent,
    world::House,
};

/// The gate's place in a container.
const GATE: &str = "/clawker-gate";
/// Where it looks for its sign.
const READY: &str = "/run/clawker/ready";
/// What the agent's container is, once it is let go.
const PROGRAM: [&str; 2] = ["sleep", "infinity"];
/// How long the gate may take to see its sign.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// Starts a container for each agent of a case. The gate holds each until it is enrolled.
pub(super) fn houses(case: Case<'_, '_>, plane: &Plane) -> Result<Vec<House>, FireError> {
    let ready = case.lab.manager.ready_folder()?;
    let mut houses = Vec::with_capacity(case.agents.len());
    for agent in case.agents {
        let mut order = Order::new(format!("agent {:?}", agent.agent), "agent", Network::None)
            .sees(plane.gate(), GATE)
            .sees(&ready, READY)
            .told(["--ready", READY, "--timeout", "60", "--"])
            .told(PROGRAM);
        order.entrypoint = Some(GATE.to_owned());
        order.labels = vec![
            (Container::AGENT_LABEL.to_owned(), agent.agent.clone()),
            (Container::PROJECT_LABEL.to_owned(), agent.project.clone()),
        ];
        order.user = Some(agent.uid.unwrap_or(NOBODY).to_string());
        // As the world has it where it makes the room itself.
        order.less = vec!["NET_RAW".to_owned()];
        order.more = capabilities(agent);
        let container = plane.docker().start(order)?;
        houses.push(House {
            pid: container.pid(),
            id: container.id().to_owned(),
            keeper: Box::new(container),
        });
    }
    Ok(houses)
}

/// The far side's network namespace, where servers can be started: that of a container, which also reaches the collector.
pub(super) fn far_side(plane: &Plane) -> Result<House, FireError> {
    let order =
        Order::new("the far side", "agent", Network::Named(Docker::network())).told(["sleep", "infinity"]);
    let container = plane.docker().start(order)?;
    Ok(House { pid: container.pid(), id: container.id().to_owned(), keeper: Box::new(container) })
}

/// Waits until the gate of a container has let its agent go.
pub(super) fn opens(agent: &str, pid: u32) -> Result<(), FireError> {
    let deadline = Instant::now() + OPEN_LIMIT;
    loop {
        uninterrupted()?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if name.trim_end() == PROGRAM[0] {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(FireError::Gate { agent: agent.to_owned(), name: name.trim_end().to_owned() });
        }
        thread::sleep(LOOK);
    }
}

/// As Docker writes them: without their prefix.
fn capabilities(agent: &Agent) -> Vec<String> {
    let written = agent.caps.iter().map(|name| name.to_ascii_uppercase());
    written.map(|name| name.trim_start_matches("CAP_").to_owned()).collect()
}
