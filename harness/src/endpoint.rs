//! An OTLP/gRPC logs endpoint in this process, in place of collector and OpenSearch.
//!
//! It keeps each log record as the document that the collector's OpenSearch exporter would write in
//! ss4o mode, under the stream that the resource's `service.name` names. It must not know what a
//! document should say, and removes no duplicates: delivery is at least once, and whoever counts
//! must count distinct `event_id`.

mod document;
mod manner;
mod presence;
mod service;
mod store;

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;

pub use manner::Answer;
use manner::Manner;
use presence::Presence;
use service::Service;
use store::Store;

/// A running endpoint. Dropping it closes its connections.
pub struct Endpoint {
    presence: Presence,
    store: Arc<Store>,
    manner: Arc<Manner>,
}

impl Endpoint {
    /// Listens on a free port of 127.0.0.1, in the namespace of the calling thread.
    pub fn start() -> io::Result<Self> {
        let (store, manner) = (Arc::new(Store::default()), Arc::new(Manner::default()));
        let service = Service { store: Arc::clone(&store), manner: Arc::clone(&manner) };
        Ok(Self { presence: Presence::start(service)?, store, manner })
    }

    /// Closes the listener and cuts every connection; it listens again, on the same port, after `length`.
    pub fn leave(&self, length: Duration) {
        self.presence.leave(length);
    }

    /// Whether it is away.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.presence.is_away()
    }

    /// What it answers from now on.
    pub fn answer(&self, answer: Answer) {
        self.manner.set(answer);
    }

    /// What it answers.
    #[must_use]
    pub fn answering(&self) -> Answer {
        self.manner.get()
    }

    /// Waits until records were answered so; `false` if none were before `deadline`.
    #[must_use]
    pub fn has_answered(&self, deadline: Instant) -> bool {
        self.manner.was_shown(deadline)
    }

    /// `http://127.0.0.1:<port>`, for an OTLP/gRPC exporter.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("http://{}", self.presence.address())
    }

    /// The documents of `stream` that satisfy `filter`, in order of arrival.
    #[must_use]
    pub fn documents(&self, stream: &str, filter: impl Fn(&Value) -> bool) -> Vec<Value> {
        let documents = self.store.snapshot(stream, 0);
        documents.iter().filter(|document| filter(document)).map(|document| Value::clone(document)).collect()
    }

    /// Documents of all streams, those that came twice included.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.store.received()
    }

    /// The documents of `stream` from number `from` on, as soon as there is one; none if there is none
    /// before `deadline`.
    #[must_use]
    pub fn news(&self, stream: &str, from: usize, deadline: Instant) -> Vec<Value> {
        self.store.wait_for_more(stream, from, deadline);
        self.store.snapshot(stream, from).iter().map(|document| Value::clone(document)).collect()
    }

    /// The first document of `stream` that satisfies `predicate`, which is asked once a document, as
    /// soon as one arrives; `None` if there was none before `deadline`.
    pub fn wait_for(
        &self,
        stream: &str,
        predicate: impl Fn(&Value) -> bool,
        deadline: Instant,
    ) -> Option<Value> {
        let mut seen = 0;
        loop {
            let news = self.store.snapshot(stream, seen);
            if let Some(found) = news.iter().find(|document| predicate(document)) {
                return Some(Value::clone(found));
            }
            seen += news.len();
            if !self.store.wait_for_more(stream, seen, deadline) {
                return None;
            }
        }
    }
}
