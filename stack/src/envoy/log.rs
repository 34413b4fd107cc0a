//! The access log: one OTLP record a request, or a connection that is handed on or refused.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{attributes, clusters};
use crate::Container;

/// What a connection has once no limit refused it.
pub(super) const ADMITTED: &str = "clawker.admitted";

/// What a chain is marked with, for what is told of it by its listener.
pub(super) fn labels(container: &Container) -> Value {
    let Container { container_id, agent, project, .. } = container;
    json!({"filter_metadata": {"clawker": {"agent": agent, "project": project, "container_id": container_id}}})
}

/// What is known of every entry of a container.
fn of(container: &Container, l7_proto: &str) -> BTreeMap<&'static str, String> {
    let mut fields = unlabelled(l7_proto);
    fields.extend([
        ("agent", literal(&container.agent)),
        ("project", literal(&container.project)),
        ("container_id", literal(&container.container_id)),
    ]);
    fields
}

/// What is known of every entry.
fn unlabelled(l7_proto: &str) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("l4_proto", "tcp".to_owned()),
        ("l7_proto", l7_proto.to_owned()),
        // Which of the proxy's ports was handed it: the flow's actual destination.
        ("listener_port", "%DOWNSTREAM_LOCAL_PORT%".to_owned()),
        ("src", "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%".to_owned()),
        ("actual_dst", "%UPSTREAM_REMOTE_ADDRESS%".to_owned()),
        // For the collector: whether anything went out at all.
        ("sent", "%UPSTREAM_WIRE_BYTES_SENT%".to_owned()),
        ("bytes_in", "%BYTES_SENT%".to_owned()),
        ("bytes_out", "%BYTES_RECEIVED%".to_owned()),
        ("duration_ms", "%DURATION%".to_owned()),
        ("response_flags", "%RESPONSE_FLAGS%".to_owned()),
        ("close_reason", "%DOWNSTREAM_DETECTED_CLOSE_TYPE%".to_owned()),
        ("termination", "%CONNECTION_TERMINATION_DETAILS%".to_owned()),
        ("sni", "%REQUESTED_SERVER_NAME%".to_owned()),
    ])
}

/// Of requests: the route says the verdict.
pub(super) fn requests(container: &Container, l7_proto: &str) -> Value {
    let mut fields = of(container, l7_proto);
    fields.extend([
        ("verdict", "%METADATA(ROUTE:clawker:verdict)%".to_owned()),
        ("reason", "%METADATA(ROUTE:clawker:reason)%".to_owned()),
        ("dst_port", "%METADATA(ROUTE:clawker:dst_port)%".to_owned()),
        ("method", "%REQ(:METHOD):64%".to_owned()),
        // Cut at the source: a path may be as long as the sender likes.
        ("path", "%REQ(:PATH):1024%".to_owned()),
        ("request_host", "%REQ(:AUTHORITY):255%".to_owned()),
        ("response_code", "%RESPONSE_CODE%".to_owned()),
        ("response_code_details", "%RESPONSE_CODE_DETAILS%".to_owned()),
        ("grpc_status", "%GRPC_STATUS_NUMBER%".to_owned()),
        ("protocol", "%PROTOCOL%".to_owned()),
        ("upgrade", "%REQ(UPGRADE):64%".to_owned()),
        ("content_type", "%REQ(CONTENT-TYPE):128%".to_owned()),
    ]);
    logger(&fields)
}

/// Of telemetry that was not taken. Nothing of it but that: all that it consists of may be a prompt, its path included.
pub(super) fn telemetry(container: &Container) -> Value {
    let mut fields = of(container, "https");
    fields.remove("sni");
    fields.extend([
        ("verdict", "DENIED".to_owned()),
        ("reason", "telemetry".to_owned()),
        ("response_code", "%RESPONSE_CODE%".to_owned()),
        ("response_code_details", "%RESPONSE_CODE_DETAILS%".to_owned()),
    ]);
    let mut log = logger(&fields);
    if let Some(of) = log.as_object_mut() {
        let refused =
            json!({"op": "GE", "value": {"default_value": 400, "runtime_key": "clawker.telemetry"}});
        of.insert("filter".to_owned(), json!({"status_code_filter": {"comparison": refused}}));
    }
    log
}

/// Of connections, whose verdict is known beforehand; those that a limit refused are not among them.
pub(super) fn connections(
    container: &Container,
    verdict: &str,
    reason: &str,
    dst: Option<(&str, u16)>,
) -> Value {
    let mut fields = of(container, "tcp");
    fields.extend([("verdict", verdict.to_owned()), ("reason", reason.to_owned())]);
    if let Some((host, port)) = dst {
        fields.extend([("dst_host", literal(host)), ("dst_port", port.to_string())]);
    }
    only(logger(&fields), &format!("'{ADMITTED}' in filter_state"))
}

/// Of a listener's connections those that no chain takes: no container's.
pub(super) fn no_chain() -> Value {
    let mut fields = unlabelled("tcp");
    let nobodys = ["agent", "project", "container_id"].map(|label| (label, String::new()));
    fields.extend(nobodys);
    fields.extend([("verdict", "DENIED".to_owned()), ("reason", "no_chain".to_owned())]);
    only(logger(&fields), "xds.filter_chain_name == ''")
}

/// Of a listener's connections those that a limit refused, before anything of their chain saw them.
pub(super) fn not_admitted(reason: &str) -> Value {
    let mut fields = unlabelled("tcp");
    for label in ["agent", "project", "container_id"] {
        fields.insert(label, format!("%METADATA(LISTENER_FILTER_CHAIN:clawker:{label})%"));
    }
    fields.extend([("verdict", "DENIED".to_owned()), ("reason", reason.to_owned())]);
    only(logger(&fields), &format!("xds.filter_chain_name != '' && !('{ADMITTED}' in filter_state)"))
}

/// Has a logger tell only of that for which this is true.
fn only(mut log: Value, expression: &str) -> Value {
    let filter = json!({"extension_filter": {
        "name": "cel",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
            "expression": expression,
        },
    }});
    if let Some(of) = log.as_object_mut() {
        of.insert("filter".to_owned(), filter);
    }
    log
}

/// How often it sends again what the collector did not take, twice a second in the mean: what waits is in its memory.
const RETRIES: u32 = 120;

fn logger(fields: &BTreeMap<&str, String>) -> Value {
    json!({
        "name": "clawker",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig",
            "grpc_service": {
                "envoy_grpc": {"cluster_name": clusters::COLLECTOR},
                "retry_policy": {
                    "retry_on": "connect-failure,reset,unavailable,resource-exhausted",
                    "num_retries": RETRIES,
                    "retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"},
                },
            },
            "log_name": "clawker-envoy",
            "disable_builtin_labels": true,
            "attributes": attributes(fields),
        },
    })
}

/// A value that is taken as it is: `%` begins a command.
fn literal(value: &str) -> String {
    value.replace('%', "%%")
}
