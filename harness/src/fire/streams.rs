//! Waiting for the end of the other streams: of what servers beside the chain and our own programs tell.

use std::{
    collections::{BTreeMap, HashSet},
    thread,
    time::{Duration, Instant},
};

use emitter::{Event, Owner, What};
use serde_json::{Value, json};
use stack::Lane;

use super::{FireError, SENTINEL, act::uninterrupted, cell::Case};
use crate::{
    actor::{Action, Report},
    judge::{AgentEvidence, attribute},
    lab::Lab,
    plane::Plane,
    scenario::{fields::OVERSEER_STREAM, types::Connect},
    world::World,
};

/// How long a server of the telemetry plane may take to tell what it saw, from there to the store, from the last time that a
/// part of it was away.
pub(super) const STREAM_LIMIT: Duration = Duration::from_secs(30);
/// Between looks at whether a part of it is away.
const LOOK_LIMIT: Duration = Duration::from_millis(500);

/// Longer than Envoy waits until it sends again what nobody took.
const STILL: Duration = Duration::from_secs(3);
/// Between looks at the relay: each asks a page of it.
const PAGE: Duration = Duration::from_millis(100);
/// How long a connection to nowhere may take.
const SENTINEL_LIMIT: Duration = Duration::from_secs(10);
/// Between looks at whether what was stopped is back.
const LOOK: Duration = Duration::from_millis(3);

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
    let Some(plane) = case.lab.plane().filter(|_| case.cell.scenario.stops_plane()) else {
        return Ok(documents);
    };
    let mut still = Instant::now() + STILL;
    while Instant::now() < still {
        uninterrupted()?;
        thread::sleep(PAGE);
        let waits = plane.waits_in_relay().map_err(|error| FireError::Relay(error.to_string()))?;
        let now = found();
        if waits || now.len() != documents.len() {
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

/// Delivery is at least once, so what is counted is distinct events.
pub(super) fn once(documents: &mut Vec<Value>) {
    let mut seen = HashSet::new();
    documents.retain(|document| match attribute(document, "event_id").as_str() {
        Some(id) => seen.insert(id.to_owned()),
        None => true,
    });
}
