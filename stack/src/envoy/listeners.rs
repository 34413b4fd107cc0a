//! What Envoy listens on. In each listener a chain of filters for each container, by its address; whoever is no container
//! is reset.

use std::net::IpAddr;

use rules::{Destination, Proto};
use serde_json::{Value, json};

use super::{
    Upstream,
    clusters::{self, Names},
    limits, log, routes, secret_file, telemetry, watched,
};
use crate::{Container, Plan, plan::Handed};

/// Names whose certificates a container is shown.
pub(super) fn certificates(container: &Container) -> Vec<String> {
    let of_requests = container.rules.iter().filter(|rule| rule.proto() == Proto::Https);
    of_requests
        .filter(|rule| !matches!(rule.dst(), Destination::Prefix(_)))
        .map(|rule| rule.dst().to_string())
        .collect()
}

pub(super) fn all(plan: &Plan, upstream: &Upstream) -> Vec<Value> {
    let mut listeners = vec![
        listener("https", plan.listeners.https, Looks::AtTls, plan, |container| {
            https(container, upstream).into_iter().chain([refused(container, "no_tls")]).collect()
        }),
        listener("http", plan.listeners.http, Looks::AtNothing, plan, |container| {
            http(container, upstream).into_iter().collect()
        }),
        listener("catch-all", plan.listeners.catch_all, Looks::AtTls, plan, |container| {
            vec![refused(container, "no_rule")]
        }),
        listener("telemetry", plan.listeners.telemetry, Looks::AtNothing, plan, |container| {
            vec![telemetry::chain(container, upstream)]
        }),
    ];
    for (handed, port) in &plan.handed {
        // No name holds a colon, so that no two destinations have one listener.
        let name = format!("tcp:{}:{}", handed.dst, handed.port);
        listeners.push(listener(&name, *port, Looks::AtNothing, plan, |container| {
            hand_on(container, upstream, handed, *port).into_iter().collect()
        }));
    }
    listeners.into_iter().flatten().collect()
}

/// What a listener looks at before it chooses a chain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Looks {
    /// Whether a client begins with TLS, and whom it asks for. One that says nothing is not waited for for long.
    AtTls,
    /// Nothing: it may be the server that speaks first.
    AtNothing,
}

/// How long a client may take to begin with TLS.
const PATIENCE: &str = "2s";

/// A listener for both families, with chains for each container. Where none has one, nothing is handed there, and Envoy
/// takes no listener without chains.
fn listener(
    name: &str,
    port: u16,
    looks: Looks,
    plan: &Plan,
    chains: impl Fn(&Container) -> Vec<Value>,
) -> Option<Value> {
    let of_container = |container: &Container| {
        let mut chains = chains(container);
        for (number, of) in chains.iter_mut().filter_map(Value::as_object_mut).enumerate() {
            of.insert("name".to_owned(), json!(format!("{} {number}", container.container_id)));
            of.insert("metadata".to_owned(), log::labels(container));
            let matched = of.entry("filter_chain_match").or_insert_with(|| json!({}));
            if let Some(matched) = matched.as_object_mut() {
                matched.insert("source_prefix_ranges".to_owned(), sources(container));
            }
        }
        chains
    };
    let chains: Vec<Value> = plan.containers.iter().flat_map(of_container).collect();
    if chains.is_empty() {
        return None;
    }
    // What is told of telemetry is told by that alone: it is no flow that a rule handed here.
    let reason = if port == plan.listeners.telemetry { "telemetry" } else { "limit" };
    let mut listener = json!({
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": name,
        // Of both families: IPv4 arrives as mapped.
        "address": {"socket_address": {"address": "::", "port_value": port, "ipv4_compat": true}},
        "filter_chains": chains,
        "access_log": [log::no_chain(), log::not_admitted(reason)],
    });
    limits::bound_listener(&mut listener);
    if let (Looks::AtTls, Some(of)) = (looks, listener.as_object_mut()) {
        let inspector = json!({
            "name": "tls_inspector",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"},
        });
        of.insert("listener_filters".to_owned(), json!([inspector]));
        of.insert("listener_filters_timeout".to_owned(), json!(PATIENCE));
        of.insert("continue_on_listener_filters_timeout".to_owned(), json!(true));
    }
    Some(listener)
}

fn sources(container: &Container) -> Value {
    let range = |address: &IpAddr| {
        let address = address.to_canonical();
        json!({"address_prefix": address.to_string(), "prefix_len": if address.is_ipv4() { 32 } else { 128 }})
    };
    container.addresses.iter().map(range).collect()
}

fn https(container: &Container, upstream: &Upstream) -> Option<Value> {
    let names = certificates(container);
    if names.is_empty() {
        return None;
    }
    Some(json!({
        "filter_chain_match": {"transport_protocol": "tls"},
        "transport_socket": tls(&names, upstream),
        "filters": requests(container, Proto::Https, upstream),
    }))
}

/// TLS that is ended here, with the certificates of these names: the one whose names hold what the client asks for is shown.
pub(super) fn tls(names: &[String], upstream: &Upstream) -> Value {
    let secret = |name: &String| {
        let path = format!("{}/{}", upstream.folder, secret_file(name));
        json!({"name": name, "sds_config": watched(&path, &upstream.folder)})
    };
    let secrets: Vec<Value> = names.iter().map(secret).collect();
    json!({
        "name": "tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificate_sds_secret_configs": secrets,
            },
        },
    })
}

fn http(container: &Container, upstream: &Upstream) -> Option<Value> {
    let has = container.rules.iter().any(|rule| rule.proto() == Proto::Http);
    has.then(|| json!({"filters": requests(container, Proto::Http, upstream)}))
}

fn requests(container: &Container, proto: Proto, upstream: &Upstream) -> Value {
    let path = format!("{}/{}", upstream.folder, routes::file(container, proto));
    let mut manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": proto.word(),
        "rds": {"route_config_name": routes::name(container, proto), "config_source": watched(&path, &upstream.folder)},
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        // A path is compared in one form: what hides behind escapes or dots is not let through.
        "normalize_path": true,
        "merge_slashes": true,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "strip_trailing_host_dot": true,
        "stream_idle_timeout": "0s",
        "generate_request_id": false,
        "use_remote_address": true,
        "skip_xff_append": true,
        "server_header_transformation": "PASS_THROUGH",
        "access_log": [log::requests(container, proto.word())],
        "http_filters": [
            {"name": "names", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig",
                "dns_cache_config": clusters::names(Names::OfRequests, container, upstream),
            }},
            {"name": "router", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                "suppress_envoy_headers": true,
            }},
        ],
    });
    limits::bound_requests(&mut manager);
    json!([limits::of_requests(), admitted(&[]), {"name": "requests", "typed_config": manager}])
}

/// Whether a container is handed on to any destination.
pub(super) fn hands_on(plan: &Plan, container: &Container) -> bool {
    container.rules.iter().any(|rule| plan.handed.values().any(|port| rule.listener() == Some(*port)))
}

/// Only containers that a rule permits it have a chain there: others are reset.
fn hand_on(container: &Container, upstream: &Upstream, handed: &Handed, port: u16) -> Option<Value> {
    container.rules.iter().any(|rule| rule.listener() == Some(port)).then(|| {
        let dst = handed.dst.to_string();
        let log = log::connections(container, "ALLOWED", "rule", Some((&dst, handed.port)));
        // In brackets: what is behind the last colon would be taken for a port.
        let host = match &handed.dst {
            Destination::Prefix(address) if address.addr().is_ipv6() => format!("[{}]", address.addr()),
            _ => dst,
        };
        let to = [("envoy.upstream.dynamic_host", host), ("envoy.upstream.dynamic_port", handed.port.to_string())];
        // Made for TLS that names its host, it takes what was said before it as well.
        let looked_up = json!({
            "name": "names",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig",
                "dns_cache_config": clusters::names(Names::OfRules, container, upstream),
                "port_value": handed.port,
            },
        });
        json!({"filters": [
            limits::handed_on(),
            admitted(&to),
            looked_up,
            tcp_proxy(&clusters::handed_on(container), log),
        ]})
    })
}

/// Seen, and ended: a connection that no rule knows, or not as its rule has it.
fn refused(container: &Container, reason: &str) -> Value {
    let log = log::connections(container, "DENIED", reason, None);
    json!({"filters": [admitted(&[]), tcp_proxy("none", log)]})
}

/// Notes of a connection that no limit refused it, and what else is known of it.
pub(super) fn admitted(known: &[(&str, String)]) -> Value {
    let note = |key: &str, kind: &str, value: &str| {
        json!({
            "object_key": key,
            "factory_key": kind,
            "format_string": {"text_format_source": {"inline_string": value}},
        })
    };
    let mut notes = vec![note(log::ADMITTED, "envoy.string", "yes")];
    notes.extend(known.iter().map(|(key, value)| note(key, key, value)));
    json!({
        "name": "admitted",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config",
            "on_new_connection": notes,
        },
    })
}

/// To a cluster that is none, it resets.
fn tcp_proxy(cluster: &str, log: Value) -> Value {
    json!({
        "name": "tcp",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "tcp",
            "cluster": cluster,
            "idle_timeout": "0s",
            "access_log": [log],
        },
    })
}
