//! What OpenSearch Dashboards shows: a pattern over all streams, a view of each, and a page with controls that narrow
//! them all, as saved objects to import.

mod object;

use object::{Metric, Panel, Reference, controls, dashboard, histogram, object, search, table};
use serde_json::{Value, json};

use crate::{ALL, EGRESS, PROMETHEUS, Stream};

/// The pattern that has every stream.
pub const PATTERN: &str = "clawker-*";

/// Identifier of the pattern, whose references others hold.
const PATTERN_ID: &str = "clawker";

/// What a control on the page narrows every panel by.
const NARROWED_BY: [(&str, &str); 3] = [("agent", "Agent"), ("project", "Project"), ("verdict", "Verdict")];

/// The saved objects, one a line, as Dashboards imports them.
#[must_use]
pub fn saved_objects() -> String {
    let pattern = object(
        "index-pattern",
        PATTERN_ID,
        // Without a list of fields, so that Dashboards reads it from the mappings.
        &json!({"title": PATTERN, "timeFieldName": "@timestamp"}),
        &[],
    );
    // The data source itself is the store's, and made by its bootstrap.
    let metrics = object(
        "data-connection",
        PROMETHEUS,
        &json!({"connectionId": PROMETHEUS, "type": "Prometheus", "meta": "{}"}),
        &[],
    );
    let (panels, mut objects) = panels();
    objects.splice(0..0, [pattern, metrics]);
    objects.push(dashboard("clawker", "Agents: what they reach for", &panels));
    objects.iter().map(|object| format!("{object}\n")).collect()
}

/// The parts of the page, and the objects that they are.
fn panels() -> (Vec<Panel>, Vec<Value>) {
    let mut objects = vec![
        controls("clawker-controls", "Narrow by", &NARROWED_BY),
        // Delivery may repeat: distinct events are counted, and not documents.
        histogram(
            "clawker-verdicts",
            "Verdicts of the kernel",
            &EGRESS,
            Metric::Distinct("event_id"),
            "verdict",
        ),
        table(
            "clawker-denied",
            "Denied: who reached for what",
            &EGRESS,
            Metric::Distinct("event_id"),
            &["agent", "reason", "l4_proto", "dst_host", "comm"],
            Some(("verdict", "DENIED")),
        ),
        table(
            "clawker-losses",
            "Losses: what the record lacks",
            &EGRESS,
            Metric::Sum("event_count"),
            &["agent", "loss_point"],
            Some(("record_type", "loss")),
        ),
    ];
    let mut panels = vec![
        Panel { of: Reference::of("visualization", "clawker-controls"), wide: 48, high: 6 },
        Panel { of: Reference::of("visualization", "clawker-verdicts"), wide: 48, high: 12 },
        Panel { of: Reference::of("visualization", "clawker-denied"), wide: 30, high: 15 },
        Panel { of: Reference::of("visualization", "clawker-losses"), wide: 18, high: 15 },
    ];
    for stream in ALL {
        objects.push(view(&stream));
        panels.push(Panel { of: Reference::of("search", stream.name), wide: 48, high: 15 });
    }
    (panels, objects)
}

/// A stream's documents, the newest first.
fn view(stream: &Stream) -> Value {
    let mut columns: Vec<String> = stream.columns.iter().map(|name| format!("attributes.{name}")).collect();
    columns.push("body".to_owned());
    search(stream, &columns)
}
