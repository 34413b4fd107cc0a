//! What one container may take of what all share, and what all of them may.
//!
//! A limit that is one container's refuses that container alone, and leaves a document with `reason=limit`. What only the
//! whole proxy can be short of leaves none: `stack lost` counts it.

use serde_json::{Value, json};

use super::clusters::Names;

/// Connections of one container to the port for requests of one protocol, at once.
const CONNECTIONS_OF_REQUESTS: u32 = 1_000;
/// Connections of one container to one destination that is handed on to.
const CONNECTIONS_HANDED_ON: u32 = 250;
/// Connections of one container to the port for telemetry. An agent's exporters keep one or two.
const CONNECTIONS_OF_TELEMETRY: u32 = 20;
/// Requests of one container and protocol that are under way at once, over however many connections.
const REQUESTS: u32 = 1_000;
/// Requests of one connection that are under way at once.
const STREAMS: u32 = 100;
/// Names that requests of one container know at once. What nobody asked for in five minutes is forgotten.
const NAMES: u32 = 1_000;
/// Names of what is handed on: rules have them, and there are not as many ports.
const NAMES_OF_RULES: u32 = 65_536;
/// Requests and connections of one container that wait for a name. All of them may.
const LOOKUPS: u32 = 4_000;
/// Connections of all containers. The kernel lets one have 16,384 flows, unless it is told otherwise: no container reaches this
/// alone.
const CONNECTIONS: u32 = 20_000;
/// What waits in one direction of a connection, bytes.
const WAITING: u32 = 128 << 10;
/// What may be sent on a stream, and on all of a connection, before the other side took it, bytes.
const WINDOW: u32 = 256 << 10;
const WINDOW_OF_ALL: u32 = 1 << 20;
/// What the proxy is to have in memory, MiB: the bound of its container.
pub const PROXY_MEMORY: u32 = 1024;
/// Of that, bytes of its heap: what it does when that runs short comes before the kernel ends it.
const HEAP: u64 = (PROXY_MEMORY as u64) / 8 * 7 * (1 << 20);
/// Requests with entries of the access log that wait for the collector at once, of all containers. Each has 16 KiB and an entry at
/// most. Of itself, Envoy lets three be sent again at a time, and throws the others' entries away.
const LOGGED: u32 = 16_384;
/// How long a request's head may take, from its first byte.
const HEAD: &str = "30s";

/// Has the access log's cluster hold what the collector did not take yet.
pub(super) fn bound_log(cluster: &mut Value) {
    let most = json!({"max_requests": LOGGED, "max_pending_requests": LOGGED, "max_retries": LOGGED});
    join(cluster, json!({"circuit_breakers": {"thresholds": [most]}}));
}

/// Of a chain of requests.
pub(super) fn of_requests() -> Value {
    connections("requests", CONNECTIONS_OF_REQUESTS)
}

/// Of a chain that hands on.
pub(super) fn handed_on() -> Value {
    connections("handed_on", CONNECTIONS_HANDED_ON)
}

/// Of a chain for telemetry.
pub(super) fn telemetry() -> Value {
    connections("telemetry", CONNECTIONS_OF_TELEMETRY)
}

/// A chain is of one container, and counts its own.
fn connections(name: &str, most: u32) -> Value {
    json!({
        "name": "limit",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit",
            "stat_prefix": name,
            "max_connections": most,
        },
    })
}

/// Has what reads requests of a container bound what they hold.
pub(super) fn bound_requests(manager: &mut Value) {
    let bounds = json!({
        "request_headers_timeout": HEAD,
        "http2_protocol_options": {
            "allow_connect": true,
            "max_concurrent_streams": STREAMS,
            "initial_stream_window_size": WINDOW,
            "initial_connection_window_size": WINDOW_OF_ALL,
        },
    });
    join(manager, bounds);
}

/// What HTTP/2 is, towards upstreams.
pub(super) fn http2_of_upstreams() -> Value {
    json!({"initial_stream_window_size": WINDOW, "initial_connection_window_size": WINDOW_OF_ALL})
}

/// Has a listener bound what a connection holds.
pub(super) fn bound_listener(listener: &mut Value) {
    join(listener, json!({"per_connection_buffer_limit_bytes": WAITING}));
}

/// Has a cluster of one container bound what it holds. Connections are bounded where they come in.
pub(super) fn bound_cluster(cluster: &mut Value) {
    join(
        cluster,
        json!({
            "per_connection_buffer_limit_bytes": WAITING,
            "circuit_breakers": {"thresholds": [{
                "max_connections": CONNECTIONS,
                "max_pending_requests": REQUESTS,
                "max_requests": REQUESTS,
                "max_retries": REQUESTS,
            }]},
        }),
    );
}

/// Has the names of one container be bounded.
pub(super) fn bound_names(cache: &mut Value, names: Names) {
    let most = match names {
        Names::OfRequests => NAMES,
        Names::OfRules => NAMES_OF_RULES,
    };
    join(cache, json!({"max_hosts": most, "dns_cache_circuit_breaker": {"max_pending_requests": LOOKUPS}}));
}

/// What the proxy does when its memory or its connections run short: first it takes no more requests, and resets those that
/// hold most; then it takes no more connections.
pub(super) fn of_all() -> Value {
    let kind = |name: &str| format!("type.googleapis.com/envoy.extensions.resource_monitors.{name}");
    let memory = "envoy.resource_monitors.fixed_heap";
    let at = |action: &str, share: f64| {
        json!({
            "name": format!("envoy.overload_actions.{action}"),
            "triggers": [{"name": memory, "threshold": {"value": share}}],
        })
    };
    json!({
        "refresh_interval": "0.25s",
        // Streams are told apart by what they hold from 64 KiB on.
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": 16},
        "resource_monitors": [
            {
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": {
                    "@type": kind("downstream_connections.v3.DownstreamConnectionsConfig"),
                    "max_active_downstream_connections": CONNECTIONS,
                },
            },
            {
                "name": memory,
                "typed_config": {"@type": kind("fixed_heap.v3.FixedHeapConfig"), "max_heap_size_bytes": HEAP},
            },
        ],
        "actions": [
            at("shrink_heap", 0.8),
            {
                "name": "envoy.overload_actions.reset_high_memory_stream",
                "triggers": [{"name": memory, "scaled": {"scaling_threshold": 0.85, "saturation_threshold": 0.95}}],
            },
            at("stop_accepting_requests", 0.9),
            at("stop_accepting_connections", 0.95),
        ],
    })
}

/// Adds fields to an object.
fn join(to: &mut Value, fields: Value) {
    if let (Some(to), Value::Object(fields)) = (to.as_object_mut(), fields) {
        to.extend(fields);
    }
}
