//! Whether Envoy serves what its files say. It takes a file when it reads it, and serves a listener or a cluster only once
//! that is warm, so what it says of itself is compared: each resource carries the digest of its content.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::Envoy;
use crate::digest;

/// What its administration is asked for what it serves.
pub const DUMP: &str = "/config_dump";

const DIGEST: &str = "/metadata/filter_metadata/clawker/digest";

/// A resource with the digest of its content. Each filter chain of a listener has its own: Envoy leaves a listener and the
/// chains in it alone, with their connections, as long as nothing of it differs but other chains.
pub(super) fn stamped(mut resource: Value) -> Value {
    let chains = resource.as_object_mut().and_then(|fields| fields.remove("filter_chains"));
    stamp(&mut resource);
    if let (Some(Value::Array(mut chains)), Some(fields)) = (chains, resource.as_object_mut()) {
        chains.iter_mut().for_each(stamp);
        fields.insert("filter_chains".to_owned(), chains.into());
    }
    resource
}

fn stamp(value: &mut Value) {
    let text = digest::short(value.to_string().as_bytes());
    let Some(fields) = value.as_object_mut() else { return };
    let metadata = fields.entry("metadata").or_insert_with(|| json!({"filter_metadata": {"clawker": {}}}));
    if let Some(ours) = metadata.pointer_mut("/filter_metadata/clawker").and_then(Value::as_object_mut) {
        ours.insert("digest".to_owned(), json!(text));
    }
}

impl Envoy<'_> {
    /// What Envoy does not serve yet as these files say, by its own answer to [`DUMP`]: a line each, empty once all is.
    #[must_use]
    pub fn unserved(&self, dump: &Value) -> Vec<String> {
        let files = self.files();
        let of_file = |name: &str| {
            let file = files.iter().find(|(file, _)| file == name);
            digests(file.and_then(|(_, content)| content.get("resources")?.as_array()).into_iter().flatten())
        };
        let (clusters, listeners) = (of_file("cds.json"), of_file("lds.json"));
        let in_file = files.iter().filter(|(file, _)| file == "lds.json");
        let mut chains =
            chains(in_file.filter_map(|(_, content)| content.get("resources")?.as_array()).flatten());
        let in_files = files.iter().filter(|(name, _)| name.starts_with("rds-"));
        let routes = digests(in_files.filter_map(|(_, content)| content.pointer("/resources/0")));
        let mut missing = Vec::new();
        compare(
            "cluster",
            &clusters,
            &digests(active(dump, "dynamic_active_clusters", "/cluster")),
            &mut missing,
        );
        let served = digests(active(dump, "dynamic_listeners", "/active_state/listener"));
        compare("listener", &listeners, &served, &mut missing);
        let mut there = self::chains(active(dump, "dynamic_listeners", "/active_state/listener"));
        // Those of a listener that is not there, or should not be, go without saying.
        chains.retain(|(listener, _), _| served.contains_key(listener));
        there.retain(|(listener, _), _| listeners.contains_key(listener));
        let called =
            |chains: BTreeMap<(String, String), Option<String>>| -> BTreeMap<String, Option<String>> {
                chains
                    .into_iter()
                    .map(|((listener, chain), digest)| (format!("{chain} of {listener}"), digest))
                    .collect()
            };
        compare("filter chain", &called(chains), &called(there), &mut missing);
        // Of those that no listener has there is none; of a container that is gone, while its last connections are.
        let mut served = digests(active(dump, "dynamic_route_configs", "/route_config"));
        let wanted: BTreeMap<_, _> =
            routes.into_iter().filter(|(name, _)| served.contains_key(name)).collect();
        served.retain(|name, _| wanted.contains_key(name));
        compare("route table", &wanted, &served, &mut missing);
        for refused in
            all(dump, "dynamic_listeners").filter_map(|one| one.pointer("/error_state/details")?.as_str())
        {
            missing.push(format!("Envoy refuses a listener: {refused}"));
        }
        missing
    }
}

fn compare(
    kind: &str,
    wanted: &BTreeMap<String, Option<String>>,
    served: &BTreeMap<String, Option<String>>,
    missing: &mut Vec<String>,
) {
    let names: BTreeSet<&String> = wanted.keys().chain(served.keys()).collect();
    for name in names {
        let why = match (wanted.get(name), served.get(name)) {
            (Some(_), None) => "is not served yet",
            (None, _) => "is still served",
            (Some(wanted), Some(served)) if wanted != served => "is served as it was before",
            _ => continue,
        };
        missing.push(format!("{kind} {name} {why}"));
    }
}

/// Digests by name.
fn digests<'v>(resources: impl Iterator<Item = &'v Value>) -> BTreeMap<String, Option<String>> {
    let of = |resource: &Value| {
        let digest = resource.pointer(DIGEST).and_then(Value::as_str);
        Some((resource.get("name")?.as_str()?.to_owned(), digest.map(str::to_owned)))
    };
    resources.filter_map(of).collect()
}

/// Digests of filter chains, by listener and name.
fn chains<'v>(listeners: impl Iterator<Item = &'v Value>) -> BTreeMap<(String, String), Option<String>> {
    let of = |listener: &'v Value| {
        let name = listener.get("name")?.as_str()?.to_owned();
        let chains = digests(listener.get("filter_chains")?.as_array()?.iter());
        Some(chains.into_iter().map(move |(chain, digest)| ((name.clone(), chain), digest)))
    };
    listeners.filter_map(of).flatten().collect()
}

fn active<'v>(dump: &'v Value, list: &'v str, at: &'v str) -> impl Iterator<Item = &'v Value> {
    all(dump, list).filter_map(move |one| one.pointer(at))
}

fn all<'v>(dump: &'v Value, list: &'v str) -> impl Iterator<Item = &'v Value> {
    let configs = dump.get("configs").and_then(Value::as_array).into_iter().flatten();
    configs.filter_map(move |config| config.get(list)?.as_array()).flatten()
}
