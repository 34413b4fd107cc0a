//! All documents that a query finds, page by page: as many as there are, in the memory of one page.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::{
    Error,
    server::{Server, needed},
};

/// Documents in one answer.
const PAGE: usize = 1000;

/// A document that was found.
pub(super) struct Found {
    /// The values that it was ordered by.
    pub sort: Vec<Value>,
    /// What was asked for of it.
    pub source: Value,
}

/// What a query finds, in order.
pub(super) struct Pages<'s> {
    server: &'s Server,
    path: String,
    body: Value,
    page: VecDeque<Found>,
    over: bool,
}

impl<'s> Pages<'s> {
    /// Documents of `stream` that `query` finds, ordered by `sort` (ascending) and then by their places in the store, each with
    /// these `fields`.
    pub fn new(server: &'s Server, stream: &str, query: &Value, sort: &[&str], fields: &[&str]) -> Self {
        // With the place the order has no two of one rank, so that a page begins just behind the one before it.
        let sort: Vec<Value> =
            sort.iter().chain(&["_index", "_seq_no"]).map(|field| json!({*field: "asc"})).collect();
        let body = json!({
            "size": PAGE, "query": query, "sort": sort, "_source": fields, "track_total_hits": false,
        });
        Self { server, path: format!("{stream}/_search"), body, page: VecDeque::new(), over: false }
    }

    fn turn(&mut self) -> Result<(), Error> {
        let answer = self.server.post(&self.path, Some(&self.body))?.done()?;
        if needed(&answer, "/_shards/failed", &self.path)? != &json!(0) {
            // Half an answer would be told as losses.
            let why = answer.pointer("/_shards/failures/0/reason/reason").cloned().unwrap_or_default();
            return Err(Error::Refused {
                request: format!("POST /{}", self.path),
                status: 200,
                reason: format!("not every shard answers: {why}"),
            });
        }
        let hits = needed(&answer, "/hits/hits", &self.path)?.as_array().map_or(&[][..], Vec::as_slice);
        self.over = hits.len() < PAGE;
        for hit in hits {
            let sort = needed(hit, "/sort", &self.path)?.as_array().cloned().unwrap_or_default();
            self.page.push_back(Found { sort, source: hit.get("_source").cloned().unwrap_or_default() });
        }
        if let (Some(last), Some(body)) = (self.page.back(), self.body.as_object_mut()) {
            body.insert("search_after".to_owned(), json!(last.sort));
        }
        Ok(())
    }
}

impl Iterator for Pages<'_> {
    type Item = Result<Found, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty()
            && !self.over
            && let Err(error) = self.turn()
        {
            self.over = true;
            return Some(Err(error));
        }
        self.page.pop_front().map(Ok)
    }
}
