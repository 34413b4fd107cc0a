//! What the proxy lost in its own memory, as an operator's `stack lost` counts it.

use std::convert::Infallible;

use serde_json::Value;
use stack::{
    Listeners,
    lost::{Document, Emitter, Flow, Tally, Window, compare},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::evidence::{Evidence, text};
use crate::event::{Class, Failure};

/// How exactly the kernel's time and the proxy's agree, milliseconds, as in the operator's report.
const EXACT: i64 = 1000;

/// As many as the case says; and of whatever the proxy told, the flow is there.
pub fn judge(evidence: &Evidence<'_>) -> Option<Failure> {
    let expected = evidence.cell.scenario.expect.lost?;
    let tally = match tally(evidence) {
        Ok(tally) => tally,
        Err(problem) => {
            return Some(evidence.failure(Class::MisRecord, "expect.lost", problem, String::new()));
        }
    };
    if !expected.envoy.takes(tally.lost) {
        let message = format!(
            "expect.lost: {} flow(s) expected that the proxy told nothing of, {} found",
            expected.envoy, tally.lost
        );
        return Some(evidence.failure(Class::Expectation, "expect.lost", message, format!("{tally:?}")));
    }
    (tally.strange > 0).then(|| {
        let message = format!("{} document(s) of the proxy, whose flow is nowhere", tally.strange);
        evidence.failure(Class::Lost, "expect.lost", message, format!("{tally:?}"))
    })
}

fn tally(evidence: &Evidence<'_>) -> Result<Tally, String> {
    let emitter = Emitter::Proxy;
    let handed = evidence.documents.iter().filter(|document| text(document, "reason") == emitter.reason());
    let mut flows = Vec::new();
    for document in handed {
        let flow = Flow::read(emitter, &document["attributes"], time(document)?, &Listeners::default());
        flows.push(flow.map_err(|name| format!("a flow to the proxy has no {name}"))?);
    }
    let mut documents = Vec::new();
    let told = evidence.of_stream(&emitter.lane().stream()).iter();
    // What an agent sends of itself to the proxy is no flow that was handed to it.
    for document in told.filter(|document| text(document, "reason") != "telemetry") {
        let read = Document::read(emitter, &document["attributes"], time(document)?);
        documents.push(read.map_err(|name| format!("a document of the proxy has no {name}"))?);
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
