//! What servers say that is no document and no series: a text that must be nowhere may be in it all the same.

use std::net::SocketAddr;

use anyhow::Context as _;
use serde_json::Value;
use stack::AGENTS_OWN_METRICS;

use super::{METRICS, Plane, fault::lock, prometheus};
use crate::docker::DockerError;

/// The form in which a page has exemplars too.
const OPEN: &str = "application/openmetrics-text;version=1.0.0";

impl Plane {
    /// What is told of series beside them: where, and what. What was sent up to now is in it once [`Plane::every_series`] is.
    ///
    /// # Errors
    /// If a server does not tell.
    pub fn beside_series(&self) -> anyhow::Result<Vec<(String, Value)>> {
        let mut all: Vec<(String, Value)> =
            self.prometheus.beside()?.into_iter().map(|(place, told)| (place.to_owned(), told)).collect();
        // As it is: Prometheus may leave out what it does not understand.
        for (port, accept) in [(METRICS, "text/plain"), (METRICS, OPEN), (AGENTS_OWN_METRICS, "text/plain")] {
            let url = format!("http://{}/metrics", SocketAddr::new(self.collectors.agents, port));
            let page = prometheus::agent().get(&url).header("accept", accept).call();
            let page = page.and_then(|mut page| page.body_mut().read_to_string());
            all.extend(lines(&format!("the page {url} ({accept})"), &page.with_context(|| url.clone())?));
        }
        Ok(all)
    }

    /// The lines of the servers' logs: whose, and what.
    ///
    /// # Errors
    /// If Docker does not tell.
    pub fn logs(&self) -> Result<Vec<(String, Value)>, DockerError> {
        let mut all = Vec::new();
        for (server, container) in [
            ("the collector", &self.collector),
            ("the agents' collector", &self.agents_collector),
            ("the relay", &self.relay),
            ("the store", &self.store),
        ] {
            all.extend(lines(&format!("the log of {server}"), &lock(container).log()?));
        }
        all.extend(lines("the log of Prometheus", &self.prometheus.container().log()?));
        Ok(all)
    }
}

/// Each line, so that a failure shows that one.
pub fn lines(place: &str, text: &str) -> Vec<(String, Value)> {
    text.lines().map(|line| (place.to_owned(), Value::from(line))).collect()
}
