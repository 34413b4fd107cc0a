//! Where Envoy connects to.

use ipnet::IpNet;
use rules::{Proto, forbidden};
use serde_json::{Value, json};

use super::{Telemetry, Upstream, limits, listeners, routes, socket_address};
use crate::{Container, Plan};

/// The collector's lane for the access log.
pub(super) const COLLECTOR: &str = "collector";
/// Requests of a container's telemetry, of each protocol, that are with the agents' collector at a time: decoded, one may be a
/// hundred times as large. Each process of an agent's has one of events and one of counters.
const AT_ONCE: u32 = 2;

/// The cluster of a container's telemetry, as gRPC. Each container has its own, for it is clusters that Envoy counts by.
pub(super) fn telemetry_grpc(container: &Container) -> String {
    format!("telemetry-grpc:{}", container.container_id)
}

/// The same, as requests.
pub(super) fn telemetry_http(container: &Container) -> String {
    format!("telemetry-http:{}", container.container_id)
}

/// The cluster of a container's requests. Whatever a rule names is found by name when it is asked for, so that a container has one
/// of each kind, with its own limits, and shares none.
pub(super) fn of_requests(container: &Container, proto: Proto) -> String {
    format!("{proto} {}", container.container_id)
}

/// The cluster of what is handed on as it is.
pub(super) fn handed_on(container: &Container) -> String {
    format!("tcp {}", container.container_id)
}

pub(super) fn all(plan: &Plan, upstream: &Upstream) -> Vec<Value> {
    let mut clusters = Vec::new();
    for container in &plan.containers {
        for proto in [Proto::Https, Proto::Http] {
            if routes::served(plan, container, proto).next().is_some() {
                clusters.push(requests(container, proto, upstream));
            }
        }
        if listeners::hands_on(plan, container) {
            clusters.push(cluster(&handed_on(container), names(Names::OfRules, container, upstream)));
        }
    }
    let lane = format!("{}/lane", upstream.folder);
    let mut log = collector(COLLECTOR, &upstream.collector, &lane);
    limits::bound_log(&mut log);
    clusters.push(log);
    let Telemetry { grpc, http, .. } = &upstream.telemetry;
    let folder = format!("{}/telemetry", upstream.folder);
    for container in &plan.containers {
        for (name, receiver) in [(telemetry_grpc(container), grpc), (telemetry_http(container), http)] {
            let mut cluster = collector(&name, receiver, &folder);
            if let Some(cluster) = cluster.as_object_mut() {
                let bound = json!({"max_requests": AT_ONCE, "max_pending_requests": AT_ONCE});
                cluster.insert("circuit_breakers".to_owned(), json!({"thresholds": [bound]}));
            }
            clusters.push(cluster);
        }
    }
    clusters
}

fn requests(container: &Container, proto: Proto, upstream: &Upstream) -> Value {
    let names = names(Names::OfRequests, container, upstream);
    let mut cluster = cluster(&of_requests(container, proto), names);
    let is_tls = proto == Proto::Https;
    // Over TLS, what the upstream speaks is asked; else it is what the container speaks.
    let protocol = if is_tls { "auto_config" } else { "use_downstream_protocol_config" };
    let options = json!({
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "upstream_http_protocol_options": {"auto_sni": true, "auto_san_validation": true},
        protocol: {"http2_protocol_options": limits::http2_of_upstreams()},
    });
    if let Some(cluster) = cluster.as_object_mut() {
        let key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        cluster.insert("typed_extension_protocol_options".to_owned(), json!({key: options}));
        if is_tls {
            cluster.insert("transport_socket".to_owned(), tls(upstream));
        }
    }
    cluster
}

/// Of one container, to whatever is named.
fn cluster(name: &str, cache: Value) -> Value {
    let mut cluster = json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": name,
        "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": "10s",
        "cluster_type": {
            "name": "envoy.clusters.dynamic_forward_proxy",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",
                "dns_cache_config": cache,
            },
        },
    });
    limits::bound_cluster(&mut cluster);
    cluster
}

/// What names come from.
#[derive(Clone, Copy)]
pub(super) enum Names {
    /// Requests, whose sender chooses them.
    OfRequests,
    /// Rules for what is handed on: as many as there are.
    OfRules,
}

/// Addresses of what a container names; filters and clusters have to agree on it. Every connection to an upstream goes by it, and
/// by no address that it does not hold.
pub(super) fn names(names: Names, container: &Container, upstream: &Upstream) -> Value {
    let of = match names {
        Names::OfRequests => "requests",
        Names::OfRules => "rules",
    };
    let mut cache = looked_up(names, upstream);
    if let Some(cache) = cache.as_object_mut() {
        cache.insert("name".to_owned(), json!(format!("{of} {}", container.container_id)));
    }
    cache
}

fn looked_up(names: Names, upstream: &Upstream) -> Value {
    let mut cache = json!({
        "dns_lookup_family": "ALL",
        "typed_dns_resolver_config": resolver(upstream),
        "resolved_address_filter": left_out(&upstream.own),
        // Else a name would keep the addresses that it had when a look-up failed (envoyproxy/envoy#46402).
        "dns_failure_refresh_rate": {"base_interval": "1s", "max_interval": "10s"},
    });
    limits::bound_names(&mut cache, names);
    cache
}

/// How names are looked up, whoever's they are.
pub(super) fn ways(upstream: &Upstream) -> Value {
    [Names::OfRequests, Names::OfRules].into_iter().map(|kind| looked_up(kind, upstream)).collect()
}

/// What Envoy leaves out of each answer of a name server.
fn left_out(own: &[IpNet]) -> Value {
    let written =
        |range: IpNet| json!({"address_prefix": range.addr().to_string(), "prefix_len": range.prefix_len()});
    json!({"ranges": forbidden::ranges(own).map(written).collect::<Vec<_>>()})
}

fn resolver(upstream: &Upstream) -> Value {
    let resolvers: Vec<Value> =
        upstream.resolvers.iter().map(|one| socket_address(&one.ip().to_string(), one.port())).collect();
    json!({
        "name": "envoy.network.dns_resolver.cares",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
            "resolvers": resolvers,
            "use_resolvers_as_fallback": false,
            "dns_resolver_options": {"use_tcp_for_dns_lookups": false, "no_default_search_domain": true},
        },
    })
}

/// Its certificate must be of a known authority, and of the name that was asked for.
fn tls(upstream: &Upstream) -> Value {
    json!({
        "name": "tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": {
                "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
                "validation_context": {"trusted_ca": {"filename": upstream.authorities}},
            },
        },
    })
}

/// A lane of a collector's, by mutual TLS with the files in `folder`.
fn collector(name: &str, (host, port): &(String, u16), folder: &str) -> Value {
    let file = |name: &str| json!({"filename": format!("{folder}/{name}")});
    json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": name,
        "type": "STRICT_DNS",
        "connect_timeout": "5s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket_address(host, *port)}}]}],
        },
        "transport_socket": {
            "name": "tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": host,
                "common_tls_context": {
                    // What the collector asks for; of itself, Envoy's newest as a client is 1.2.
                    "tls_params": {
                        "tls_minimum_protocol_version": "TLSv1_3",
                        "tls_maximum_protocol_version": "TLSv1_3",
                    },
                    "tls_certificates": [{"certificate_chain": file("tls.crt"), "private_key": file("tls.key")}],
                    "validation_context": {"trusted_ca": file("ca.crt")},
                },
            },
        },
    })
}
