//! Envoy's configuration: a bootstrap that it reads when it starts, and files that it watches for the rest.
//!
//! One filter chain for each container, matched by its address, so that its labels are literals of every access log
//! entry. Routes are files of their own, and what a chain is of is its container's alone: a change of rules touches nobody
//! else's, and what it replaces goes on for a day.

mod admin;
mod clusters;
mod limits;
mod listeners;
mod log;
mod lost;
mod routes;
mod served;
mod telemetry;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use ipnet::IpNet;
use rules::{Destination, forbidden};
use serde_json::{Value, json};

use crate::{Handed, Plan, digest};
pub use admin::{AdminError, ask};
pub use limits::PROXY_MEMORY;
pub use lost::{LOG_LOST, LogLost};
pub use served::DUMP;
pub(crate) use telemetry::IDENTITY;

/// What Envoy is told besides the plan.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Who is asked for the addresses of upstreams.
    pub resolvers: Vec<SocketAddr>,
    /// Where Envoy sees the authorities that upstreams' certificates are checked by.
    pub authorities: String,
    /// Name and port of the collector's lane for Envoy.
    pub collector: (String, u16),
    /// The lane for agents, which has a collector of its own.
    pub telemetry: Telemetry,
    /// The networks of the stack itself, among them those of the containers: no upstream is in these.
    pub own: Vec<IpNet>,
    /// The folder that Envoy sees these files in.
    pub folder: String,
}

/// Where agents' telemetry goes through.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// Names and addresses that agents call the proxy by, for its certificate.
    pub names: Vec<String>,
    /// Name and port of the agents' collector's receiver for gRPC.
    pub grpc: (String, u16),
    /// Name and port of the one for HTTP.
    pub http: (String, u16),
}

/// A certificate that containers are shown, to be put into `certificates` of [`Upstream::folder`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Name of its files, without `.crt` and `.key`.
    pub file: String,
    /// Names that it is for.
    pub names: Vec<String>,
}

/// The configuration of one plan.
pub struct Envoy<'a> {
    plan: &'a Plan,
    upstream: &'a Upstream,
}

impl<'a> Envoy<'a> {
    /// Of a plan.
    #[must_use]
    pub const fn new(plan: &'a Plan, upstream: &'a Upstream) -> Self {
        Self { plan, upstream }
    }

    /// Files by their names, to be put into [`Upstream::folder`]: those that name others last, as Envoy wants to read them.
    #[must_use]
    pub fn files(&self) -> Vec<(String, Value)> {
        let mut files = Vec::new();
        files.extend(self.secrets());
        files.extend(routes::files(self.plan));
        files.push(("cds.json".to_owned(), resources(clusters::all(self.plan, self.upstream))));
        files.push(("lds.json".to_owned(), resources(listeners::all(self.plan, self.upstream))));
        files.push(("bootstrap.json".to_owned(), self.bootstrap()));
        files
    }

    /// All of it in one file that names no other, for Envoy's validate mode, which reads no file that is watched.
    #[must_use]
    pub fn whole(&self) -> Value {
        let mut whole = json!({
            "static_resources": {
                "clusters": clusters::all(self.plan, self.upstream),
                "listeners": listeners::all(self.plan, self.upstream),
                "secrets": self.secrets().iter().filter_map(|(_, file)| file.pointer("/resources/0").cloned()).collect::<Vec<_>>(),
            },
        });
        let tables: BTreeMap<String, Value> = routes::files(self.plan)
            .into_iter()
            .filter_map(|(_, file)| {
                let table = file.pointer("/resources/0")?.clone();
                Some((table.get("name")?.as_str()?.to_owned(), table))
            })
            .collect();
        inline(&mut whole, &tables);
        whole
    }

    /// Addresses that rules name and the proxy connects to for nobody, with what they are.
    pub fn refused(&self) -> Vec<(&'a Handed, &'static str)> {
        let why = |handed: &Handed| match &handed.dst {
            Destination::Prefix(prefix) => forbidden::why(prefix.addr(), &self.upstream.own),
            Destination::Domain(_) | Destination::Below(_) => None,
        };
        self.plan.handed.keys().filter_map(|handed| Some((handed, why(handed)?))).collect()
    }

    /// Certificates that the proxy shows to containers: one each name or wildcard that a rule for https has, and that of
    /// its telemetry listener.
    pub fn certificates(&self) -> Vec<Shown> {
        let shown = |name: String| Shown { file: file_of(&name), names: vec![name] };
        let telemetry =
            Shown { file: telemetry::SECRET.to_owned(), names: self.upstream.telemetry.names.clone() };
        self.names().into_iter().map(shown).chain([telemetry]).collect()
    }

    /// Names that the proxy stands for.
    fn names(&self) -> BTreeSet<String> {
        self.plan.containers.iter().flat_map(listeners::certificates).collect()
    }

    fn secrets(&self) -> Vec<(String, Value)> {
        let secret = |name: String| {
            let file = |extension: &str| json!({"filename": self.path(&format!("certificates/{}.{extension}", file_of(&name)))});
            let secret = json!({
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
                "name": name,
                "tls_certificate": {"certificate_chain": file("crt"), "private_key": file("key")},
            });
            (secret_file(&name), resources(vec![secret]))
        };
        self.names().into_iter().chain([telemetry::SECRET.to_owned()]).map(secret).collect()
    }

    /// How names are looked up cannot change while it runs, for it would take no cluster or listener that does it otherwise: so
    /// that is in here as well, and `stack up` starts it anew.
    fn bootstrap(&self) -> Value {
        json!({
            "node": {"id": "clawker", "cluster": "clawker", "metadata": {"names": digest::short(clusters::ways(self.upstream).to_string().as_bytes())}},
            "admin": {"address": admin::address()},
            "overload_manager": limits::of_all(),
            "dynamic_resources": {
                "lds_config": watched(&self.path("lds.json"), &self.upstream.folder),
                "cds_config": watched(&self.path("cds.json"), &self.upstream.folder),
            },
        })
    }

    fn path(&self, file: &str) -> String {
        format!("{}/{file}", self.upstream.folder)
    }
}

/// Puts route tables and secrets where a file that is watched was named. Outside of an `Any` there are no types.
fn inline(value: &mut Value, tables: &BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            let table = fields
                .get("rds")
                .and_then(|rds| rds.get("route_config_name")?.as_str())
                .and_then(|name| tables.get(name));
            if let Some(table) = table.cloned() {
                fields.remove("rds");
                fields.insert("route_config".to_owned(), table);
            }
            fields.remove("sds_config");
            let of = fields.get("@type").and_then(Value::as_str);
            if of.is_some_and(|of| UNPACKED.iter().any(|one| of.ends_with(one))) {
                fields.remove("@type");
            }
            fields.values_mut().for_each(|value| inline(value, tables));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| inline(value, tables)),
        _ => {}
    }
}

/// What a file of resources has the type of, and a bootstrap does not.
const UNPACKED: [&str; 4] =
    ["cluster.v3.Cluster", "listener.v3.Listener", "route.v3.RouteConfiguration", "tls.v3.Secret"];

/// A name, as files are called after it.
fn file_of(name: &str) -> String {
    name.replace('*', "+")
}

fn secret_file(name: &str) -> String {
    format!("sds-{}.json", file_of(name))
}

/// A file of resources. A secret has no place for a digest.
fn resources(resources: Vec<Value>) -> Value {
    let is_secret = |one: &Value| one.get("tls_certificate").is_some();
    let stamp = |one| if is_secret(&one) { one } else { served::stamped(one) };
    json!({"resources": resources.into_iter().map(stamp).collect::<Vec<_>>()})
}

/// A file of resources that is read again when it is moved into its place.
fn watched(path: &str, folder: &str) -> Value {
    json!({
        "resource_api_version": "V3",
        "path_config_source": {"path": path, "watched_directory": {"path": folder}},
    })
}

fn socket_address(address: &str, port: u16) -> Value {
    json!({"socket_address": {"address": address, "port_value": port}})
}

/// Attributes as OTLP has them.
fn attributes(pairs: &BTreeMap<&str, String>) -> Value {
    let values = pairs.iter().map(|(key, value)| json!({"key": key, "value": {"string_value": value}}));
    json!({"values": values.collect::<Vec<_>>()})
}
