//! Waiting for the end of a cell's event stream, by conditions: flows ended and folds documented, then a sentinel
//! through the whole chain. The ring keeps order, so what the reader does not have before the sentinel it never will;
//! and once it holds nothing any more, what is not in the store is nowhere else.

use std::{
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    FireError, SENTINEL,
    act::uninterrupted,
    cell::{Case, risen},
    streams::{STREAM_LIMIT, once},
};
use crate::{
    actor::Action,
    judge::{AgentEvidence, attribute},
    lab::Lab,
    scenario::{fields::EGRESS_STREAM, types::Send},
    world::World,
};

/// How long flows of ended processes may take to end: retransmission of what was cut off.
const FLOWS_LIMIT: Duration = Duration::from_secs(6);
/// How long a sentinel, and the end of the queue, may take in the lab, from the last sign that anything is on its way.
const SENTINEL_LIMIT: Duration = Duration::from_secs(10);
/// After this long, another one is sent. The chain keeps order, so it ends the stream as well; that the
/// first one was lost is for the ledger to tell, which counts both.
const SENTINEL_PATIENCE: Duration = Duration::from_millis(1500);
/// How long nothing may arrive, of what is still to arrive, before it is taken for lost: the reader asks for counts
/// and tells of losses several times a second.
const STILL: Duration = Duration::from_secs(3);
/// Between looks at the reader's queue: each asks a page of it.
const PAGE: Duration = Duration::from_millis(20);
/// Between looks at the ledger.
const LOOK: Duration = Duration::from_millis(3);

/// What a settled cell has in the store.
pub(super) struct Settled {
    pub documents: Vec<Value>,
    pub sentinels: Vec<Value>,
    pub losses: Vec<Value>,
}

/// Sweeps until no flow is open and no fold without a document, then sends a sentinel as each agent, and counts
/// it. Of a container that is no more, all came before the sentinel of the one that took its place.
pub(super) fn settle(
    case: Case<'_, '_>,
    world: &World,
    agents: &mut [AgentEvidence],
) -> Result<Settled, FireError> {
    let lab = case.lab;
    let mut limit = Limit::new(lab, case.cell.scenario.disturbs());
    for agent in agents.iter() {
        end_flows(lab, agent.cgroup_id)?;
    }
    for agent in agents.iter_mut().filter(|agent| agent.is_live) {
        sentinel(lab, world, &mut limit, agent)?;
    }
    let alone = case.cell.scenario.disturbs();
    // Of one sentinel in a ring that has room, nothing is behind it.
    if alone || handed_over(lab, agents)?.folded > 0 || agents.iter().any(|agent| agent.sentinels > 1) {
        all_told(lab, &mut limit, agents, alone)?;
    }
    let documents = documents(lab, agents, alone);
    let (losses, documents): (Vec<_>, Vec<_>) = documents.into_iter().partition(is_loss);
    let (sentinels, documents) = documents.into_iter().partition(is_sentinel);
    Ok(Settled { documents, sentinels, losses })
}

/// Sweeps until no flow of a container is open.
pub(super) fn end_flows(lab: &Lab, cgroup_id: u64) -> Result<(), FireError> {
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

/// Until when something is waited for. Where the chain is disturbed, on purpose, that is put off for as long as
/// a part is away, and as the reader's queue moves; in a lab that others share, they would move it.
struct Limit {
    alone: bool,
    length: Duration,
    /// What has left the reader.
    left: Option<u64>,
    began: Instant,
    end: Instant,
}

impl Limit {
    fn new(lab: &Lab, alone: bool) -> Self {
        let (began, length) =
            (Instant::now(), if lab.plane().is_some() { STREAM_LIMIT } else { SENTINEL_LIMIT });
        Self { alone, length, left: None, began, end: began + length }
    }

    /// Begins to wait for something else.
    fn restart(&mut self) {
        self.began = Instant::now();
        self.end = self.began + self.length;
    }

    /// Whether it has come, or nothing can come any more.
    fn is_over(&mut self, lab: &Lab) -> bool {
        if self.alone {
            // A queue that is empty does not move: what passes it by is the sentinels.
            let queue = lab.reader_counters().filter(|reader| reader.queued > 0);
            let left = queue.map(|reader| reader.exported + reader.losses.values().sum::<u64>());
            if left.is_some() && left != self.left || lab.is_disturbed() {
                self.end = Instant::now() + self.length;
            }
            self.left = left;
        }
        Instant::now() >= self.end || lab.reader_has_ended()
    }

    fn exceeded(&self, lab: &Lab, agent: &AgentEvidence) -> FireError {
        FireError::Sentinel {
            agent: agent.agent.clone(),
            waited: self.began.elapsed(),
            why: lab.explain(agent.cgroup_id),
        }
    }
}

/// Sends sentinels until one is in the store.
fn sentinel(lab: &Lab, world: &World, limit: &mut Limit, agent: &mut AgentEvidence) -> Result<(), FireError> {
    let action = Action::Send(Send { bytes: 1, ..Send::to(format!("{SENTINEL}:9")) });
    let failed = |problem: String| FireError::Actor { path: "the sentinel".to_owned(), problem };
    let cgroup_id = agent.cgroup_id;
    // By its transport it is told from the connection that ended another stream.
    let is_mine = |document: &Value| {
        is_sentinel(document)
            && attribute(document, "cgroup_id").as_u64() == Some(cgroup_id)
            && attribute(document, "l4_proto") == "udp"
    };
    limit.restart();
    while !limit.is_over(lab) {
        // Denied, or passed under bypass: both make a record at once.
        world
            .spawn_actor(agent.room, &action)
            .map_err(|error| failed(error.to_string()))?
            .wait(SENTINEL_LIMIT)
            .map_err(|error| failed(error.to_string()))?;
        agent.sentinels += 1;
        end_flows(lab, cgroup_id)?;
        let patience = Instant::now() + SENTINEL_PATIENCE;
        if lab.endpoint.wait_for(EGRESS_STREAM, is_mine, patience).is_some() {
            return Ok(());
        }
    }
    Err(limit.exceeded(lab, agent))
}

/// Waits until all that the kernel handed over is documented, as what it was or as a loss, and in a lab of its own
/// the reader is at rest. What is missing when nothing moves any more is for the ledger to tell.
fn all_told(lab: &Lab, limit: &mut Limit, agents: &[AgentEvidence], alone: bool) -> Result<(), FireError> {
    limit.restart();
    // Behind the servers of the plane, what is on its way is not to be seen.
    let patience = if lab.plane().is_some() { STREAM_LIMIT } else { STILL };
    let (mut told, mut still) = (0, Instant::now() + patience);
    loop {
        uninterrupted()?;
        let reader = lab.reader_counters();
        if !alone || reader.as_ref().is_some_and(|reader| reader.queued == 0) {
            let documents = documents(lab, agents, alone);
            let now: u64 = documents.iter().map(weight).sum();
            let lost: u64 = documents.iter().filter(|document| is_loss(document)).map(weight).sum();
            let counted = reader.filter(|_| alone).map_or(lost, |reader| reader.losses.values().sum());
            let Handed { submitted, folded } = handed_over(lab, agents)?;
            if now >= submitted + folded && lost == counted {
                return Ok(());
            }
            if now != told || lab.is_disturbed() {
                (told, still) = (now, Instant::now() + patience);
            }
            if Instant::now() >= still {
                return Ok(());
            }
        } else if limit.is_over(lab)
            && let Some(agent) = agents.first()
        {
            return Err(limit.exceeded(lab, agent));
        }
        thread::sleep(PAGE);
    }
}

/// What the kernel handed over, of these containers together.
struct Handed {
    submitted: u64,
    folded: u64,
}

fn handed_over(lab: &Lab, agents: &[AgentEvidence]) -> Result<Handed, FireError> {
    let mut handed = Handed { submitted: 0, folded: 0 };
    for agent in agents {
        let ledger = risen(&agent.ledger, &lab.manager.ledger(agent.cgroup_id)?);
        handed.submitted += ledger.submitted;
        handed.folded += ledger.folded;
    }
    Ok(handed)
}

/// Every event of these containers once. In a lab of its own, what was lost of a container that nobody knows is
/// this cell's too.
fn documents(lab: &Lab, agents: &[AgentEvidence], alone: bool) -> Vec<Value> {
    let of_ours = |document: &Value| {
        let cgroup_id = attribute(document, "cgroup_id").as_u64();
        agents.iter().any(|agent| Some(agent.cgroup_id) == cgroup_id)
    };
    let wanted = |document: &Value| of_ours(document) || alone && is_loss(document);
    let mut documents = lab.endpoint.documents(EGRESS_STREAM, wanted);
    once(&mut documents);
    documents
}

fn is_loss(document: &Value) -> bool {
    attribute(document, "record_type") == "loss"
}

/// Attempts that a document stands for.
fn weight(document: &Value) -> u64 {
    attribute(document, "event_count").as_u64().unwrap_or(0)
}
