//! What Prometheus is told: whom it asks for metrics, and how many it takes from each.

use std::time::Duration;

use serde_json::{Value, json};

/// Labels of one series: those of an agent's counters, Prometheus' own, and room for a few.
const LABELS: u32 = 24;
/// Bytes of a label's value. The collector cuts what is longer, to 256 characters; a target that sends a longer one is
/// not taken at all.
const LONGEST: u32 = 2048;
/// Series of all agents together. A container has at most some two thousand, and usually twenty.
const OF_AGENTS: u32 = 500_000;
/// Series of one of our own programs.
const OF_OURS: u32 = 50_000;

/// Where metrics are, as `host:port`.
#[derive(Clone, Debug)]
pub struct Prometheus {
    /// The agents' collector's, which have those of agents.
    pub agents: Vec<String>,
    /// Those that it has of itself: what it took, and what it refused.
    pub collector: Vec<String>,
    /// The readers'.
    pub reader: Vec<String>,
    /// The relay's.
    pub relay: Vec<String>,
    /// Between two looks.
    pub interval: Duration,
}

impl Prometheus {
    /// Job of the agents' metrics.
    pub const AGENTS: &str = "agents";

    /// The configuration; what is JSON is YAML too.
    #[must_use]
    pub fn config(&self) -> Value {
        let jobs = [
            (Self::AGENTS, &self.agents, OF_AGENTS),
            ("collector", &self.collector, OF_OURS),
            ("reader", &self.reader, OF_OURS),
            ("relay", &self.relay, OF_OURS),
        ];
        let jobs: Vec<Value> = jobs
            .into_iter()
            .filter(|(_, targets, _)| !targets.is_empty())
            .map(|(name, targets, most)| {
                json!({
                    "job_name": name,
                    "static_configs": [{"targets": targets}],
                    "sample_limit": most,
                    "label_limit": LABELS,
                    "label_value_length_limit": LONGEST,
                    // A target's labels never stand for Prometheus' own, nor its times.
                    "honor_labels": false,
                    "honor_timestamps": false,
                })
            })
            .collect();
        let interval = format!("{}ms", self.interval.as_millis());
        json!({
            "global": {"scrape_interval": interval, "scrape_timeout": interval},
            "scrape_configs": jobs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_asked_is_whom_there_is_and_each_has_its_limits() {
        let prometheus = Prometheus {
            agents: vec!["collector.test:9464".to_owned()],
            collector: vec!["collector.test:8888".to_owned()],
            reader: Vec::new(),
            relay: vec!["relay.test:9465".to_owned()],
            interval: Duration::from_secs(15),
        };
        let config = prometheus.config();
        let jobs = config.get("scrape_configs").and_then(Value::as_array).expect("jobs");
        let names: Vec<&str> =
            jobs.iter().filter_map(|job| job.get("job_name").and_then(Value::as_str)).collect();
        assert_eq!(names, ["agents", "collector", "relay"]);
        for job in jobs {
            for limit in ["sample_limit", "label_limit", "label_value_length_limit"] {
                assert!(job.get(limit).and_then(Value::as_u64).is_some_and(|limit| limit > 0), "{job}");
            }
            for honored in ["honor_labels", "honor_timestamps"] {
                assert_eq!(job.get(honored), Some(&json!(false)), "{job}");
            }
        }
        assert_eq!(config.pointer("/global/scrape_interval"), Some(&json!("15000ms")));
    }
}
