//! Waiting for the end of a cell's event stream, by conditions: flows ended and folds documented, then a sentinel
//! through the whole chain. The ring keeps order, so what the reader does not have before the sentinel it never will;
//! and once it holds nothing any more, what is not in the store is nowhere else.

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use emitter::{Event, Owner, What};
use serde_json::{Value, json};
use stack::Lane;

use super::{
    FireError, SENTINEL,
    act::uninterrupted,
    cell::{Case, risen},
};
use crate::{
    actor::{Action, Report},
    judge::{AgentEvidence, attribute},
    lab::Lab,
    plane::Plane,
    scenario::{
        fields::{EGRESS_STREAM, OVERSEER_STREAM},
        types::{Connect, Send},
    },
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
/// How long a server of the telemetry plane may take to tell what it saw, from there to the store, from the last time that a
/// part of it was away.
pub(super) const STREAM_LIMIT: Duration = Duration::from_secs(30);
/// Between looks at whether a part of it is away.
const LOOK_LIMIT: Duration = Duration::from_millis(500);
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

/// The documents of the case's containers in the other streams, all that were written up to now: after a connection to
/// nowhere, whose own is the last. None where the case has no servers that write.
pub(super) fn streams(
    case: Case<'_, '_>,
    world: &World,
    agents: &mut [AgentEvidence],
) -> Result<BTreeMap<String, Vec<Value>>, FireError> {
    let mut streams: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let Some(plane) = case.lab.plane() else { return Ok(streams) };
    undisturbed(case.lab)?;
    if case.cell.scenario.expects(OVERSEER_STREAM) {
        streams.insert(OVERSEER_STREAM.to_owned(), told(case, plane, agents)?);
    }
    if !case.cell.scenario.has_envoy() {
        return Ok(streams);
    }
    let stream = Lane::Envoy.stream();
    let connect: Connect =
        serde_json::from_value(json!({"to": format!("{SENTINEL}:9"), "send": 1, "receive": 1}))?;
    let action = Action::Connect(connect);
    let failed = |problem: String| FireError::Actor { path: "the sentinel".to_owned(), problem };
    for agent in agents.iter_mut().filter(|agent| agent.is_live) {
        let report: Report = world
            .spawn_actor(agent.room, &action)
            .map_err(|error| failed(error.to_string()))?
            .wait(SENTINEL_LIMIT)
            .map_err(|error| failed(error.to_string()))?;
        agent.sentinels += 1;
        let port = report.src.map(|src| u64::from(src.port()));
        let is_ours = |document: &Value| attribute(document, "container_id") == agent.container_id.as_str();
        let is_last =
            |document: &Value| is_ours(document) && attribute(document, "src_port").as_u64() == port;
        if !arrives(case.lab, &stream, is_last)? {
            return Err(FireError::Stream {
                stream,
                agent: agent.agent.clone(),
                why: format!("its call: {report:?}\n{}", plane.explain()),
            });
        }
        let documents = arrived(case, &stream, |document: &Value| is_ours(document) && !is_last(document))?;
        streams.entry(stream.clone()).or_default().extend(documents);
    }
    for agent in agents.iter().filter(|agent| !agent.is_live) {
        // All came before the last of the one that took its place.
        let is_ours = |document: &Value| attribute(document, "container_id") == agent.container_id.as_str();
        streams.entry(stream.clone()).or_default().extend(arrived(case, &stream, is_ours)?);
    }
    Ok(streams)
}

/// Waits until every part that was stopped is back.
pub(super) fn undisturbed(lab: &Lab) -> Result<(), FireError> {
    while lab.is_disturbed() {
        uninterrupted()?;
        thread::sleep(LOOK);
    }
    lab.plane().map_or(Ok(()), Plane::is_whole).map_err(FireError::Disturbance)
}

/// Waits until such a document is in `stream`, for [`STREAM_LIMIT`] from the last time that a part was away.
pub(super) fn arrives(lab: &Lab, stream: &str, is_meant: impl Fn(&Value) -> bool) -> Result<bool, FireError> {
    let mut end = Instant::now() + STREAM_LIMIT;
    while lab.endpoint.wait_for(stream, &is_meant, Instant::now() + LOOK_LIMIT).is_none() {
        uninterrupted()?;
        if lab.is_disturbed() {
            end = Instant::now() + STREAM_LIMIT;
        } else if Instant::now() >= end {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The documents of `stream` that are wanted, each once, after the last of them came.
pub(super) fn arrived(
    case: Case<'_, '_>,
    stream: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Result<Vec<Value>, FireError> {
    let found = || {
        let mut documents = case.lab.endpoint.documents(stream, &wanted);
        once(&mut documents);
        documents
    };
    let mut documents = found();
    // What was on its way while a part was away is sent again at its own time, and may come after the last.
    let mut still = Instant::now() + STILL;
    while case.cell.scenario.stops_plane() && Instant::now() < still {
        uninterrupted()?;
        thread::sleep(PAGE);
        let now = found();
        if now.len() != documents.len() {
            (documents, still) = (now, Instant::now() + STILL);
        }
    }
    Ok(documents)
}

/// Identities of the documents of these containers that are there more than once, of whatever stream.
pub(super) fn repeated(lab: &Lab, agents: &[AgentEvidence]) -> Vec<String> {
    let is_ours = |document: &Value| {
        agents.iter().any(|agent| attribute(document, "container_id") == agent.container_id.as_str())
    };
    let mut repeated = Vec::new();
    for stream in documents::ALL {
        let mut seen = HashSet::new();
        for document in lab.endpoint.documents(stream.name, is_ours) {
            let id = attribute(&document, "event_id").as_str().unwrap_or_default();
            if !id.is_empty() && !seen.insert(id.to_owned()) {
                repeated.push(format!("{}: {id}", stream.name));
            }
        }
    }
    repeated
}

/// What the manager told of the case's containers: events are sent in their order, and the last is one of the case's own.
fn told(case: Case<'_, '_>, plane: &Plane, agents: &[AgentEvidence]) -> Result<Vec<Value>, FireError> {
    let mut documents = Vec::new();
    for agent in agents {
        let mark = format!("the end of {}", agent.container_id);
        let owner = Owner { container_id: Some(agent.container_id.clone()), ..Owner::default() };
        case.lab.manager.events().record(Event::new(What::Recovered).of(owner).told(&mark));
        let is_ours = |document: &Value| attribute(document, "container_id") == agent.container_id.as_str();
        let is_last = |document: &Value| is_ours(document) && attribute(document, "detail") == mark.as_str();
        if !arrives(case.lab, OVERSEER_STREAM, is_last)? {
            return Err(FireError::Stream {
                stream: OVERSEER_STREAM.to_owned(),
                agent: agent.agent.clone(),
                why: plane.explain(),
            });
        }
        let ours = |document: &Value| is_ours(document) && !is_last(document);
        documents.extend(case.lab.endpoint.documents(OVERSEER_STREAM, ours));
    }
    once(&mut documents);
    Ok(documents)
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

/// Delivery is at least once, so what is counted is distinct events.
pub(super) fn once(documents: &mut Vec<Value>) {
    let mut seen = HashSet::new();
    documents.retain(|document| match attribute(document, "event_id").as_str() {
        Some(id) => seen.insert(id.to_owned()),
        None => true,
    });
}

fn is_loss(document: &Value) -> bool {
    attribute(document, "record_type") == "loss"
}

/// Attempts that a document stands for.
fn weight(document: &Value) -> u64 {
    attribute(document, "event_count").as_u64().unwrap_or(0)
}
