//! The collectors' configurations: for each lane a receiver, pipelines and exporters, which share nothing but the process.
//! That of agents has a process of its own: its senders are hostile, and a small request of theirs is a large one decoded.
//!
//! What arrives by a lane goes to that lane's stream, whatever it says of itself. No queue and no batch stands between a
//! receiver and what answers for it: the store, where the sender keeps its records until then; else the relay, which has
//! them on its disk, and sends them to the lane's second receiver until the store has answered.

mod agents;
mod coredns;
mod envoy;
mod metrics;

use serde_json::{Map, Value, json};

use crate::Lane;

/// Header of a request to the relay that says which lane its records came by.
const LANE_HEADER: &str = "clawker-lane";
/// The authority that the relay and the collector know each other by.
pub const RELAY: &str = "relay";

/// Bytes of the largest request of an agent's, unpacked.
const FROM_AGENTS: u32 = 1 << 20;

/// MiB that the agents' collector is to have, as its container's bound.
pub const AGENTS_MEMORY: u32 = 768;
/// MiB of memory from which on it refuses what comes, for senders to try again; and how many it keeps free of that for what
/// comes between two looks.
const REFUSES_AT: (u32, u32) = (480, 160);
/// What it is to have in its environment: from so much on, what is not used any more is looked for the whole time.
pub const AGENTS_VARIABLE: (&str, &str) = ("GOMEMLIMIT", "600MiB");
/// MiB that the collector of our own lanes is to have.
pub const OUR_MEMORY: u32 = 512;
/// From when on it refuses what Envoy tells of requests, which agents make as many of as they like; no other lane is refused.
const REFUSES_ENVOY_AT: (u32, u32) = (384, 96);
/// What it is to have in its environment.
pub const OUR_VARIABLE: (&str, &str) = ("GOMEMLIMIT", "450MiB");
/// Port where a collector says that it runs, at any path.
pub const HEALTH: u16 = 13_133;
/// Port of what the agents' collector tells Prometheus of itself: what it refused, among others.
pub const AGENTS_OWN_METRICS: u16 = 8888;

/// What the collectors are told besides the lanes.
#[derive(Clone, Debug)]
pub struct Collector {
    /// Where the store answers, as `https://host:port`.
    pub store: String,
    /// How it comes in there; `None` where the store asks nobody who he is.
    pub login: Option<Login>,
    /// Where the relay listens, as `host:port`, a name or address of its certificate. Without one its lanes' answers are
    /// the store's too.
    pub relay: Option<String>,
    /// Folder that the collector sees certificates in: `server.crt`, `server.key`, and `<lane>-ca.crt` for each lane; with
    /// a relay also `relay-ca.crt`, and `to-relay.crt` and `to-relay.key`, which the relay is shown.
    pub certificates: String,
    /// Folder of the resolver's log, as `svlogd` keeps it; or several, as a pattern.
    pub resolver_log: String,
    /// Folder where it keeps how far it has read them.
    pub state: String,
    /// Where Prometheus fetches agents' metrics.
    pub metrics: String,
}

/// Who the collector is to a store that asks.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user: `Wanted::writer` of the store.
    pub user: String,
    /// File in which the collector sees the password, and nothing else, not the end of a line either; each `$` of it twice, for one
    /// begins what is put in the place of something. It is in no configuration.
    pub password: String,
    /// File in which it sees the authorities (PEM) that the store's certificate is checked by; `None` for the machine's.
    pub authority: Option<String>,
}

/// The extension that has the [`Login`].
const LOGIN: &str = "basicauth/store";

/// The parts, as they are gathered.
#[derive(Default)]
struct Parts {
    receivers: Map<String, Value>,
    processors: Map<String, Value>,
    exporters: Map<String, Value>,
    pipelines: Map<String, Value>,
}

impl Collector {
    /// The configuration of the one that has the lanes of our own senders.
    #[must_use]
    pub fn config(&self) -> Value {
        let mut config = self.of(|lane| lane.is_trusted());
        put(&mut config, "/extensions", "file_storage", json!({"directory": self.state}));
        if let Some(extensions) = config.pointer_mut("/service/extensions").and_then(Value::as_array_mut) {
            extensions.push(json!("file_storage"));
        }
        config
    }

    /// That of the one that has the agents' lane, and nothing else. Its memory has a bound, short of which it refuses.
    #[must_use]
    pub fn agents_config(&self) -> Value {
        let mut config = self.of(|lane| !lane.is_trusted());
        let reader = json!({"pull": {"exporter": {"prometheus": {
            "host": "0.0.0.0",
            "port": AGENTS_OWN_METRICS,
            // Names as its documentation has them.
            "without_scope_info": true,
            "without_type_suffix": true,
            "without_units": true,
        }}}});
        put(&mut config, "/service/telemetry", "metrics", json!({"level": "normal", "readers": [reader]}));
        config
    }

    fn of(&self, has: impl Fn(Lane) -> bool) -> Value {
        let mut parts = Parts::default();
        for lane in Lane::ALL.into_iter().filter(|lane| has(*lane)) {
            self.add(lane, &mut parts);
            if lane == Lane::Claude {
                self.add_metrics(&mut parts);
            }
        }
        let mut extensions =
            Map::from_iter([("health_check".to_owned(), json!({"endpoint": format!("0.0.0.0:{HEALTH}")}))]);
        if let Some(Login { user, password, .. }) = &self.login {
            // Read when it starts.
            let (user, password) = (user.replace('$', "$$"), format!("${{file:{password}}}"));
            let client = json!({"client_auth": {"username": user, "password": password}});
            extensions.insert(LOGIN.to_owned(), client);
        }
        let started: Vec<&String> = extensions.keys().collect();
        json!({
            "receivers": parts.receivers,
            "processors": parts.processors,
            "exporters": parts.exporters,
            "service": {
                "extensions": started,
                "pipelines": parts.pipelines,
                "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "info"}},
            },
            "extensions": extensions,
        })
    }

    fn add(&self, lane: Lane, parts: &mut Parts) {
        let word = lane.word();
        let (receiver, settings) = match lane.port() {
            Some(port) => (format!("otlp/{word}"), self.of_lane(lane, port)),
            None => (format!("filelog/{word}"), coredns::receiver(&self.resolver_log)),
        };
        parts.receivers.insert(receiver.clone(), settings);
        let mut processors = Vec::new();
        for (name, processor) in processors_of(lane) {
            let name = format!("{name}/{word}");
            processors.push(name.clone());
            parts.processors.insert(name, processor);
        }
        let store = format!("opensearch/{word}");
        parts.exporters.insert(store.clone(), self.to_store(lane));
        let mut exporter = store.clone();
        if let (Some(relay), Some(port)) = (&self.relay, lane.kept_port()) {
            exporter = format!("otlp/{word}");
            parts.exporters.insert(exporter.clone(), self.to_relay(lane, relay));
            // What the relay kept has been through the processors.
            let kept = format!("{word}-kept");
            parts.receivers.insert(format!("otlp/{kept}"), self.receiver(port, RELAY));
            parts.pipelines.insert(
                format!("logs/{kept}"),
                json!({"receivers": [format!("otlp/{kept}")], "processors": [], "exporters": [store]}),
            );
        }
        parts.pipelines.insert(
            format!("logs/{word}"),
            json!({"receivers": [receiver], "processors": processors, "exporters": [exporter]}),
        );
    }

    /// Agents' metrics go to Prometheus alone, and their events to the store alone.
    fn add_metrics(&self, parts: &mut Parts) {
        let steps = [
            ("memory_limiter/claude", bounded(REFUSES_AT)),
            ("filter/claude-known", metrics::known()),
            ("attributes/claude", agents::identity()),
            ("transform/claude-metrics", metrics::remade()),
            ("filter/claude-rising", metrics::rising()),
        ];
        let processors: Vec<&str> = steps.iter().map(|(name, _)| *name).collect();
        let pipeline =
            json!({"receivers": ["otlp/claude"], "processors": processors, "exporters": ["prometheus"]});
        parts.pipelines.insert("metrics/claude".to_owned(), pipeline);
        parts.processors.extend(steps.map(|(name, processor)| (name.to_owned(), processor)));
        let exporter = json!({
            "endpoint": self.metrics,
            // A container that has nothing to tell for a while goes on from where it was.
            "metric_expiration": "24h",
        });
        parts.exporters.insert("prometheus".to_owned(), exporter);
    }

    /// A lane's own receiver. That of agents also speaks HTTP, and keeps what the proxy says of a request.
    fn of_lane(&self, lane: Lane, port: u16) -> Value {
        let mut receiver = self.receiver(port, lane.word());
        let (Some(http), Some(protocols)) =
            (lane.http_port(), receiver.get_mut("protocols").and_then(Value::as_object_mut))
        else {
            return receiver;
        };
        if let Some(grpc) = protocols.get_mut("grpc").and_then(Value::as_object_mut) {
            grpc.insert("include_metadata".to_owned(), json!(true));
            grpc.insert("max_recv_msg_size_mib".to_owned(), json!(FROM_AGENTS >> 20));
        }
        let http = json!({
            "endpoint": format!("0.0.0.0:{http}"),
            "tls": self.tls(lane.word()),
            "include_metadata": true,
            "max_request_body_size": FROM_AGENTS,
        });
        protocols.insert("http".to_owned(), http);
        receiver
    }

    /// OTLP, for whoever has a certificate of this authority.
    fn receiver(&self, port: u16, authority: &str) -> Value {
        let grpc = json!({
            "endpoint": format!("0.0.0.0:{port}"),
            "tls": self.tls(authority),
            "max_recv_msg_size_mib": 16,
        });
        json!({"protocols": {"grpc": grpc}})
    }

    fn tls(&self, authority: &str) -> Value {
        json!({
            "cert_file": self.certificate("server.crt"),
            "key_file": self.certificate("server.key"),
            "client_ca_file": self.certificate(&format!("{authority}-ca.crt")),
            "min_version": "1.3",
        })
    }

    fn to_store(&self, lane: Lane) -> Value {
        let mut http = json!({"endpoint": self.store});
        if let Some(Login { authority, .. }) = &self.login {
            put(&mut http, "", "auth", json!({"authenticator": LOGIN}));
            if let Some(authority) = authority {
                put(&mut http, "", "tls", json!({"ca_file": authority}));
            }
        }
        json!({
            "http": http,
            "logs_index": lane.stream(),
            "bulk_action": "create",
            "sending_queue": {"enabled": false},
            "retry_on_failure": {"enabled": false},
            "timeout": "30s",
        })
    }

    /// A sender that waits for its answer does so while the relay starts again; what agents send holds no memory here.
    fn to_relay(&self, lane: Lane, relay: &str) -> Value {
        json!({
            "endpoint": relay,
            "headers": {LANE_HEADER: lane.word()},
            // It is near, and reads what comes as it is.
            "compression": "none",
            "tls": {
                "ca_file": self.certificate(&format!("{RELAY}-ca.crt")),
                "cert_file": self.certificate("to-relay.crt"),
                "key_file": self.certificate("to-relay.key"),
                "min_version": "1.3",
            },
            "sending_queue": {"enabled": false},
            "retry_on_failure": {
                "enabled": lane.is_trusted(),
                "initial_interval": "100ms",
                "max_interval": "1s",
                "max_elapsed_time": "30s",
            },
            "timeout": "10s",
        })
    }

    fn certificate(&self, name: &str) -> String {
        format!("{}/{name}", self.certificates)
    }
}

/// What is done to a lane's records, by name, in order.
fn processors_of(lane: Lane) -> Vec<(&'static str, Value)> {
    if lane == Lane::Claude {
        return vec![
            ("memory_limiter", bounded(REFUSES_AT)),
            ("filter", agents::named()),
            ("attributes", agents::identity()),
            ("transform", agents::logs()),
        ];
    }
    let mut processors = Vec::new();
    if lane == Lane::Envoy {
        // Before anything is made of it.
        processors.push(("memory_limiter", bounded(REFUSES_ENVOY_AT)));
    }
    processors.push((
        "resource",
        // What a sender says of itself is the lane's to say.
        json!({"attributes": [
            {"key": "service.name", "value": lane.stream(), "action": "upsert"},
            {"key": "telemetry.sdk.name", "action": "delete"},
            {"key": "telemetry.sdk.version", "action": "delete"},
            {"key": "telemetry.sdk.language", "action": "delete"},
        ]}),
    ));
    let statements = match lane {
        Lane::Envoy => envoy::statements(),
        Lane::Coredns => coredns::statements(),
        Lane::Egress | Lane::Claude | Lane::Cp | Lane::Overseer => return processors,
    };
    // Whatever a statement cannot be done to is refused, not let through half done.
    processors.push((
        "transform",
        json!({"error_mode": "propagate", "log_statements": [{"context": "log", "statements": statements}]}),
    ));
    processors
}

/// Refuses while there is little memory left; the answer is one after which a sender tries again.
fn bounded((limit, spike): (u32, u32)) -> Value {
    json!({
        "check_interval": "100ms",
        "limit_mib": limit,
        "spike_limit_mib": spike,
        // What is not used any more is no reason to refuse for long.
        "min_gc_interval_when_soft_limited": "1s",
    })
}

/// Sets a field of what is at `pointer`.
fn put(config: &mut Value, pointer: &str, field: &str, value: Value) {
    if let Some(fields) = config.pointer_mut(pointer).and_then(Value::as_object_mut) {
        fields.insert(field.to_owned(), value);
    }
}
