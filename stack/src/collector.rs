//! The collector's configuration: a receiver, a pipeline and an exporter for each lane, which share nothing.
//!
//! What arrives by a lane goes to that lane's stream, whatever it says of itself. No queue and no batch stands between a
//! receiver and the store, so the answer that a sender gets is the store's.

use serde_json::{Map, Value, json};

use crate::{Lane, coredns::LINE};

/// What the collector is told besides the lanes.
#[derive(Clone, Debug)]
pub struct Collector {
    /// Where the store answers, as `https://host:port`.
    pub store: String,
    /// Folder that the collector sees certificates in: `server.crt`, `server.key`, and `<lane>-ca.crt` for each lane.
    pub certificates: String,
    /// Files of the resolver's log, as a pattern.
    pub resolver_log: String,
    /// Folder where it keeps how far it has read them.
    pub state: String,
    /// Where Prometheus fetches metrics.
    pub metrics: String,
}

impl Collector {
    /// The configuration.
    #[must_use]
    pub fn config(&self) -> Value {
        let mut receivers = Map::new();
        let mut processors = Map::new();
        let mut exporters = Map::new();
        let mut pipelines = Map::new();
        for lane in Lane::ALL {
            let receiver = match lane.port() {
                Some(port) => (format!("otlp/{}", lane.word()), self.receiver(lane, port)),
                None => (format!("filelog/{}", lane.word()), self.file()),
            };
            let exporter = format!("opensearch/{}", lane.word());
            let mut of_lane = Vec::new();
            for (name, processor) in processors_of(lane) {
                let name = format!("{name}/{}", lane.word());
                of_lane.push(name.clone());
                processors.insert(name, processor);
            }
            pipelines.insert(
                format!("logs/{}", lane.word()),
                json!({"receivers": [receiver.0], "processors": of_lane, "exporters": [exporter]}),
            );
            receivers.insert(receiver.0, receiver.1);
            exporters.insert(exporter, self.exporter(lane));
        }
        // Metrics go to Prometheus alone, and events to the store alone.
        exporters.insert("prometheus".to_owned(), json!({"endpoint": self.metrics}));
        pipelines.insert(
            "metrics/claude".to_owned(),
            json!({"receivers": ["otlp/claude"], "processors": [], "exporters": ["prometheus"]}),
        );
        json!({
            "receivers": receivers,
            "processors": processors,
            "exporters": exporters,
            "extensions": {"file_storage": {"directory": self.state}, "health_check": {"endpoint": "0.0.0.0:13133"}},
            "service": {
                "extensions": ["file_storage", "health_check"],
                "pipelines": pipelines,
                "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "info"}},
            },
        })
    }

    /// OTLP, for whoever has a certificate of the lane's own authority. The untrusted lane asks for none.
    fn receiver(&self, lane: Lane, port: u16) -> Value {
        let file = |name: &str| format!("{}/{name}", self.certificates);
        let mut tls =
            json!({"cert_file": file("server.crt"), "key_file": file("server.key"), "min_version": "1.3"});
        if let (true, Some(tls)) = (lane.is_trusted(), tls.as_object_mut()) {
            tls.insert("client_ca_file".to_owned(), json!(file(&format!("{}-ca.crt", lane.word()))));
        }
        json!({"protocols": {"grpc": {"endpoint": format!("0.0.0.0:{port}"), "tls": tls, "max_recv_msg_size_mib": 16}}})
    }

    /// The resolver's log. A line that is not as it should be goes on whole, and is told as such.
    fn file(&self) -> Value {
        let fields = "(?P<block>\\S+) =(?P<agent>\\S*) =(?P<project>\\S*) =(?P<container_id>\\S*) \
            \\[?(?P<src_ip>[^\\s\\]]+)\\]? (?P<src_port>\\d+) (?P<l4_proto>\\S+) (?P<dns_id>\\d+) (?P<qtype>\\S+) (?P<qclass>\\S+) \
            (?P<rcode>\\S+) (?P<flags>\\S+) (?P<size>\\S+) (?P<rsize>\\S+) (?P<duration>\\S+)s (?P<qname>.*)";
        json!({
            "include": [self.resolver_log],
            "start_at": "beginning",
            "storage": "file_storage",
            "operators": [{"type": "regex_parser", "regex": format!("^(?:\\[INFO\\] )?{LINE} {fields}$"), "on_error": "send_quiet"}],
            "retry_on_failure": {"enabled": true, "max_elapsed_time": "0s"},
        })
    }

    fn exporter(&self, lane: Lane) -> Value {
        json!({
            "http": {"endpoint": self.store},
            "logs_index": lane.stream(),
            "bulk_action": "create",
            "sending_queue": {"enabled": false},
            "retry_on_failure": {"enabled": false},
            "timeout": "30s",
        })
    }
}

/// What is done to a lane's records, by name, in order.
fn processors_of(lane: Lane) -> Vec<(&'static str, Value)> {
    let mut processors = vec![(
        "resource",
        // What a sender says of itself is the lane's to say.
        json!({"attributes": [
            {"key": "service.name", "value": lane.stream(), "action": "upsert"},
            {"key": "telemetry.sdk.name", "action": "delete"},
            {"key": "telemetry.sdk.version", "action": "delete"},
            {"key": "telemetry.sdk.language", "action": "delete"},
        ]}),
    )];
    let statements = match lane {
        Lane::Envoy => envoy(),
        Lane::Coredns => coredns(),
        Lane::Egress | Lane::Claude | Lane::Cp | Lane::Overseer => return processors,
    };
    // Whatever a statement cannot be done to is refused, not let through half done.
    processors.push((
        "transform",
        json!({"error_mode": "propagate", "log_statements": [{"context": "log", "statements": statements}]}),
    ));
    processors
}

/// Numbers, and addresses without their ports. What Envoy does not know is `-`, or empty.
fn envoy() -> Vec<String> {
    let mut statements = Vec::new();
    for key in ["src", "actual_dst"] {
        let pattern = format!(r#"^\\[?(?P<{key}_ip>[^\\]]+?)\\]?:(?P<{key}_port>\\d+)$"#);
        statements.push(format!(
            r#"merge_maps(attributes, ExtractPatterns(attributes["{key}"], "{pattern}"), "upsert") where attributes["{key}"] != nil and attributes["{key}"] != "-" and attributes["{key}"] != """#
        ));
        statements.push(format!(r#"delete_key(attributes, "{key}")"#));
    }
    for key in TEXT_OR_NOTHING {
        statements.push(format!(
            r#"delete_key(attributes, "{key}") where attributes["{key}"] == "-" or attributes["{key}"] == """#
        ));
    }
    for key in [
        "src_port",
        "dst_port",
        "actual_dst_port",
        "bytes_in",
        "bytes_out",
        "duration_ms",
        "response_code",
        "grpc_status",
    ] {
        statements.push(format!(
            r#"set(attributes["{key}"], Int(attributes["{key}"])) where attributes["{key}"] != nil"#
        ));
    }
    statements
}

/// Attributes of Envoy's that are absent where it writes nothing.
const TEXT_OR_NOTHING: [&str; 16] = [
    "dst_host",
    "dst_port",
    "sni",
    "response_flags",
    "close_reason",
    "termination",
    "method",
    "path",
    "request_host",
    "response_code_details",
    "grpc_status",
    "response_code",
    "protocol",
    "upgrade",
    "content_type",
    "reason",
];

/// Labels as they are, numbers, and the verdict: of the block that took the question, and who answered it.
fn coredns() -> Vec<String> {
    let parsed = r#"attributes["block"] != nil"#;
    let mut statements = Vec::new();
    for key in ["agent", "project", "container_id"] {
        statements.push(format!(
            r#"set(attributes["{key}"], Decode(attributes["{key}"], "base64")) where {parsed}"#
        ));
    }
    statements.extend([
        format!(r#"set(attributes["verdict"], "ALLOWED") where {parsed}"#),
        // The resolver answers what no rule knows under a bypass alone.
        r#"set(attributes["verdict"], "BYPASSED") where attributes["block"] == "unruled""#.to_owned(),
        r#"set(attributes["verdict"], "DENIED") where attributes["block"] == "nobody" or (attributes["flags"] != nil and IsMatch(attributes["flags"], "(^|,)aa(,|$)"))"#.to_owned(),
        format!(r#"set(attributes["duration_ms"], Double(attributes["duration"]) * 1000.0) where {parsed}"#),
    ]);
    for key in ["src_port", "dns_id", "size", "rsize"] {
        statements.push(format!(
            r#"set(attributes["{key}"], Int(attributes["{key}"])) where attributes["{key}"] != nil"#
        ));
    }
    for key in ["block", "duration", "log.file.name"] {
        statements.push(format!(r#"delete_key(attributes, "{key}")"#));
    }
    // Its content is in the attributes; a line that was not understood stays, cut.
    statements.extend([
        r#"set(attributes["parsed"], true) where attributes["verdict"] != nil"#.to_owned(),
        r#"set(attributes["parsed"], false) where attributes["verdict"] == nil"#.to_owned(),
        r#"set(body, "dns") where attributes["verdict"] != nil"#.to_owned(),
        r#"set(body, Substring(body, 0, 1024)) where attributes["verdict"] == nil and Len(body) > 1024"#
            .to_owned(),
        "set(time, observed_time) where time_unix_nano == 0".to_owned(),
    ]);
    statements
}
