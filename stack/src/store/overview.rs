//! How the streams stand.

use serde::Serialize;
use serde_json::json;

use super::{Error, Store, retention, server::needed, streams};

/// One stream, as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Its name.
    pub stream: &'static str,
    /// Documents, whatever came twice counted twice; `None` if there is no such stream.
    pub documents: Option<u64>,
    /// Time of the latest, milliseconds since 1970.
    pub latest: Option<i64>,
    /// Bytes of its indices.
    pub bytes: u64,
    /// How many indices it has.
    pub indices: usize,
}

impl Store {
    /// How each of our streams stands.
    ///
    /// # Errors
    /// If the store does not answer.
    pub fn overview(&self) -> Result<Vec<Standing>, Error> {
        documents::ALL.iter().map(|stream| self.standing(stream.name)).collect()
    }

    /// Whether the store itself rolls over and removes what is old; if not, [`Store::keep`] must be called.
    ///
    /// # Errors
    /// If the store does not answer.
    pub fn keeps_itself(&self) -> Result<bool, Error> {
        retention::is_carried_out(&self.server)
    }

    fn standing(&self, stream: &'static str) -> Result<Standing, Error> {
        let indices = streams::indices(&self.server, stream)?.len();
        if indices == 0 {
            return Ok(Standing { stream, documents: None, latest: None, bytes: 0, indices });
        }
        let path = format!("{stream}/_search");
        let body = json!({
            "size": 0, "track_total_hits": true, "aggs": {"latest": {"max": {"field": "@timestamp"}}},
        });
        let answer = self.server.post(&path, Some(&body))?.done()?;
        let documents = needed(&answer, "/hits/total/value", &path)?.as_u64();
        let latest = needed(&answer, "/aggregations/latest/value", &path)?.as_f64().map(|time| time as i64);
        let path = format!("{stream}/_stats/store");
        let answer = self.server.get(&path)?.done()?;
        let bytes = needed(&answer, "/_all/total/store/size_in_bytes", &path)?.as_u64().unwrap_or_default();
        Ok(Standing { stream, documents, latest, bytes, indices })
    }
}
