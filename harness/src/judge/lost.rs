//! What servers of the case lost in their own memory, as an operator's `stack lost` counts it.

use std::convert::Infallible;

use serde_json::Value;
use stack::{
    Listeners,
    lost::{Document, EXACT, Emitter, Flow, Tally, Window, compare},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::evidence::{Evidence, text};
use crate::{
    event::{Class, Failure},
    scenario::types::{LostCount, LostExpectation},
};

/// Of each server that the case says it of, as many as it says; and of whatever the server told, the flow is there.
pub fn judge(evidence: &Evidence<'_>) -> Vec<Failure> {
    let expected = evidence.cell.scenario.expect.lost;
    let expected = expected.iter().flat_map(LostExpectation::each);
    expected.filter_map(|(emitter, count)| of(evidence, emitter, count)).collect()
}

fn of(evidence: &Evidence<'_>, emitter: Emitter, expected: LostCount) -> Option<Failure> {
    let path = "expect.lost";
    let tally = match tally(evidence, emitter) {
        Ok(tally) => tally,
        Err(problem) => return Some(evidence.failure(Class::MisRecord, path, problem, String::new())),
    };
    let whose = emitter.called();
    if !expected.takes(tally.lost) {
        let found = tally.lost;
        let message =
            format!("{path}: {expected} flow(s) expected that {whose} told nothing of, {found} found");
        return Some(evidence.failure(Class::Expectation, path, message, format!("{tally:?}")));
    }
    if expected.takes(0) && tally.untold > 0 {
        let message = format!("{} question(s) that {whose} told nothing of", tally.untold);
        return Some(evidence.failure(Class::Lost, path, message, format!("{tally:?}")));
    }
    (tally.strange > 0).then(|| {
        let message = format!("{} document(s) of {whose}, whose flow is nowhere", tally.strange);
        evidence.failure(Class::Lost, path, message, format!("{tally:?}"))
    })
}

fn tally(evidence: &Evidence<'_>, emitter: Emitter) -> Result<Tally, String> {
    let whose = emitter.called();
    let handed = evidence.documents.iter().filter(|document| emitter.was_handed(&document["attributes"]));
    let mut flows = Vec::new();
    for document in handed {
        let flow = Flow::read(emitter, &document["attributes"], time(document)?, &Listeners::default());
        flows.push(flow.map_err(|name| format!("a flow to {whose} has no {name}"))?);
    }
    let mut documents = Vec::new();
    let told = evidence.of_stream(&emitter.lane().stream()).iter();
    // What an agent sends of itself to the proxy is no flow that was handed to it.
    for document in told.filter(|document| text(document, "reason") != "telemetry") {
        let read = Document::read(emitter, &document["attributes"], time(document)?);
        documents.push(read.map_err(|name| format!("a document of {whose} has no {name}"))?);
    }
    flows.sort_by_key(|flow| (flow.key, flow.end));
    documents.sort_by_key(|document| (document.key, document.begin));
    // The case is over: nothing is too young.
    let window = Window { from: i64::MIN, until: i64::MAX, before: EXACT, after: EXACT };
    let (flows, documents) = (flows.into_iter().map(Ok), documents.into_iter().map(Ok));
    let Ok(lost) = compare::<Infallible>(flows, documents, &window);
    let mut sum = Tally::default();
    for agent in evidence.agents.iter().filter(|agent| agent.is_live) {
        sum.add(&lost.of_agent(&agent.agent));
    }
    Ok(sum)
}

/// Of a document, milliseconds since 1970.
fn time(document: &Value) -> Result<i64, String> {
    let written = document["@timestamp"].as_str().unwrap_or_default();
    let time = OffsetDateTime::parse(written, &Rfc3339)
        .map_err(|error| format!("@timestamp {written:?}: {error}"))?;
    Ok(i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX))
}
