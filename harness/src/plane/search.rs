//! What the harness asks of OpenSearch.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use anyhow::{Context as _, bail};
use reqwest::blocking::{Client, Response};
use serde::Deserialize;
use serde_json::{Value, json};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(20);
/// Documents in one answer, at most.
const PAGE: usize = 2000;
/// Every stream of ours.
const STREAMS: &str = "clawker-*";

/// A client.
#[derive(Clone)]
pub struct Search {
    url: String,
    client: Client,
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
    pub fn new(address: SocketAddr) -> anyhow::Result<Self> {
        let client = Client::builder().timeout(LIMIT).no_proxy().build()?;
        Ok(Self { url: format!("http://{address}"), client })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether it can be written to.
    pub fn is_ready(&self) -> bool {
        let health = self.client.get(format!("{}/_cluster/health?timeout=1s", self.url)).send();
        let health = health.and_then(Response::error_for_status).and_then(Response::json::<Value>);
        health.is_ok_and(|health| health["status"] == "green" || health["status"] == "yellow")
    }

    /// Makes what the streams are made by.
    pub fn bootstrap(&self) -> anyhow::Result<()> {
        let template = json!({
            "index_patterns": [STREAMS],
            "data_stream": {},
            "template": {"settings": {"number_of_replicas": 0}},
        });
        ok(self.client.put(format!("{}/_index_template/clawker", self.url)).json(&template).send()?)?;
        Ok(())
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

    /// Makes what was taken up to now findable.
    pub fn refresh(&self) -> anyhow::Result<()> {
        ok(self.client.post(format!("{}/{STREAMS}/_refresh", self.url)).send()?)?;
        Ok(())
    }

    /// Documents of an index from `from` on, in the order in which it took them.
    pub fn documents(&self, index: &str, from: u64) -> anyhow::Result<Vec<Found>> {
        let query = json!({
            "size": PAGE,
            "seq_no_primary_term": true,
            "query": {"range": {"_seq_no": {"gte": from}}},
            "sort": [{"_seq_no": "asc"}],
        });
        let answer = self.client.post(format!("{}/{index}/_search", self.url)).json(&query).send()?;
        let hits: Hits = ok(answer)?.json()?;
        let found = |hit: Hit| Found { number: hit._seq_no, document: hit._source };
        Ok(hits.hits.hits.into_iter().map(found).collect())
    }

    fn get(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.client.get(format!("{}/{path}", self.url)).send()?;
        ok(answer)?.json().with_context(|| format!("{path}: the answer is not JSON"))
    }
}

/// The answer, or what the server says is wrong.
fn ok(answer: Response) -> anyhow::Result<Response> {
    let status = answer.status();
    if !status.is_success() {
        let url = answer.url().clone();
        bail!("{url} answers {status}: {}", answer.text().unwrap_or_default());
    }
    Ok(answer)
}
