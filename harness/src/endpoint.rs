//! Where documents arrive: an OTLP/gRPC logs endpoint in this process, in place of collector and OpenSearch, or these
//! themselves.
//!
//! The one in this process keeps each log record as the document that the collector's OpenSearch exporter would write in
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
    /// In this process; `None` where it is a server of its own, which nothing here tells what to answer.
    own: Option<Own>,
    store: Arc<Store>,
}

/// What listens in this process.
struct Own {
    presence: Presence,
    manner: Arc<Manner>,
}

/// Takes the documents of an endpoint that is a server of its own.
#[derive(Clone)]
pub struct Sink(Arc<Store>);

impl Sink {
    /// Adds documents that were found in `stream`.
    pub fn add(&self, stream: &str, documents: Vec<Value>) {
        self.0.add(vec![(stream.to_owned(), documents.into_iter().map(Arc::new).collect())]);
    }
}

impl Endpoint {
    /// Listens on a free port of 127.0.0.1, in the namespace of the calling thread.
    pub fn start() -> io::Result<Self> {
        let (store, manner) = (Arc::new(Store::default()), Arc::new(Manner::default()));
        let service = Service { store: Arc::clone(&store), manner: Arc::clone(&manner) };
        Ok(Self { own: Some(Own { presence: Presence::start(service)?, manner }), store })
    }

    /// One that is a server of its own; what arrives there is for the sink's holder to find.
    #[must_use]
    pub fn elsewhere() -> (Self, Sink) {
        let store = Arc::new(Store::default());
        (Self { own: None, store: Arc::clone(&store) }, Sink(store))
    }

    /// Closes the listener and cuts every connection; it listens again, on the same port, after `length`.
    pub fn leave(&self, length: Duration) {
        if let Some(own) = &self.own {
            own.presence.leave(length);
        }
    }

    /// Whether it is away.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.presence.is_away())
    }

    /// What it answers from now on.
    pub fn answer(&self, answer: Answer) {
        if let Some(own) = &self.own {
            own.manner.set(answer);
        }
    }

    /// What it answers.
    #[must_use]
    pub fn answering(&self) -> Answer {
        self.own.as_ref().map_or(Answer::Accept, |own| own.manner.get())
    }

    /// Waits until records were answered so; `false` if none were before `deadline`.
    #[must_use]
    pub fn has_answered(&self, deadline: Instant) -> bool {
        self.own.as_ref().is_none_or(|own| own.manner.was_shown(deadline))
    }

    /// `http://127.0.0.1:<port>`, for an OTLP/gRPC exporter; `None` of a server of its own.
    #[must_use]
    pub fn uri(&self) -> Option<String> {
        Some(format!("http://{}", self.own.as_ref()?.presence.address()))
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
