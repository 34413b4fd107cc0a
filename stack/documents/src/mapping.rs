//! What the store is told of a stream.
//!
//! The layout is ss4o's, as the collector writes it: ours is below `attributes`, what the collector says of every record
//! is beside it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    Field, Kind, Stream, Strictness,
    field::{CUT, WORD},
};

/// The index template of a stream: what its data stream and each of its indices is made by.
#[must_use]
pub fn template(stream: &Stream) -> Value {
    let mut index = json!({
        "number_of_shards": "1",
        // A copy where there is another node to have it.
        "auto_expand_replicas": "0-1",
        // Whoever may add a document could write over it otherwise.
        "append_only": {"enabled": "true"},
    });
    if let (Strictness::Unsearched, Some(index)) = (stream.strictness, index.as_object_mut()) {
        // One value of another's that is no number must not hold up those behind it.
        index.insert("mapping".to_owned(), json!({"ignore_malformed": "true"}));
    }
    json!({
        "index_patterns": [stream.name],
        // Above those that a server or a person has for more than one stream.
        "priority": 500,
        "data_stream": {"timestamp_field": {"name": "@timestamp"}},
        "template": {"settings": {"index": index}, "mappings": mappings(stream)},
    })
}

fn mappings(stream: &Stream) -> Value {
    let dynamic = match stream.strictness {
        Strictness::Refused => "strict",
        Strictness::Unsearched => "false",
    };
    let word = || json!({"type": "keyword", "ignore_above": WORD});
    let text = || json!({"type": "keyword", "ignore_above": CUT});
    let mut attributes = below(stream.fields.iter().map(|field| (field.name, mapping(field))));
    // The exporter adds this to every document.
    attributes.insert(
        "data_stream".to_owned(),
        json!({"properties": {"dataset": word(), "namespace": word(), "type": word()}}),
    );
    let resource = ["service.name", "service.version", "service.instance.id", "host.name"];
    json!({
        "dynamic": dynamic,
        "properties": {
            "@timestamp": {"type": "date"},
            "observedTimestamp": {"type": "date"},
            "severity": {"properties": {"text": word(), "number": {"type": "long"}}},
            "body": {"type": "text"},
            "attributes": {"properties": attributes},
            "resource": {"properties": below(resource.into_iter().map(|name| (name, text())))},
            "instrumentationScope": {"properties": {"name": text(), "version": word(), "schemaUrl": text()}},
            "schemaUrl": text(),
            "traceId": word(),
            "spanId": word(),
        },
    })
}

fn mapping(field: &Field) -> Value {
    match field.kind {
        Kind::Keyword => json!({"type": "keyword", "ignore_above": field.longest}),
        kind => json!({"type": kind.as_str()}),
    }
}

/// Properties, of names whose dots are levels.
fn below<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Map<String, Value> {
    let mut properties = Map::new();
    let mut levels: BTreeMap<&str, Vec<(&str, Value)>> = BTreeMap::new();
    for (name, mapping) in fields {
        match name.split_once('.') {
            Some((level, name)) => levels.entry(level).or_default().push((name, mapping)),
            None => {
                properties.insert(name.to_owned(), mapping);
            }
        }
    }
    for (level, fields) in levels {
        properties.insert(level.to_owned(), json!({"properties": below(fields)}));
    }
    properties
}
