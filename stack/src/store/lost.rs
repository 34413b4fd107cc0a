//! Flows and documents, as they are in the store, for [`crate::lost`].

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    Error, Store,
    pages::{Found, Pages},
    retention,
    server::needed,
};
use crate::{
    Lane, Listeners,
    lost::{Document, EXACT, Emitter, Flow, Lost, Window, compare},
};

/// What is compared.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// How far back, from now.
    pub since: Duration,
    /// What is younger than this is not judged: it may be on its way, and a flow of UDP ends only some time after its last
    /// datagram.
    pub young: Duration,
    /// The proxy's ports.
    pub listeners: Listeners,
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            since: Duration::from_secs(3600),
            young: Duration::from_secs(90),
            listeners: Listeners::default(),
        }
    }
}

impl Store {
    /// What `emitter` has told of the flows that were handed to it, and what it has not.
    ///
    /// # Errors
    /// If the store does not answer, or not wholly.
    pub fn lost(&self, emitter: Emitter, asked: &Asked) -> Result<Lost, Error> {
        let now = i64::try_from(retention::clock(&self.server)?).unwrap_or(i64::MAX);
        let window = Window {
            from: now.saturating_sub(milliseconds(asked.since)),
            until: now.saturating_sub(milliseconds(asked.young)),
            before: EXACT,
            after: EXACT,
        };
        for lane in [Lane::Egress, emitter.lane()] {
            self.server.post(&format!("{}/_refresh", lane.stream()), None)?.done()?;
        }
        let flows = self.flows(emitter, &window, asked);
        let documents = self.documents(emitter, &window)?;
        compare(flows, documents, &window)
    }

    /// Flows that ended in the window, after it, and so shortly before it that documents in it may be of them.
    fn flows(
        &self,
        emitter: Emitter,
        window: &Window,
        asked: &Asked,
    ) -> impl Iterator<Item = Result<Flow, Error>> {
        let query = flows_of(emitter, window);
        let mut sort = vec!["attributes.src_ip", "attributes.src_port"];
        if emitter == Emitter::Proxy {
            sort.push("attributes.actual_dst_port");
        }
        sort.push("@timestamp");
        let fields = [
            &OF_ALL[..],
            &[
                "attributes.reason",
                "attributes.dst_port",
                "attributes.actual_dst_port",
                "attributes.duration_ms",
                "attributes.close_reason",
                "attributes.bytes_out",
                "attributes.packets_out",
                "attributes.l4_proto",
            ],
        ]
        .concat();
        let listeners = asked.listeners;
        let pages = Pages::new(&self.server, &Lane::Egress.stream(), &query, &sort, &fields);
        pages.map(move |found| flow(emitter, &found?, &listeners))
    }

    /// Documents of what began in the window, or as long before it as the longest flow.
    fn documents(
        &self,
        emitter: Emitter,
        window: &Window,
    ) -> Result<impl Iterator<Item = Result<Document, Error>>, Error> {
        let path = format!("{}/_search", Lane::Egress.stream());
        let longest = json!({"longest": {"max": {"field": "attributes.duration_ms"}}});
        let body = json!({"size": 0, "query": flows_of(emitter, window), "aggs": longest});
        let answer = self.server.post(&path, Some(&body))?.done()?;
        let longest = needed(&answer, "/aggregations/longest/value", &path)?.as_f64().unwrap_or_default();
        let longest = milliseconds(Duration::try_from_secs_f64(longest / 1000.0).unwrap_or_default());
        let margin = window.before.saturating_add(window.after);
        let since = window.from.saturating_sub(longest).saturating_sub(margin);
        let mut needed = vec!["attributes.src_ip", "attributes.src_port"];
        if emitter == Emitter::Proxy {
            needed.push("attributes.listener_port");
        }
        let mut filter: Vec<Value> = needed.iter().map(|field| json!({"exists": {"field": field}})).collect();
        filter.push(json!({"range": {"@timestamp": {"gte": since, "format": "epoch_millis"}}}));
        // What an agent sends of itself to the proxy is no flow that was handed to it.
        let query =
            json!({"bool": {"filter": filter, "must_not": [{"term": {"attributes.reason": "telemetry"}}]}});
        needed.push("@timestamp");
        let fields =
            [&OF_ALL[..], &["attributes.listener_port", "attributes.l7_proto", "attributes.l4_proto"]]
                .concat();
        let pages = Pages::new(&self.server, &emitter.lane().stream(), &query, &needed, &fields);
        Ok(pages.map(move |found| document(emitter, &found?)))
    }
}

/// What is asked of flows and of documents.
const OF_ALL: [&str; 6] = [
    "attributes.agent",
    "attributes.project",
    "attributes.container_id",
    "attributes.event_id",
    "attributes.src_ip",
    "attributes.src_port",
];

fn flows_of(emitter: Emitter, window: &Window) -> Value {
    let since = window.from.saturating_sub(window.after);
    let mut filter = vec![
        emitter.handed(),
        json!({"term": {"attributes.record_type": "flow"}}),
        // Who was denied came to no emitter.
        json!({"terms": {"attributes.verdict": ["ALLOWED", "BYPASSED"]}}),
        json!({"range": {"@timestamp": {"gte": since, "format": "epoch_millis"}}}),
    ];
    // Of a flow whose source the kernel never learned nothing was sent.
    for field in ["attributes.src_ip", "attributes.src_port", "attributes.actual_dst_port"] {
        filter.push(json!({"exists": {"field": field}}));
    }
    json!({"bool": {"filter": filter}})
}

fn flow(emitter: Emitter, found: &Found, listeners: &Listeners) -> Result<Flow, Error> {
    Flow::read(emitter, attributes(found), time(found)?, listeners).map_err(missing)
}

fn document(emitter: Emitter, found: &Found) -> Result<Document, Error> {
    Document::read(emitter, attributes(found), time(found)?).map_err(missing)
}

fn attributes(found: &Found) -> &Value {
    found.source.get("attributes").unwrap_or(&Value::Null)
}

/// The last that it was ordered by but its place.
fn time(found: &Found) -> Result<i64, Error> {
    let time = found.sort.len().checked_sub(3).and_then(|at| found.sort.get(at)?.as_i64());
    time.ok_or_else(|| missing("@timestamp"))
}

fn missing(what: &'static str) -> Error {
    Error::Unexpected { request: "POST /_search".to_owned(), missing: what }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
