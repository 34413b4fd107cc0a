//! From an OTLP log record to a document, as the collector's OpenSearch exporter shapes it (ss4o).

use std::sync::Arc;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value as Any},
    logs::v1::{LogRecord, ResourceLogs},
};
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Stream of a resource without `service.name`.
const NAMELESS: &str = "unknown";

/// The stream of a resource, and its records as documents.
pub fn of_resource(logs: ResourceLogs) -> (String, Vec<Arc<Value>>) {
    // The exporter writes resource attributes as text, whatever their type.
    let resource: Map<_, _> = logs
        .resource
        .into_iter()
        .flat_map(|resource| resource.attributes)
        .map(|attribute| (attribute.key, Value::String(text(attribute.value))))
        .collect();
    let stream = resource.get("service.name").and_then(Value::as_str).unwrap_or(NAMELESS).to_owned();
    let resource = Value::Object(resource);
    let records = logs.scope_logs.into_iter().flat_map(|scope| scope.log_records);
    (stream, records.map(|record| Arc::new(document(record, &resource))).collect())
}

fn document(record: LogRecord, resource: &Value) -> Value {
    let mut attributes = object(record.attributes);
    let data_stream = json!({"dataset": "default", "namespace": "namespace", "type": "record"});
    attributes.insert("data_stream".to_owned(), data_stream);
    // Filled in by hand: `json!` would copy every attribute.
    let mut document = Map::new();
    document.insert("@timestamp".to_owned(), timestamp(record.time_unix_nano));
    document.insert("observedTimestamp".to_owned(), timestamp(record.observed_time_unix_nano));
    document.insert("body".to_owned(), Value::String(text(record.body)));
    document.insert(
        "severity".to_owned(),
        json!({"text": record.severity_text, "number": record.severity_number}),
    );
    document.insert("attributes".to_owned(), Value::Object(attributes));
    document.insert("resource".to_owned(), resource.clone());
    Value::Object(document)
}

/// RFC 3339 with as many digits of a second as are not zero.
fn timestamp(unix_nanos: u64) -> Value {
    OffsetDateTime::from_unix_timestamp_nanos(unix_nanos.into())
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .map_or(Value::Null, Value::String)
}

fn object(attributes: Vec<KeyValue>) -> Map<String, Value> {
    attributes.into_iter().map(|attribute| (attribute.key, value(attribute.value))).collect()
}

fn value(any: Option<AnyValue>) -> Value {
    match any.and_then(|any| any.value) {
        None => Value::Null,
        Some(Any::StringValue(text)) => Value::String(text),
        Some(Any::BoolValue(flag)) => Value::Bool(flag),
        Some(Any::IntValue(number)) => number.into(),
        Some(Any::DoubleValue(number)) => number.into(),
        Some(Any::ArrayValue(array)) => array.values.into_iter().map(|any| value(Some(any))).collect(),
        Some(Any::KvlistValue(list)) => Value::Object(object(list.values)),
        Some(Any::BytesValue(bytes)) => Value::String(String::from_utf8_lossy(&bytes).into_owned()),
        // An index into another message's table, which logs do not have.
        Some(_) => Value::Null,
    }
}

fn text(any: Option<AnyValue>) -> String {
    match value(any) {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
