//! What became of agents' telemetry: documents, series, and texts that must be nowhere.

use std::net::SocketAddr;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use stack::{Lane, Listeners};

use super::{
    FireError,
    cell::Case,
    streams::{arrived, arrives, undisturbed},
};
use crate::{
    actor::{Action, Delivery},
    judge::{AgentEvidence, attribute},
    plane::{Plane, Series},
    scenario::types::{Telemetry, TelemetryTo},
    world::World,
};

/// What the last event of an agent is called.
const SENTINEL: &str = "sentinel";

/// What a process is told to do for a step `telemetry`; any other action as it is.
pub(super) fn delivery(
    plane: Option<&Plane>,
    world: &World,
    agent: usize,
    action: &Action,
) -> Result<Action, String> {
    let Action::Telemetry(telemetry) = action else { return Ok(action.clone()) };
    let Telemetry { via, to, .. } = telemetry;
    let to = match to {
        TelemetryTo::Proxy => {
            let [far, _] = world.agent(agent).gateways;
            Some(SocketAddr::new(far, Listeners::default().telemetry))
        }
        TelemetryTo::Collector => plane.and_then(|plane| plane.receiver(Lane::Claude)),
    };
    let to = to.ok_or("there is no collector in this tier")?;
    let request = telemetry.request().map_err(|error| error.to_string())?;
    Ok(Action::Deliver(Delivery { to, via: *via, request }))
}

/// The agents' documents of their own telling, all that were sent up to now: the last is sent past them, as the proxy does.
pub(super) fn documents(
    case: Case<'_, '_>,
    plane: &Plane,
    agents: &[AgentEvidence],
) -> Result<Vec<Value>, FireError> {
    undisturbed(case.lab)?;
    let stream = Lane::Claude.stream();
    let mut documents = Vec::new();
    for agent in agents {
        let is_ours = |document: &Value| attribute(document, "container_id") == agent.container_id.as_str();
        let is_last = |document: &Value| is_ours(document) && attribute(document, "event.name") == SENTINEL;
        let failed = |why: String| FireError::Stream {
            stream: stream.clone(),
            agent: agent.agent.clone(),
            why: format!("{why}\n{}", plane.explain()),
        };
        plane.tell_as(&agent.container_id, &sentinel()).map_err(|error| failed(format!("{error:#}")))?;
        if !arrives(case.lab, &stream, is_last)? {
            return Err(failed("it was taken, and is not in the store".to_owned()));
        }
        documents.extend(arrived(case, &stream, |document| is_ours(document) && !is_last(document))?);
    }
    Ok(documents)
}

fn sentinel() -> Value {
    let name = json!({"key": "event.name", "value": {"stringValue": SENTINEL}});
    json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"attributes": [name]}]}]}]})
}

/// The agents' series.
pub(super) fn series(plane: &Plane, agents: &[AgentEvidence]) -> Result<Vec<Series>, FireError> {
    let containers: Vec<&str> = agents.iter().map(|agent| agent.container_id.as_str()).collect();
    plane
        .series_of(&containers)
        .map_err(|error| FireError::Metrics(format!("{error:#}\n{}", plane.explain())))
}

/// Where in the store, in Prometheus, on the relay's disk, on the collectors' pages and in the servers' logs a text is, in any form
/// that it can be put in. What the case's own servers `said` is not the plane's.
pub(super) fn places(
    case: Case<'_, '_>,
    plane: &Plane,
    said: &[(String, Value)],
    text: &str,
) -> Result<Vec<String>, FireError> {
    let mut places = Vec::new();
    let forms = forms(text);
    let has = |said: &str| forms.iter().any(|form| said.contains(form));
    for stream in documents::ALL {
        let found = case.lab.endpoint.documents(stream.name, |document| anywhere(document, &has));
        places.extend(found.iter().map(|document| format!("a document of {}: {document}", stream.name)));
    }
    let series = plane.every_series().map_err(|error| FireError::Metrics(format!("{error:#}")))?;
    let series =
        series.iter().filter(|series| series.labels.iter().any(|(key, value)| has(key) || has(value)));
    places.extend(series.map(|series| format!("a series: {:?}", series.labels)));
    let beside = plane.beside_series().map_err(|error| FireError::Metrics(format!("{error:#}")))?;
    places.extend(told(&beside, &has));
    let logs = plane.logs().map_err(|error| FireError::Log(error.to_string()))?;
    places.extend(told(&logs, &has).chain(told(said, &has)));
    let files = plane.on_disk(&forms).map_err(|error| FireError::Relay(error.to_string()))?;
    places.extend(files.iter().map(|file| format!("the relay's file {}", file.display())));
    Ok(places)
}

/// The places that have it.
fn told(all: &[(String, Value)], has: &impl Fn(&str) -> bool) -> impl Iterator<Item = String> {
    all.iter().filter(|(_, told)| anywhere(told, has)).map(|(place, told)| format!("{place}: {told}"))
}

/// As it is, and as identifiers, bytes and JSON within a text are written: of the longer forms the beginning is enough. What
/// base64 makes of it depends on where among others' bytes it begins.
fn forms(text: &str) -> Vec<String> {
    let bytes: Vec<u8> = text.bytes().collect();
    let hex: String = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let base64 = bytes.windows(9).take(3).map(|window| BASE64_STANDARD.encode(window));
    [text.to_owned(), hex].into_iter().chain(base64).collect()
}

/// Whether any text in it, a name included, is so.
fn anywhere(value: &Value, has: &impl Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => has(text),
        Value::Array(values) => values.iter().any(|value| anywhere(value, has)),
        Value::Object(fields) => fields.iter().any(|(name, value)| has(name) || anywhere(value, has)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::lines;

    #[test]
    fn a_text_is_found_beside_series_and_in_logs() {
        let text = "the launch codes";
        let has = |said: &str| forms(text).iter().any(|form| said.contains(form));
        // As Prometheus answers, a page is, and a collector logs.
        let metadata = json!({"claude_code_session_count_total": [
            {"type": "counter", "help": "say the launch codes", "unit": ""},
        ]});
        let exemplars = json!([{
            "seriesLabels": {"__name__": "claude_code_session_count_total"},
            "exemplars": [{"labels": {"prompt": "the launch codes"}, "value": "1", "timestamp": 1.5}],
        }]);
        let page = "# HELP a the launch codes\n# TYPE a counter\na 1\n";
        let log = "started\n{\"error\": \"cannot parse \\\"the launch codes\\\"\"}\n";
        let mut all = vec![("metadata".to_owned(), metadata), ("exemplars".to_owned(), exemplars)];
        all.extend(lines("page", page));
        all.extend(lines("log", log));
        let found: Vec<String> = told(&all, &has).collect();
        let places = found.iter().map(|place| place.split_once(':').expect("a place").0);
        assert_eq!(places.collect::<Vec<_>>(), ["metadata", "exemplars", "page", "log"], "{found:?}");
        let others = |said: &str| said.contains("the lunch codes");
        assert_eq!(told(&all, &others).count(), 0);
    }

    #[test]
    fn a_text_is_found_in_every_form_and_place() {
        let text = "the launch codes";
        let has = |said: &str| forms(text).iter().any(|form| said.contains(form));
        for found in [
            json!({"a": [{"b": "say the launch codes now"}]}),
            json!({"the launch codes": 1}),
            json!({"traceId": "746865206c61756e636820636f646573"}),
            json!({"bytes": "dGhlIGxhdW5jaCBjb2Rlcw=="}),
            json!({"bytes": BASE64_STANDARD.encode("1the launch codes")}),
            json!({"bytes": BASE64_STANDARD.encode("12the launch codes")}),
            json!({"bytes": BASE64_STANDARD.encode("123the launch codes")}),
        ] {
            assert!(anywhere(&found, &has), "{found}");
        }
        assert!(!anywhere(&json!({"a": "the lunch codes", "b": 7}), &has));
    }
}
