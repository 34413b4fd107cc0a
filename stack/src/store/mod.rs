//! The store, made ready: index templates, rollover and retention, data streams, the collector's credentials.
//!
//! All of it may be done again at any time, and destroys nothing. What is there and is not as it should be is told, and
//! changed only where that is safe: a template as we wrote it, a field that a mapping does not have yet.

mod export;
mod lost;
mod mappings;
mod overview;
mod pages;
mod prometheus;
mod report;
mod retention;
mod server;
mod streams;
mod templates;
mod writer;

use std::time::Duration;

pub use lost::Asked;
pub use overview::Standing;
pub use report::{Line, Outcome, Report};
pub use retention::Retention;
pub use server::{Credentials, Error};

use server::Server;

/// Longer than a healthy server takes for anything here.
const LONG: Duration = Duration::from_secs(60);

/// A store, and who we are to it.
pub struct Store {
    server: Server,
}

/// What the store is to be made ready for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// How long documents are kept.
    pub retention: Retention,
    /// Who the collector will be: may add documents, and nothing else. `None` leaves its user to whoever runs the store.
    pub writer: Option<Credentials>,
    /// Templates that somebody changed are to be as ours are. No index is changed by that; the next ones are.
    pub overwrite: bool,
    /// Where Prometheus answers the store, as `http://host:port`; `None` connects them not.
    pub prometheus: Option<String>,
}

impl Store {
    /// The store at `url` (`https://host:port`), as whom `credentials` name. Its certificate is checked by `authority`
    /// (PEM), or by the web's authorities.
    ///
    /// # Errors
    /// If `authority` holds no certificate.
    pub fn new(url: &str, credentials: Option<&Credentials>, authority: Option<&str>) -> Result<Self, Error> {
        Ok(Self { server: Server::new(url, credentials, authority, LONG)? })
    }

    /// Makes the store ready, and says what was made and what is not as it should be.
    ///
    /// # Errors
    /// If the store does not answer, or refuses what it must do. What was done before that stays.
    pub fn bootstrap(&self, wanted: &Wanted) -> Result<Report, Error> {
        let mut report = Report::default();
        // In this order: a data stream's first index is made by the template and the policy that are there.
        for stream in documents::ALL {
            report.add("template", stream.name, templates::ready(&self.server, &stream, wanted.overwrite)?);
        }
        let policy = retention::ready(&self.server, &wanted.retention)?;
        let is_new = matches!(policy, Outcome::Made);
        report.add("policy", retention::POLICY, policy);
        for stream in documents::ALL {
            let outcome = streams::ready(&self.server, &stream)?;
            if is_new && !matches!(outcome, Outcome::Made) {
                retention::attach(&self.server, stream.name)?;
            }
            report.add("stream", stream.name, outcome);
        }
        if let Some(credentials) = &wanted.writer {
            for (what, outcome) in writer::ready(&self.server, credentials)? {
                report.add(what, &credentials.user, outcome);
            }
        }
        if let Some(url) = &wanted.prometheus {
            report.add("data source", documents::PROMETHEUS, prometheus::ready(&self.server, url)?);
        }
        Ok(report)
    }

    /// Rolls over what is old or large, and removes the indices that were rolled over too long ago: what the policy does
    /// where the store has Index State Management, to be called now and then where it has not.
    ///
    /// # Errors
    /// If the store does not answer, or refuses.
    pub fn keep(&self, retention: &Retention) -> Result<Report, Error> {
        let mut report = Report::default();
        let now = retention::clock(&self.server)?;
        for stream in documents::ALL {
            for (what, name) in retention::keep(&self.server, stream.name, retention, now)? {
                report.add(what, &name, Outcome::Made);
            }
        }
        Ok(report)
    }
}
