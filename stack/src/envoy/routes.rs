//! Which requests of a container go on, and which are answered with 403.

use std::collections::BTreeSet;

use rules::{Action, Destination, Proto, Rule};
use serde_json::{Value, json};

use super::{clusters, resources};
use crate::{Container, Plan};

/// Of one container, for one of the protocols that have requests.
pub(super) fn name(container: &Container, proto: Proto) -> String {
    format!("{proto}-{}", container.container_id)
}

/// Name of the file that has them.
pub(super) fn file(container: &Container, proto: Proto) -> String {
    format!("rds-{}.json", name(container, proto))
}

/// A file for each container and protocol.
pub(super) fn files(plan: &Plan) -> Vec<(String, Value)> {
    let of = |container| {
        [Proto::Https, Proto::Http].map(|proto| (file(container, proto), table(plan, container, proto)))
    };
    plan.containers.iter().flat_map(of).collect()
}

fn table(plan: &Plan, container: &Container, proto: Proto) -> Value {
    let cluster = clusters::of_requests(container, proto);
    let mut taken = BTreeSet::new();
    let mut hosts: Vec<Value> =
        served(plan, container, proto).filter_map(|rule| host(rule, &cluster, &mut taken)).collect();
    hosts.push(json!({
        "name": "denied",
        "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "metadata": metadata("DENIED", "no_rule", None), "direct_response": {"status": 403}}],
    }));
    resources(vec![json!({
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": name(container, proto),
        "virtual_hosts": hosts,
    })])
}

/// Its rules whose requests the proxy reads: of one destination and port, the one that is listed first.
pub(super) fn served<'a>(
    plan: &'a Plan,
    container: &'a Container,
    proto: Proto,
) -> impl Iterator<Item = &'a Rule> {
    let listener = if proto == Proto::Https { plan.listeners.https } else { plan.listeners.http };
    let serves = move |rule: &&Rule| rule.proto() == proto && rule.listener() == Some(listener);
    let rules = move || container.rules.iter().filter(serves);
    rules().enumerate().filter_map(move |(place, rule)| {
        let earlier =
            rules().take(place).any(|other| other.dst() == rule.dst() && other.ports() == rule.ports());
        (!earlier).then_some(rule)
    })
}

/// What a rule's requests name, but for what an earlier rule has `taken`: Envoy has each name once. `None` if that is all.
fn host<'r>(rule: &'r Rule, cluster: &str, taken: &mut BTreeSet<(&'r Destination, u16)>) -> Option<Value> {
    let usual = rule.proto().usual_ports().map(rules::Ports::first);
    let mut domains: Vec<String> = Vec::new();
    for port in rule.ports().range().filter(|port| taken.insert((rule.dst(), *port))) {
        if usual == Some(port) {
            domains.push(rule.dst().to_string());
        }
        domains.push(format!("{}:{port}", rule.dst()));
    }
    if domains.is_empty() {
        return None;
    }
    Some(json!({
        "name": format!("{} {}", rule.dst(), rule.ports()),
        "domains": domains,
        "request_headers_to_remove": if rule.path_rules().is_empty() { Vec::new() } else { headers() },
        "routes": routes(rule, cluster),
    }))
}

/// Paths that a host may read otherwise than they are compared: parameters of a part, which some leave out, also escaped, and
/// what is escaped twice.
const OTHERWISE_READ: &str = "[^?#]*(;|%3[Bb]|%25).*";
/// Headers that some hosts take the path from.
const PATHS: [[&str; 3]; 5] = [
    ["x", "original", "url"],
    ["x", "rewrite", "url"],
    ["x", "override", "url"],
    ["x", "original", "uri"],
    ["x", "forwarded", "uri"],
];

/// The same with each of `-` and `_`, which hosts that are programs of their own cannot tell apart.
fn headers() -> Vec<String> {
    let each = |[x, how, what]: [&str; 3]| {
        [('-', '-'), ('-', '_'), ('_', '-'), ('_', '_')]
            .map(|(one, other)| format!("{x}{one}{how}{other}{what}"))
    };
    PATHS.into_iter().flat_map(each).collect()
}

/// The longest path first, since Envoy takes the first that fits.
fn routes(rule: &Rule, cluster: &str) -> Vec<Value> {
    let mut paths: Vec<_> = rule.path_rules().iter().collect();
    paths.sort_by_key(|path| std::cmp::Reverse(path.path.len()));
    let at = |path: &str| {
        // Of the root, there is no separated prefix.
        if path == "/" { json!({"prefix": "/"}) } else { json!({"path_separated_prefix": path}) }
    };
    let mut routes = Vec::new();
    if !paths.is_empty() {
        routes.push(route(rule, cluster, json!({"safe_regex": {"regex": OTHERWISE_READ}}), Action::Deny));
    }
    routes.extend(paths.iter().map(|path| {
        let mut when = at(&path.path);
        // To some hosts both are one: what is denied is denied in either case.
        if let (Action::Deny, Some(when)) = (path.action, when.as_object_mut()) {
            when.insert("case_sensitive".to_owned(), json!(false));
        }
        route(rule, cluster, when, path.action)
    }));
    routes.push(route(rule, cluster, json!({"prefix": "/"}), rule.path_default()));
    routes
}

fn route(rule: &Rule, cluster: &str, when: Value, action: Action) -> Value {
    let port = rule.ports().single();
    match action {
        Action::Deny => json!({
            "match": when,
            "metadata": metadata("DENIED", "path_rule", port),
            "direct_response": {"status": 403},
        }),
        Action::Allow => json!({
            "match": when,
            "metadata": metadata("ALLOWED", "rule", port),
            // A stream may be silent for as long as it likes.
            "route": {"cluster": cluster, "timeout": "0s", "idle_timeout": "0s"},
        }),
    }
}

fn metadata(verdict: &str, reason: &str, port: Option<u16>) -> Value {
    let port = port.map_or_else(String::new, |port| port.to_string());
    json!({"filter_metadata": {"clawker": {"verdict": verdict, "reason": reason, "dst_port": port}}})
}
