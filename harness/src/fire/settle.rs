//! Waiting for the end of a cell's event stream, by conditions: flows ended and folds documented, then a sentinel
//! through the whole chain. The lab's chain keeps order, so what is not in the store before the sentinel never will be.

use std::{
    collections::HashSet,
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{FireError, SENTINEL, act::uninterrupted};
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
/// After this long, another one is sent. The chain keeps order, so it ends the stream as well; that the
/// first one was lost is for the ledger to tell, which counts both.
const SENTINEL_PATIENCE: Duration = Duration::from_millis(1500);
/// Between looks at the ledger.
const LOOK: Duration = Duration::from_millis(3);

/// What a settled cell has in the store.
pub(super) struct Settled {
    pub documents: Vec<Value>,
    pub sentinels: Vec<Value>,
}

/// Sweeps until no flow is open and no fold without a document, then sends a sentinel as each agent, and counts it.
pub(super) fn settle(lab: &Lab, world: &World, agents: &mut [AgentEvidence]) -> Result<Settled, FireError> {
    for (index, agent) in agents.iter_mut().enumerate() {
        end_flows(lab, agent.cgroup_id)?;
        sentinel(lab, world, index, agent)?;
    }
    let of_ours = |document: &Value| {
        let cgroup_id = attribute(document, "cgroup_id").as_u64();
        agents.iter().any(|agent| Some(agent.cgroup_id) == cgroup_id)
    };
    let mut documents = lab.endpoint.documents(EGRESS_STREAM, of_ours);
    // Delivery is at least once, so what is counted is distinct events.
    let mut seen = HashSet::new();
    documents.retain(|document| match attribute(document, "event_id").as_str() {
        Some(id) => seen.insert(id.to_owned()),
        None => true,
    });
    let (sentinels, documents) = documents.into_iter().partition(is_sentinel);
    Ok(Settled { documents, sentinels })
}

fn end_flows(lab: &Lab, cgroup_id: u64) -> Result<(), FireError> {
    let deadline = Instant::now() + FLOWS_LIMIT;
    loop {
        uninterrupted()?;
        lab.manager.sweep(Some(cgroup_id))?;
        let ledger = lab.manager.ledger(cgroup_id)?;
        let ended = ledger.opened == ledger.closed && lab.manager.undocumented(cgroup_id)? == 0;
        if ended || Instant::now() >= deadline {
            return Ok(());
        }
        // A connection's end is in the kernel's hands, a fold's document in the reader's, and nothing tells of them
        // but the ledger.
        thread::sleep(LOOK);
    }
}

fn is_sentinel(document: &Value) -> bool {
    let ip = attribute(document, "dst_ip").as_str().and_then(|ip| ip.parse::<IpAddr>().ok());
    // However it is written, which is for the judge to tell.
    ip.is_some_and(|ip| ip.to_canonical() == SENTINEL)
}

fn sentinel(lab: &Lab, world: &World, index: usize, agent: &mut AgentEvidence) -> Result<(), FireError> {
    let action = Action::Send(Send { bytes: 1, ..Send::to(format!("{SENTINEL}:9")) });
    let failed = |problem: String| FireError::Actor { path: "the sentinel".to_owned(), problem };
    let cgroup_id = agent.cgroup_id;
    let is_mine = |document: &Value| {
        is_sentinel(document) && attribute(document, "cgroup_id").as_u64() == Some(cgroup_id)
    };
    let began = Instant::now();
    let deadline = began + SENTINEL_LIMIT;
    while Instant::now() < deadline {
        // Denied, or passed under bypass: both make a record at once.
        world
            .spawn_actor(index, &action)
            .map_err(|error| failed(error.to_string()))?
            .wait(SENTINEL_LIMIT)
            .map_err(|error| failed(error.to_string()))?;
        agent.sentinels += 1;
        end_flows(lab, cgroup_id)?;
        let patience = deadline.min(Instant::now() + SENTINEL_PATIENCE);
        if lab.endpoint.wait_for(EGRESS_STREAM, is_mine, patience).is_some() {
            return Ok(());
        }
        if lab.reader_has_ended() {
            break;
        }
    }
    Err(FireError::Sentinel {
        agent: agent.agent.clone(),
        waited: began.elapsed(),
        why: lab.explain(cgroup_id),
    })
}
