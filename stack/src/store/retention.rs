//! How long documents are kept: by the store's Index State Management, or by us where it has none.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    Error, Outcome,
    mappings::{contains, differences},
    server::{Server, needed},
    streams,
};

/// Name of the policy.
pub(super) const POLICY: &str = "clawker";

const DAY_MS: u64 = 86_400_000;

/// When a stream goes on with another index, and when one is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Days after which a stream goes on with another index.
    pub days_in_one: u32,
    /// Gigabytes at which it does so before.
    pub gigabytes_in_one: u32,
    /// Days that an index is kept after the stream went on with another: no document is kept for less.
    pub days_kept: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { days_in_one: 7, gigabytes_in_one: 10, days_kept: 90 }
    }
}

impl Retention {
    fn policy(&self) -> Value {
        let Self { days_in_one, gigabytes_in_one, days_kept } = self;
        json!({"policy": {
            "description": "clawker: when a stream goes on with another index, and when one is removed",
            "default_state": "written",
            "states": [
                {
                    "name": "written",
                    "actions": [{"rollover": {"min_index_age": format!("{days_in_one}d"), "min_size": format!("{gigabytes_in_one}gb")}}],
                    "transitions": [{"state_name": "removed", "conditions": {"min_rollover_age": format!("{days_kept}d")}}],
                },
                {"name": "removed", "actions": [{"delete": {}}], "transitions": []},
            ],
            "ism_template": [{"index_patterns": documents::ALL.map(|stream| stream.name), "priority": 500}],
        }})
    }
}

/// Puts the policy there, where the store has what carries it out. One that says otherwise stays: people change these.
pub(super) fn ready(server: &Server, retention: &Retention) -> Result<Outcome, Error> {
    let path = format!("_plugins/_ism/policies/{POLICY}");
    let wanted = retention.policy();
    let answer = server.get(&path)?;
    if answer.is_unknown() {
        return Ok(Outcome::Absent(
            "the store has no Index State Management: nothing is rolled over and nothing removed, until `keep` is run, \
             and it must be run daily"
                .to_owned(),
        ));
    }
    let Some(there) = answer.found()? else {
        server.put(&path, Some(&wanted))?.done()?;
        return Ok(Outcome::Made);
    };
    if contains(&there, &wanted) {
        return Ok(Outcome::AsItIs);
    }
    let states = |of: &Value| of.pointer("/policy/states").cloned().unwrap_or_default();
    Ok(Outcome::Differs(format!(
        "{}. It is carried out as it is there",
        differences(&states(&wanted), &states(&there)).join("; ")
    )))
}

/// Whether there is such a policy, and what carries it out.
pub(super) fn is_carried_out(server: &Server) -> Result<bool, Error> {
    let answer = server.get(&format!("_plugins/_ism/policies/{POLICY}"))?;
    Ok(!answer.is_unknown() && answer.found()?.is_some())
}

/// Puts the indices of a stream that was there before the policy under it.
pub(super) fn attach(server: &Server, stream: &str) -> Result<(), Error> {
    let indices = streams::indices(server, stream)?.join(",");
    if indices.is_empty() {
        return Ok(());
    }
    // Those that have a policy already are named in the answer, and left so.
    server
        .post(&format!("_plugins/_ism/add/{indices}"), Some(&json!({"policy_id": POLICY})))?
        .done()
        .map(drop)
}

/// What time it is for the store, milliseconds since 1970: the clock that its indices have their times of.
pub(super) fn clock(server: &Server) -> Result<u64, Error> {
    let path = "_nodes/stats/os?filter_path=nodes.*.timestamp";
    let answer = server.get(path)?.done()?;
    let nodes = needed(&answer, "/nodes", path)?.as_object();
    let times =
        nodes.into_iter().flat_map(|nodes| nodes.values()).filter_map(|node| node.get("timestamp")?.as_u64());
    // The slowest: nothing is removed early.
    times.min().ok_or_else(|| Error::Unexpected { request: path.to_owned(), missing: "timestamp" })
}

/// Rolls a stream over if it is time, and removes its indices whose time is up. What was done, by name.
pub(super) fn keep(
    server: &Server,
    stream: &str,
    retention: &Retention,
    now: u64,
) -> Result<Vec<(&'static str, String)>, Error> {
    let mut done = Vec::new();
    let conditions = json!({"conditions": {
        "max_age": format!("{}d", retention.days_in_one),
        "max_size": format!("{}gb", retention.gigabytes_in_one),
    }});
    let path = format!("{stream}/_rollover");
    let answer = server.post(&path, Some(&conditions))?.done()?;
    if needed(&answer, "/rolled_over", &path)? == &Value::Bool(true) {
        done.push((
            "rolled over",
            needed(&answer, "/old_index", &path)?.as_str().unwrap_or(stream).to_owned(),
        ));
    }
    let indices = streams::indices(server, stream)?;
    let made = made(server, stream)?;
    // An index is done with when the one after it was made; the last is written to.
    for (index, next) in indices.iter().zip(indices.iter().skip(1)) {
        let Some(since) = made.get(next) else { continue };
        if now.saturating_sub(*since) > u64::from(retention.days_kept).saturating_mul(DAY_MS) {
            server.delete(index)?.done()?;
            done.push(("removed", index.clone()));
        }
    }
    Ok(done)
}

/// When each index of a stream was made, milliseconds since 1970.
fn made(server: &Server, stream: &str) -> Result<BTreeMap<String, u64>, Error> {
    let answer = server.get(&format!("{stream}/_settings/index.creation_date"))?.done()?;
    let time = |of: &Value| of.pointer("/settings/index/creation_date")?.as_str()?.parse().ok();
    Ok(answer
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(index, of)| Some((index.clone(), time(of)?)))
        .collect())
}
