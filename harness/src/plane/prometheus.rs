//! Prometheus, and what the harness asks of it.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::Value;
use stack::Prometheus as Configuration;
use ureq::Agent;

use super::{LOOK, answers};
use crate::{
    docker::{Container, Docker, Network, Order},
    interrupt,
};

/// Between two looks of Prometheus' own.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long it may take until it has looked again.
const LOOK_LIMIT: Duration = Duration::from_secs(15);

/// What it has once it has asked the relay.
const RELAYED: &str = "clawker_relay_bytes_bound";

/// Back from now, exemplars are looked for in: longer than any run.
const EXEMPLARS: u64 = 2 * 86_400;

/// A running Prometheus. Dropping it ends and removes it.
pub(super) struct Prometheus {
    container: Container,
    url: String,
    agent: Agent,
}

/// A series as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its labels, the name among them as `__name__`.
    pub labels: BTreeMap<String, String>,
    /// Its last value.
    pub value: f64,
}

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

/// Who asks.
pub(super) fn agent() -> Agent {
    Agent::config_builder().timeout_global(Some(LOOK_LIMIT)).proxy(None).build().new_agent()
}

impl Prometheus {
    /// Starts it in `folder`, and waits until it answers and has asked the relay.
    pub fn start(
        docker: &Docker,
        folder: &Path,
        collector: SocketAddr,
        relay: SocketAddr,
    ) -> anyhow::Result<Self> {
        let configuration = Configuration {
            agents: vec![collector.to_string()],
            collector: Vec::new(),
            reader: Vec::new(),
            relay: vec![relay.to_string()],
            interval: INTERVAL,
        };
        let file = folder.join("prometheus.yml");
        fs::write(&file, configuration.config().to_string())
            .with_context(|| format!("cannot write {}", file.display()))?;
        let order = Order::new("prometheus", "prometheus", Network::Named(Docker::network()));
        let order = order.sees(&file, "/etc/prometheus/prometheus.yml").told([
            "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path=/prometheus",
            // It keeps more than the one that ships, so that more is looked at.
            "--enable-feature=exemplar-storage",
        ]);
        let container = docker.start(order)?;
        let address: IpAddr = container.address(&Docker::network())?;
        let prometheus =
            Self { container, url: format!("http://{}", SocketAddr::new(address, 9090)), agent: agent() };
        answers(&prometheus.container, || prometheus.query(RELAYED).is_ok_and(|found| !found.is_empty()))?;
        Ok(prometheus)
    }

    /// The agents' series that have one of these `containers`, once it has looked after what happened up to now.
    pub fn series_of(&self, containers: &[&str]) -> anyhow::Result<Vec<Series>> {
        self.looked_since(SystemTime::now())?;
        let mut of_containers = self.query(&format!("{{job=\"{}\"}}", Configuration::AGENTS))?;
        of_containers.retain(|series| {
            series.labels.get("container_id").is_some_and(|id| containers.contains(&id.as_str()))
        });
        Ok(of_containers)
    }

    /// Every series that it has.
    pub fn all(&self) -> anyhow::Result<Vec<Series>> {
        self.looked_since(SystemTime::now())?;
        self.query("{__name__=~\".+\"}")
    }

    /// What it keeps beside series: what is said of them (HELP, unit), and exemplars.
    pub fn beside(&self) -> anyhow::Result<[(&'static str, Value); 2]> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let metadata = self.agent.get(format!("{}/api/v1/metadata", self.url));
        let exemplars = self
            .agent
            .get(format!("{}/api/v1/query_exemplars", self.url))
            .query("query", "{__name__=~\".+\"}")
            .query("start", now.saturating_sub(EXEMPLARS).to_string())
            .query("end", now.saturating_add(60).to_string());
        let data = |mut answer: Value| match answer.get_mut("data").map(Value::take) {
            Some(data @ (Value::Object(_) | Value::Array(_))) => Ok(data),
            _ => bail!("Prometheus has no data in its answer {answer}"),
        };
        Ok([
            ("Prometheus' metadata", data(metadata.call()?.body_mut().read_json()?)?),
            ("Prometheus' exemplars", data(exemplars.call()?.body_mut().read_json()?)?),
        ])
    }

    /// Its container.
    pub const fn container(&self) -> &Container {
        &self.container
    }

    /// Waits until it has asked the collector after that moment, and had an answer.
    fn looked_since(&self, moment: SystemTime) -> anyhow::Result<()> {
        let moment = moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let deadline = Instant::now() + LOOK_LIMIT;
        loop {
            let looked = self.query(&format!("timestamp(up{{job=\"{}\"}} == 1)", Configuration::AGENTS))?;
            if looked.iter().any(|series| series.value > moment) {
                return Ok(());
            }
            if let Some(signal) = interrupt::requested() {
                bail!("interrupted by {signal}");
            }
            if Instant::now() >= deadline {
                bail!("Prometheus has not had the agents' metrics from the collector within {LOOK_LIMIT:?}");
            }
            std::thread::sleep(LOOK);
        }
    }

    fn query(&self, query: &str) -> anyhow::Result<Vec<Series>> {
        let mut answer = self.agent.get(format!("{}/api/v1/query", self.url)).query("query", query).call()?;
        let answer: Answer =
            answer.body_mut().read_json().with_context(|| format!("the answer to {query}"))?;
        let series = answer.data.result.into_iter();
        series
            .map(|found| {
                let value =
                    found.value.1.parse().with_context(|| format!("the value of {:?}", found.metric))?;
                Ok(Series { labels: found.metric, value })
            })
            .collect()
    }
}
