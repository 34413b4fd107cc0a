//! What Envoy itself counts of its access log that it could not hand over. What a kill finds in its memory is not among it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::clusters::COLLECTOR;

/// What its administration is asked for it: the counters of the access loggers, and of their cluster.
pub const LOG_LOST: &str = "/stats?format=json&filter=access_logs.open_telemetry_access_log.logs_dropped|cluster.collector.upstream_rq_";

/// Entries of the access log, a request or a connection each, that are lost for good since Envoy was started; and the
/// requests that they were sent in, by what became of those. A request has the entries of a second, or 16 KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LogLost {
    /// Entries that the collector did not take, for whatever reason.
    pub entries: u64,
    /// Requests that were sent again as often as they may be.
    pub given_up: u64,
    /// Requests that were not sent, or not again, because more of them waited than may.
    pub overflown: u64,
}

impl LogLost {
    /// By Envoy's answer to [`LOG_LOST`]; `None` if that does not tell.
    #[must_use]
    pub fn read(answer: &[u8]) -> Option<Self> {
        let answer: Value = serde_json::from_slice(answer).ok()?;
        let named = |one: &Value| Some((one.get("name")?.as_str()?.to_owned(), one.get("value")?.as_u64()?));
        let counters: BTreeMap<String, u64> =
            answer.get("stats")?.as_array()?.iter().filter_map(named).collect();
        let of_cluster =
            |name: &str| counters.get(&format!("cluster.{COLLECTOR}.upstream_rq_{name}")).copied();
        // Without a listener there is no logger, and nothing of one.
        let entries = counters.get("access_logs.open_telemetry_access_log.logs_dropped");
        Some(Self {
            entries: entries.copied().unwrap_or_default(),
            given_up: of_cluster("retry_limit_exceeded")?,
            overflown: of_cluster("retry_overflow")?.saturating_add(of_cluster("pending_overflow")?),
        })
    }

    /// Whether any is.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        self.entries > 0 || self.given_up > 0 || self.overflown > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_envoy_says_is_read_by_name() {
        let answer = r#"{"stats": [
            {"name": "access_logs.open_telemetry_access_log.logs_dropped", "value": 10},
            {"name": "cluster.collector.upstream_rq_pending_overflow", "value": 1},
            {"name": "cluster.collector.upstream_rq_retry", "value": 180},
            {"name": "cluster.collector.upstream_rq_retry_limit_exceeded", "value": 3},
            {"name": "cluster.collector.upstream_rq_retry_overflow", "value": 7},
            {"histograms": {"supported_quantiles": [0, 25]}}
        ]}"#;
        let lost = LogLost { entries: 10, given_up: 3, overflown: 8 };
        assert_eq!(LogLost::read(answer.as_bytes()), Some(lost));
        let one_is_not_told = answer.replace("retry_overflow", "retry_whatever");
        assert_eq!(LogLost::read(one_is_not_told.as_bytes()), None);
        let no_listener = answer.replace("logs_dropped", "logs_written");
        assert_eq!(LogLost::read(no_listener.as_bytes()), Some(LogLost { entries: 0, ..lost }));
        assert_eq!(LogLost::read(b"{}"), None);
    }
}
