//! The break-glass view: the maps, as they are.

use std::collections::BTreeMap;

use abi::{CloseReason, Flow, Fold, FoldKey, Hook, Reason, Unknown, Verdict, Zone};
use aya::maps::MapError;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use serde_json::{Map, Value, json};

use crate::{
    Manager,
    error::{Error, Result},
    names::{ip, text},
};

/// Rows of one map: column name to value.
pub type Rows = Vec<Map<String, Value>>;

/// The rows of every map that can be listed, by map name: all but the storage of cgroups and sockets.
pub struct Dump(pub BTreeMap<&'static str, Rows>);

impl Manager {
    /// Reads every map that can be listed.
    ///
    /// # Errors
    /// If nothing is loaded, or a map cannot be read.
    pub fn dump(&self) -> Result<Dump> {
        self.pins.check()?;
        let pins = &self.pins;
        let mut maps = BTreeMap::new();
        maps.insert("container_map", rows("container_map", pins.containers()?.iter(), |id, container| json!({
            "cgroup_id": id, "resolver": ip(container.resolver), "resolver_port": container.resolver_port,
            "resolver6": ip(container.resolver6), "resolver6_port": container.resolver6_port,
            "udp_idle_ns": container.udp_idle_ns, "flow_quota": container.flow_quota,
        }))?);
        maps.insert(
            "bypass_map",
            rows("bypass_map", pins.bypass()?.iter(), |id, bypass| {
                json!({
                    "cgroup_id": id, "deadline_ns": bypass.deadline_ns, "epoch": bypass.epoch,
                })
            })?,
        );
        maps.insert("dns_cache", rows("dns_cache", pins.dns_cache()?.iter(), |key, entry| json!({
            "cgroup_id": key.cgroup_id, "addr": ip(key.addr), "latest": entry.latest,
            "names": entry.names.iter().filter(|name| name.domain != 0)
                .map(|name| json!({"domain": name.domain, "expires_ns": name.expires_ns})).collect::<Vec<_>>(),
        }))?);
        maps.insert(
            "route_map",
            rows("route_map", pins.routes()?.iter(), |domain, routes| {
                json!({
                    "domain": domain, "ranges": ranges(&routes),
                })
            })?,
        );
        maps.insert(
            "prefix_map",
            rows("prefix_map", pins.prefixes()?.iter(), |key, prefix| {
                json!({
                    "cgroup_id": u64::from_be_bytes(key.data().cgroup_id_be), "addr": ip(key.data().addr),
                    "bits": key.prefix_len().saturating_sub(64), "zone": word(Zone::try_from(prefix.zone)),
                    "ranges": ranges(&prefix.routes),
                })
            })?,
        );
        maps.insert(
            "domain_names",
            rows("domain_names", pins.domain_names()?.iter(), |domain, name| {
                json!({
                    "domain": domain, "cgroup_id": name.cgroup_id, "name": text(&name),
                })
            })?,
        );
        maps.insert(
            "flows",
            rows("flows", pins.flows()?.iter(), |key, flow| flow_row(key.generation, &flow))?,
        );
        maps.insert(
            "tombstones",
            rows("tombstones", pins.tombstones()?.iter(), |cookie, released| {
                json!({
                    "cookie": cookie, "released_ns": released,
                })
            })?,
        );
        maps.insert("ledger", rows("ledger", pins.ledger()?.iter(), |id, ledger| {
            let overflow: Map<String, Value> =
                Hook::ALL.iter().zip(ledger.overflow).map(|(hook, count)| (hook.to_string(), json!(count))).collect();
            json!({
                "cgroup_id": id, "denied": ledger.denied, "opened": ledger.opened, "closed": ledger.closed,
                "submitted": ledger.submitted, "folded": ledger.folded, "fold_keys": ledger.fold_keys,
                "overflow": overflow,
            })
        })?);
        let readings = pins.fold_readings()?;
        maps.insert(
            "folds",
            rows("folds", pins.folds()?.iter(), |key, fold| {
                // The reader writes an entry once it has documented something.
                let noted = readings.get(&key, 0).unwrap_or_default();
                fold_row(&key, &fold, noted.of(fold.first_ns))
            })?,
        );
        maps.insert("fold_readings", rows("fold_readings", pins.fold_readings()?.iter(), |key, noted| json!({
            "cgroup_id": key.cgroup_id, "dst": ip(key.dst), "dst_port": key.dst_port, "l4_proto": key.l4_proto,
            "hook": word(Hook::try_from(key.hook)), "first_ns": noted.first_ns, "count": noted.count,
        }))?);
        maps.insert(
            "budgets",
            rows("budgets", pins.budgets()?.iter(), |id, budget| {
                json!({
                    "cgroup_id": id, "window": budget.window, "used": budget.used,
                })
            })?,
        );
        maps.insert("metrics_map", rows("metrics_map", pins.metrics()?.iter(), |key, count| json!({
            "cgroup_id": key.cgroup_id, "domain": key.domain, "port": key.port, "l4_proto": key.l4_proto,
            "verdict": word(Verdict::try_from(key.verdict)), "count": count,
        }))?);
        Ok(Dump(maps))
    }
}

fn rows<K, V>(
    map: &'static str,
    pairs: impl Iterator<Item = std::result::Result<(K, V), MapError>>,
    row: impl Fn(K, V) -> Value,
) -> Result<Rows> {
    let mut rows = Vec::new();
    for pair in pairs {
        let (key, value) = pair.map_err(Error::map(map))?;
        rows.extend(row(key, value).as_object().cloned());
    }
    Ok(rows)
}

fn ranges(routes: &abi::Routes) -> Vec<Value> {
    let used = routes.ranges.iter().filter(|range| range.l4_proto != 0);
    used.map(|range| {
        json!({
            "l4_proto": range.l4_proto, "first": range.first, "last": range.last, "listener": range.listener,
        })
    })
    .collect()
}

fn flow_row(generation: u32, flow: &Flow) -> Value {
    json!({
        "cookie": flow.cookie, "generation": generation, "cgroup_id": flow.cgroup_id, "l4_proto": flow.l4_proto,
        "dst": ip(flow.dst), "dst_port": flow.dst_port,
        "actual_dst": ip(flow.actual_dst), "actual_dst_port": flow.actual_dst_port,
        "verdict": word(Verdict::try_from(flow.verdict)), "reason": word(Reason::try_from(flow.reason)),
        "close_reason": word(CloseReason::try_from(flow.close_reason)), "flags": flow.flags,
        "bytes_in": flow.bytes_in, "bytes_out": flow.bytes_out, "start_ns": flow.start_ns, "last_ns": flow.last_ns,
        "pid": flow.pid, "domain": flow.domain,
    })
}

fn fold_row(key: &FoldKey, fold: &Fold, documented: u64) -> Value {
    json!({
        "cgroup_id": key.cgroup_id, "dst": ip(key.dst), "dst_port": key.dst_port, "l4_proto": key.l4_proto,
        "verdict": word(Verdict::try_from(key.verdict)), "reason": word(Reason::try_from(key.reason)),
        "hook": word(Hook::try_from(key.hook)), "count": fold.count, "documented": documented,
        "first_ns": fold.first_ns, "last_ns": fold.last_ns, "pid": fold.pid, "domain": fold.domain,
    })
}

fn word<T: std::fmt::Display>(member: std::result::Result<T, Unknown>) -> String {
    member.map_or_else(|Unknown(byte)| format!("unknown {byte}"), |member| member.to_string())
}

impl std::fmt::Display for Dump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (map, rows) in &self.0 {
            writeln!(f, "{map}: {} entries", rows.len())?;
            let Some(first) = rows.first() else { continue };
            let mut table = Table::new();
            table.load_preset(UTF8_FULL_CONDENSED);
            table.set_header(first.keys());
            for row in rows {
                table.add_row(row.values().map(|value| match value {
                    Value::String(text) => text.escape_debug().to_string(),
                    other => other.to_string(),
                }));
            }
            writeln!(f, "{table}")?;
        }
        Ok(())
    }
}
