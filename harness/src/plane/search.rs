//! What the harness asks of OpenSearch.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use anyhow::{Context as _, bail};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use ureq::{Agent, Body, http::Response};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(20);
/// Documents in one answer, at most.
const PAGE: usize = 2000;
/// Every stream of ours.
pub const STREAMS: &str = "clawker-*";

/// The largest answer that is read, bytes.
const LARGEST: u64 = 256 << 20;

/// A client.
#[derive(Clone)]
pub struct Search {
    url: String,
    agent: Agent,
}

/// A document, and its place in its index.
pub struct Found {
    /// Rises by one with each that an index takes.
    pub number: u64,
    /// As it was sent.
    pub document: Value,
}

#[derive(Deserialize)]
struct Hits {
    hits: HitList,
}

#[derive(Deserialize)]
struct HitList {
    hits: Vec<Hit>,
}

#[derive(Deserialize)]
struct Hit {
    _source: Value,
    _seq_no: u64,
}

impl Search {
    /// Of the server at this address.
    pub fn new(address: SocketAddr) -> Self {
        let agent =
            Agent::config_builder().timeout_global(Some(LIMIT)).http_status_as_error(false).proxy(None);
        Self { url: format!("http://{address}"), agent: agent.build().new_agent() }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether it can be written to.
    pub fn is_ready(&self) -> bool {
        let health = self.get("_cluster/health?timeout=1s");
        health.is_ok_and(|health| health["status"] == "green" || health["status"] == "yellow")
    }

    /// The indices behind each stream.
    pub fn indices(&self) -> anyhow::Result<HashMap<String, Vec<String>>> {
        let streams = self.get(&format!("_data_stream/{STREAMS}"))?;
        let mut found = HashMap::new();
        for stream in streams["data_streams"].as_array().into_iter().flatten() {
            let indices = stream["indices"].as_array().into_iter().flatten();
            let indices =
                indices.filter_map(|index| Some(index["index_name"].as_str()?.to_owned())).collect();
            found.insert(stream["name"].as_str().unwrap_or_default().to_owned(), indices);
        }
        Ok(found)
    }

    /// Of each index, the number of the last document that it took; -1 of an empty one.
    pub fn last(&self) -> anyhow::Result<HashMap<String, i64>> {
        let stats = self.get(&format!("{STREAMS}/_stats/docs?level=shards"))?;
        let mut last = HashMap::new();
        for (index, of_index) in stats["indices"].as_object().into_iter().flatten() {
            let shards = of_index["shards"].as_object().into_iter().flatten();
            let copies = shards.flat_map(|(_, copies)| copies.as_array().into_iter().flatten());
            if let Some(number) = copies.filter_map(|copy| copy["seq_no"]["max_seq_no"].as_i64()).max() {
                last.insert(index.clone(), number);
            }
        }
        Ok(last)
    }

    /// Makes what was taken up to now findable.
    pub fn refresh(&self) -> anyhow::Result<()> {
        self.post::<Value>(&format!("{STREAMS}/_refresh"), &json!({})).map(drop)
    }

    /// Documents of an index from `from` on, in the order in which it took them.
    pub fn documents(&self, index: &str, from: u64) -> anyhow::Result<Vec<Found>> {
        let query = json!({
            "size": PAGE,
            "seq_no_primary_term": true,
            "query": {"range": {"_seq_no": {"gte": from}}},
            "sort": [{"_seq_no": "asc"}],
        });
        let hits: Hits = self.post(&format!("{index}/_search"), &query)?;
        let found = |hit: Hit| Found { number: hit._seq_no, document: hit._source };
        Ok(hits.hits.hits.into_iter().map(found).collect())
    }

    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        read(path, self.agent.get(format!("{}/{path}", self.url)).call()?)
    }

    /// Sends what is to be as `body` says.
    pub fn put(&self, path: &str, body: &Value) -> anyhow::Result<()> {
        read::<Value>(path, self.agent.put(format!("{}/{path}", self.url)).send_json(body)?).map(drop)
    }

    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> anyhow::Result<T> {
        read(path, self.agent.post(format!("{}/{path}", self.url)).send_json(body)?)
    }
}

/// The answer, or what the server says is wrong.
fn read<T: DeserializeOwned>(path: &str, mut answer: Response<Body>) -> anyhow::Result<T> {
    let (status, body) = (answer.status(), answer.body_mut().with_config().limit(LARGEST));
    if !status.is_success() {
        bail!("{path}: the store answers {status}: {}", body.read_to_string().unwrap_or_default());
    }
    body.read_json().with_context(|| format!("{path}: the answer is not what was asked for"))
}
