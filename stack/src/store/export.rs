//! All documents of a stream, as they are in the store.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Error, Store, pages::Pages, retention};

impl Store {
    /// Documents of `stream`, the oldest first: those of the time `since`, or all.
    ///
    /// # Errors
    /// If the store does not answer; also instead of the next document.
    pub fn export(
        &self,
        stream: &str,
        since: Option<Duration>,
    ) -> Result<impl Iterator<Item = Result<Value, Error>>, Error> {
        self.server.post(&format!("{stream}/_refresh"), None)?.done()?;
        let query = match since {
            None => json!({"match_all": {}}),
            Some(since) => {
                let since = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
                let from = retention::clock(&self.server)?.saturating_sub(since);
                json!({"range": {"@timestamp": {"gte": from, "format": "epoch_millis"}}})
            }
        };
        let pages = Pages::new(&self.server, stream, &query, &["@timestamp"], &["*"]);
        Ok(pages.map(|found| Ok(found?.source)))
    }
}
