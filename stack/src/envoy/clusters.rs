//! Where Envoy connects to.

use std::collections::BTreeMap;

use rules::{Destination, Proto, Rule};
use serde_json::{Value, json};

use super::{Telemetry, Upstream, routes, socket_address};
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

/// The cluster of a rule's requests. No name holds a colon, so that no two destinations have one cluster. Rules of several containers for one destination share it: it has no labels.
pub(super) fn name(rule: &Rule) -> String {
    match rule.dst() {
        Destination::Below(_) => format!("{}:any", rule.proto()),
        dst => format!("{}:{dst}:{}", rule.proto(), rule.ports()),
    }
}

/// The cluster that hands on as it is.
pub(super) fn name_of_handed(dst: &Destination, port: u16) -> String {
    format!("tcp:{dst}:{port}")
}

pub(super) fn all(plan: &Plan, upstream: &Upstream) -> Vec<Value> {
    let mut clusters = BTreeMap::new();
    for container in &plan.containers {
        for proto in [Proto::Https, Proto::Http] {
            for rule in routes::served(plan, container, proto) {
                clusters.entry(name(rule)).or_insert_with(|| of_rule(rule, upstream));
            }
        }
    }
    for handed in plan.handed.keys() {
        let name = name_of_handed(&handed.dst, handed.port);
        let cluster = resolved(&name, &handed.dst, handed.port, upstream);
        clusters.insert(name, cluster);
    }
    let lane = format!("{}/lane", upstream.folder);
    clusters.insert(COLLECTOR.to_owned(), collector(COLLECTOR, &upstream.collector, &lane));
    let Telemetry { grpc, http, .. } = &upstream.telemetry;
    let folder = format!("{}/telemetry", upstream.folder);
    for container in &plan.containers {
        for (name, receiver) in [(telemetry_grpc(container), grpc), (telemetry_http(container), http)] {
            let mut cluster = collector(&name, receiver, &folder);
            if let Some(cluster) = cluster.as_object_mut() {
                let bound = json!({"max_requests": AT_ONCE, "max_pending_requests": AT_ONCE});
                cluster.insert("circuit_breakers".to_owned(), json!({"thresholds": [bound]}));
            }
            clusters.insert(name, cluster);
        }
    }
    clusters.into_values().collect()
}

fn of_rule(rule: &Rule, upstream: &Upstream) -> Value {
    let mut cluster = match rule.dst() {
        Destination::Below(_) => any(rule, upstream),
        // Several ports: the request says which.
        dst => match rule.ports().single() {
            Some(port) => resolved(&name(rule), dst, port, upstream),
            None => any(rule, upstream),
        },
    };
    let is_tls = rule.proto() == Proto::Https;
    let mut options = json!({
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "upstream_http_protocol_options": {"auto_sni": true, "auto_san_validation": true},
    });
    // Over TLS, what the upstream speaks is asked; else it is what the container speaks.
    let protocol = if is_tls { "auto_config" } else { "use_downstream_protocol_config" };
    if let Some(options) = options.as_object_mut() {
        options.insert(protocol.to_owned(), json!({}));
    }
    if let Some(cluster) = cluster.as_object_mut() {
        let key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        cluster.insert("typed_extension_protocol_options".to_owned(), json!({key: options}));
        if is_tls {
            cluster.insert("transport_socket".to_owned(), tls(upstream));
        }
    }
    cluster
}

/// One destination; its name is looked up again when its time is over.
fn resolved(name: &str, dst: &Destination, port: u16, upstream: &Upstream) -> Value {
    let mut cluster = json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": name,
        "connect_timeout": "10s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket_address(&dst.to_string(), port)}}]}],
        },
    });
    if let (Destination::Domain(_), Some(cluster)) = (dst, cluster.as_object_mut()) {
        let looked_up = json!({
            "name": "envoy.clusters.dns",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster",
                "respect_dns_ttl": true,
                "dns_lookup_family": "ALL",
                "typed_dns_resolver_config": resolver(upstream),
            },
        });
        cluster.insert("cluster_type".to_owned(), looked_up);
    }
    cluster
}

/// Whatever the request names.
fn any(rule: &Rule, upstream: &Upstream) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": name(rule),
        "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": "10s",
        "cluster_type": {
            "name": "envoy.clusters.dynamic_forward_proxy",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",
                "dns_cache_config": cache(upstream),
            },
        },
    })
}

/// Addresses of what requests name; the filter and its clusters have to agree on it.
pub(super) fn cache(upstream: &Upstream) -> Value {
    json!({
        "name": "names",
        "dns_lookup_family": "ALL",
        "typed_dns_resolver_config": resolver(upstream),
    })
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
