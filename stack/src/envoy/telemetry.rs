//! Where containers' telemetry comes in: a chain for each, which says whose it is, and hands on logs and metrics of OTLP and
//! nothing else.
//!
//! Whose it is, and from where, are headers that the collector's lane reads; whatever the agent sends under their names
//! is overwritten. Labels are in base64: a header cannot hold all that a label can.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{Upstream, clusters, limits, listeners, log};
use crate::Container;

/// Name of the listener's own certificate; no domain is called so.
pub(super) const SECRET: &str = "+telemetry";
/// Bytes of the largest request. An agent's own batches are of 512 records, of some hundred bytes each.
const LARGEST: u32 = 512 << 10;
/// Requests of one container that are taken at once, and again in each second.
const REQUESTS: u32 = 20;
/// How long a request may take, from its first byte, and its answer.
const PATIENCE: &str = "30s";

/// Headers that say whose a request is, by the attribute that the collector makes of each.
pub(crate) const IDENTITY: [(&str, &str); 4] = [
    ("agent", "x-clawker-agent"),
    ("project", "x-clawker-project"),
    ("container_id", "x-clawker-container-id"),
    ("src_ip", "x-clawker-src-ip"),
];

/// The chain of a container.
pub(super) fn chain(container: &Container, upstream: &Upstream) -> Value {
    let mut manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "telemetry",
        "route_config": routes(container),
        "request_timeout": PATIENCE,
        "generate_request_id": false,
        "use_remote_address": true,
        "skip_xff_append": true,
        "access_log": [log::telemetry(container)],
        "http_filters": [limit(), whole(), {"name": "router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
            "suppress_envoy_headers": true,
        }}],
    });
    limits::bound_requests(&mut manager);
    json!({
        "transport_socket": listeners::tls(&[SECRET.to_owned()], upstream),
        "filters": [
            limits::telemetry(),
            listeners::admitted(&[]),
            {"name": "requests", "typed_config": manager},
        ],
    })
}

fn routes(container: &Container) -> Value {
    let headers: Vec<Value> = IDENTITY
        .iter()
        .map(|(attribute, header)| {
            json!({
                "header": {"key": header, "value": value(container, attribute)},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                // An empty label is one.
                "keep_empty_value": true,
            })
        })
        .collect();
    let mut routes = Vec::new();
    for signal in ["logs", "metrics"] {
        let service = if signal == "logs" { "LogsService" } else { "MetricsService" };
        let path = format!("/opentelemetry.proto.collector.{signal}.v1.{service}/Export");
        routes.push(route(
            json!({"path": path, "grpc": {}, "headers": [post(), plain("grpc-encoding")]}),
            &clusters::telemetry_grpc(container),
        ));
        let matched = json!({"path": format!("/v1/{signal}"), "headers": [post(), encoding(), plain("content-encoding")]});
        routes.push(route(matched, &clusters::telemetry_http(container)));
    }
    routes.push(json!({"match": {"prefix": "/"}, "direct_response": {"status": 404}}));
    json!({
        "name": "telemetry",
        // The listener may be taken a moment before the cluster.
        "validate_clusters": false,
        "request_headers_to_add": headers,
        "virtual_hosts": [{"name": "telemetry", "domains": ["*"], "routes": routes}],
    })
}

/// What a header says of a container.
fn value(container: &Container, attribute: &str) -> String {
    let label = match attribute {
        "agent" => &container.agent,
        "project" => &container.project,
        "container_id" => &container.container_id,
        _ => return "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%".to_owned(),
    };
    STANDARD.encode(label)
}

fn route(matched: Value, cluster: &str) -> Value {
    json!({"match": matched, "route": {"cluster": cluster, "timeout": PATIENCE}})
}

fn post() -> Value {
    json!({"name": ":method", "string_match": {"exact": "POST"}})
}

fn encoding() -> Value {
    let regex = "application/(json|x-protobuf)( *;.*)?";
    json!({"name": "content-type", "string_match": {"safe_regex": {"regex": regex}}})
}

/// What is packed is not taken: a few kilobytes may hold any number of records.
fn plain(header: &str) -> Value {
    let regex = json!({"regex": "(identity)?"});
    json!({"name": header, "string_match": {"safe_regex": regex}, "treat_missing_header_as_empty": true})
}

/// One container's requests hold up no other's.
fn limit() -> Value {
    let always = json!({"default_value": {"numerator": 100, "denominator": "HUNDRED"}});
    json!({
        "name": "limit",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "telemetry",
            "token_bucket": {"max_tokens": REQUESTS, "tokens_per_fill": REQUESTS, "fill_interval": "1s"},
            "filter_enabled": always,
            "filter_enforced": always,
        },
    })
}

/// A request is handed on once it is there, and if it is not too large.
fn whole() -> Value {
    json!({
        "name": "whole",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer",
            "max_request_bytes": LARGEST,
        },
    })
}
