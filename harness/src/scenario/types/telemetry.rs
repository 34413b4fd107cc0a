//! Telemetry that an agent sends of itself.

use std::{collections::BTreeMap, fs, path::Path};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Where fixtures are.
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/claude-code");

/// A request of OTLP, as Claude Code sends it: to Envoy, which takes it for the collector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// Name of a file in `fixtures/claude-code`, without `.json`.
    pub fixture: String,
    /// Attributes that each record or point of it has besides, or instead: texts, numbers, true and false.
    #[serde(default)]
    pub attributes: BTreeMap<String, Value>,
    /// The same of its resource.
    #[serde(default)]
    pub resource: BTreeMap<String, Value>,
    /// What is in other places of it, by JSON pointer: `{/resourceLogs/0/schemaUrl: other}`.
    #[serde(default)]
    pub with: BTreeMap<String, Value>,
    /// How it is spoken.
    #[serde(default)]
    pub via: TelemetryVia,
    /// Whom it is sent to.
    #[serde(default)]
    pub to: TelemetryTo,
}

/// How OTLP is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum TelemetryVia {
    /// JSON over HTTP/1.1.
    #[default]
    Http,
    /// Protocol buffers over HTTP/1.1.
    Protobuf,
    /// gRPC.
    Grpc,
}

/// Who is sent telemetry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum TelemetryTo {
    /// Envoy, on the far end of the agent's link.
    #[default]
    Proxy,
    /// The collector itself, which no agent reaches.
    Collector,
}

/// Why there is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTelemetry {
    /// No such file.
    #[error("there is no fixture `{0}` in fixtures/claude-code")]
    Fixture(String),
    /// A file that is no JSON.
    #[error("the fixture `{0}` cannot be read: {1}")]
    Unreadable(String, String),
    /// A pointer to nothing.
    #[error("`{0}` is no place in the fixture: neither there, nor a new name in an object that is")]
    Place(String),
}

impl Telemetry {
    /// The fixtures that there are.
    pub fn fixtures() -> Vec<String> {
        let files = fs::read_dir(FIXTURES).into_iter().flatten().flatten();
        let names = files.filter_map(|file| {
            Some(Path::new(&file.file_name()).file_name()?.to_str()?.strip_suffix(".json")?.to_owned())
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// The request, as OTLP has it in JSON.
    ///
    /// # Errors
    /// If the fixture is not there, or has not what is to be changed.
    pub fn request(&self) -> Result<Value, NoTelemetry> {
        // A name is looked for among those that are there: it leads to no other file.
        if !Self::fixtures().contains(&self.fixture) {
            return Err(NoTelemetry::Fixture(self.fixture.clone()));
        }
        let unreadable = |error: String| NoTelemetry::Unreadable(self.fixture.clone(), error);
        let text = fs::read(Path::new(FIXTURES).join(format!("{}.json", self.fixture)))
            .map_err(|error| unreadable(error.to_string()))?;
        let mut request: Value =
            serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
        each(&mut request, "resource", &|resource| set(resource, &self.resource));
        for of in ["logRecords", "dataPoints"] {
            each(&mut request, of, &|records| {
                records.as_array_mut().into_iter().flatten().for_each(|record| set(record, &self.attributes));
            });
        }
        for (place, value) in &self.with {
            *at(&mut request, place).ok_or_else(|| NoTelemetry::Place(place.clone()))? = value.clone();
        }
        Ok(request)
    }

    /// `logs` or `metrics`.
    #[must_use]
    pub fn signal(request: &Value) -> &'static str {
        if request.get("resourceMetrics").is_some() { "metrics" } else { "logs" }
    }
}

/// The place that a pointer means; of a name that an object has not, it is made.
fn at<'v>(value: &'v mut Value, pointer: &str) -> Option<&'v mut Value> {
    let (parent, name) = pointer.rsplit_once('/')?;
    let name = name.replace("~1", "/").replace("~0", "~");
    match value.pointer_mut(parent)? {
        Value::Object(fields) => Some(fields.entry(name).or_insert(Value::Null)),
        Value::Array(values) => values.get_mut(name.parse::<usize>().ok()?),
        _ => None,
    }
}

/// Does something to every field of this name.
fn each(value: &mut Value, name: &str, todo: &impl Fn(&mut Value)) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                if field == name { todo(value) } else { each(value, name, todo) }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| each(value, name, todo)),
        _ => {}
    }
}

/// Gives `of` attributes, in the place of those that it has under their names.
fn set(of: &mut Value, attributes: &BTreeMap<String, Value>) {
    let Some(there) = of.get_mut("attributes").and_then(Value::as_array_mut) else { return };
    there.retain(|one| one["key"].as_str().is_none_or(|key| !attributes.contains_key(key)));
    there.extend(attributes.iter().map(|(key, value)| json!({"key": key, "value": typed(value)})));
}

/// A value as OTLP has it.
fn typed(value: &Value) -> Value {
    match value {
        Value::Bool(_) => json!({"boolValue": value}),
        Value::Number(number) if number.is_f64() => json!({"doubleValue": value}),
        Value::Number(number) => json!({"intValue": number.to_string()}),
        Value::String(_) => json!({"stringValue": value}),
        // As it is: lists and objects are written as OTLP has them.
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(written: Value) -> Telemetry {
        serde_json::from_value(written).expect("a step")
    }

    #[test]
    fn a_fixture_is_changed_where_the_step_says() {
        let pointer = "/resourceLogs/0/scopeLogs/0/logRecords/0/severityText";
        let telemetry = of(json!({
            "fixture": "api_request", "attributes": {"model": "other", "new": 7, "yes": true},
            "resource": {"service.name": "me"}, "with": {pointer: "loud"},
        }));
        let request = telemetry.request().expect("a request");
        let record = &request["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
        assert_eq!(record["severityText"], "loud");
        let value = |attributes: &Value, key: &str| -> Vec<Value> {
            let all = attributes.as_array().into_iter().flatten();
            all.filter(|one| one["key"] == *key).map(|one| one["value"].clone()).collect()
        };
        assert_eq!(value(&record["attributes"], "model"), [json!({"stringValue": "other"})]);
        assert_eq!(value(&record["attributes"], "new"), [json!({"intValue": "7"})]);
        assert_eq!(value(&record["attributes"], "yes"), [json!({"boolValue": true})]);
        let resource = &request["resourceLogs"][0]["resource"]["attributes"];
        assert_eq!(value(resource, "service.name"), [json!({"stringValue": "me"})]);
    }

    #[test]
    fn what_is_not_there_is_said() {
        let missing = of(json!({"fixture": "../api_request"}));
        assert_eq!(missing.request(), Err(NoTelemetry::Fixture("../api_request".to_owned())));
        for place in ["/resourceLogs/7/x", "resourceLogs", "", "/resourceLogs/0/resource/attributes/99"] {
            let telemetry = of(json!({"fixture": "api_request", "with": {place: 1}}));
            assert_eq!(telemetry.request(), Err(NoTelemetry::Place(place.to_owned())));
        }
    }

    #[test]
    fn every_fixture_is_a_request() {
        let all = Telemetry::fixtures();
        assert!(all.len() >= 8, "{all:?}");
        for fixture in all {
            let request = of(json!({"fixture": fixture})).request().expect("a request");
            let list = if Telemetry::signal(&request) == "logs" { "resourceLogs" } else { "resourceMetrics" };
            assert!(request[list].is_array(), "{request}");
        }
    }
}
