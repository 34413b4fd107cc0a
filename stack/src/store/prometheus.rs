//! Metrics are in Prometheus alone; the store shows them beside its documents, by asking for them.

use serde_json::{Value, json};

use super::{Error, Outcome, server::Server};

/// Makes the data source that the saved objects name.
pub(super) fn ready(server: &Server, url: &str) -> Result<Outcome, Error> {
    let path = "_plugins/_query/_datasources";
    let answer = server.get(&format!("{path}/{}", documents::PROMETHEUS))?;
    if answer.is_unknown() {
        return Ok(Outcome::Absent(
            "the store has no query plugin: metrics are in Prometheus alone".to_owned(),
        ));
    }
    let Some(there) = answer.found()? else {
        let body = json!({
            "name": documents::PROMETHEUS,
            "connector": "prometheus",
            "properties": {"prometheus.uri": url},
        });
        return match server.post(path, Some(&body))?.done() {
            Ok(_) => Ok(Outcome::Made),
            // Documents need none of it.
            Err(refused @ Error::Refused { .. }) => {
                Ok(Outcome::Absent(format!("{refused}: metrics are in Prometheus alone")))
            }
            Err(error) => Err(error),
        };
    };
    let there = there.get("properties").and_then(|of| of.get("prometheus.uri")).and_then(Value::as_str);
    Ok(match there {
        Some(there) if there == url => Outcome::AsItIs,
        there => Outcome::Differs(format!("it asks {}, and not {url}: left so", there.unwrap_or("nobody"))),
    })
}
