//! Waiting for the end of a cell's event stream, by conditions: flows ended, then a sentinel through
//! the whole chain. The chain keeps order, so what is not in the store before the sentinel never will be.

use std::{
    collections::HashSet,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{FireError, SENTINEL};
use crate::{
    actor::Action,
    judge::{AgentEvidence, attribute},
    lab::Lab,
    scenario::{fields::EGRESS_STREAM, types::Send},
    world::World,
};

/// How long flows of ended processes may take to end: retransmission of what was cut off.
const FLOWS_LIMIT: Duration = Duration::from_secs(6);
/// How long a sentinel may take.
const SENTINEL_LIMIT: Duration = Duration::from_secs(10);
/// Between looks at the ledger.
const LOOK: Duration = Duration::from_millis(3);

/// What a settled cell has in the store.
pub(super) struct Settled {
    pub documents: Vec<Value>,
    pub sentinels: Vec<Value>,
}

/// Sweeps until no flow is open, then sends a sentinel as each agent.
pub(super) fn settle(lab: &Lab, world: &World, agents: &[AgentEvidence]) -> Result<Settled, FireError> {
    let mut sentinels = Vec::new();
    for (index, agent) in agents.iter().enumerate() {
        end_flows(lab, agent.cgroup_id)?;
        sentinels.push(sentinel(lab, world, index, agent)?);
    }
    let of_ours = |document: &Value| {
        let cgroup_id = attribute(document, "cgroup_id").as_u64();
        agents.iter().any(|agent| Some(agent.cgroup_id) == cgroup_id) && !is_sentinel(document)
    };
    let mut documents = lab.endpoint.documents(EGRESS_STREAM, of_ours);
    // Delivery is at least once, so what is counted is distinct events.
    let mut seen = HashSet::new();
    documents.retain(|document| match attribute(document, "event_id").as_str() {
        Some(id) => seen.insert(id.to_owned()),
        None => true,
    });
    Ok(Settled { documents, sentinels })
}

fn end_flows(lab: &Lab, cgroup_id: u64) -> Result<(), FireError> {
    let deadline = Instant::now() + FLOWS_LIMIT;
    loop {
        lab.manager.sweep(Some(cgroup_id))?;
        let ledger = lab.manager.ledger(cgroup_id)?;
        if ledger.opened == ledger.closed || Instant::now() >= deadline {
            return Ok(());
        }
        // A connection's end is in the kernel's hands, and nothing tells of it but the ledger.
        thread::sleep(LOOK);
    }
}

fn is_sentinel(document: &Value) -> bool {
    attribute(document, "dst_ip").as_str().is_some_and(|ip| ip.parse() == Ok(SENTINEL))
}

fn sentinel(lab: &Lab, world: &World, index: usize, agent: &AgentEvidence) -> Result<Value, FireError> {
    let action = Action::Send(Send { bytes: 1, ..Send::to(format!("{SENTINEL}:9")) });
    let failed = |problem: String| FireError::Actor { path: "the sentinel".to_owned(), problem };
    // Denied, or passed under bypass: both make a record at once.
    world
        .spawn_actor(index, &action)
        .map_err(|error| failed(error.to_string()))?
        .wait(SENTINEL_LIMIT)
        .map_err(|error| failed(error.to_string()))?;
    end_flows(lab, agent.cgroup_id)?;
    let is_mine = |document: &Value| {
        is_sentinel(document) && attribute(document, "cgroup_id").as_u64() == Some(agent.cgroup_id)
    };
    lab.endpoint.wait_for(EGRESS_STREAM, is_mine, Instant::now() + SENTINEL_LIMIT).ok_or_else(|| {
        FireError::Sentinel {
            agent: agent.agent.clone(),
            limit: SENTINEL_LIMIT,
            why: lab.explain(agent.cgroup_id),
        }
    })
}
