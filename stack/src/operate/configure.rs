//! What the services are told, written where they see it.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use anyhow::Context as _;
use serde_json::Value;
use stack::{
    AGENTS_OWN_METRICS, Collector, Envoy, Lane, Plan, Prometheus, Shown, Telemetry, Upstream,
    certificates::Role,
    coredns::{View, corefile},
};

use super::{
    Wrong, files,
    plan::Kept,
    service::{
        self, AGENTS_COLLECTOR, DNS, MACHINE, PROMETHEUS, RELAY, RELAY_METRICS, RELAY_PORT, STORE, TO_PROXY,
        TO_RESOLVER, USER, collector_of,
    },
    settings::{Settings, host},
    trust,
};

/// Where Envoy sees its files.
const ENVOY: &str = "/etc/envoy";
/// Port of the reader's metrics, on the machine.
const READER: u16 = 9464;
/// Port of agents', at their collector.
const METRICS: u16 = 9464;
/// Between two looks of Prometheus.
const INTERVAL: Duration = Duration::from_secs(15);

/// Where the store answers.
pub fn store_url(settings: &Settings) -> String {
    format!("http://{}:9200", host(settings.plane, STORE))
}

/// Where Prometheus answers.
pub fn prometheus_url(settings: &Settings) -> String {
    format!("http://{}:9090", host(settings.plane, PROMETHEUS))
}

/// What does not depend on containers.
pub fn fixed(folder: &Path, settings: &Settings) -> anyhow::Result<()> {
    let at = |name: &str| folder.join(name);
    for name in
        ["collector", "agents-collector", "envoy", "envoy/certificates", "coredns", "prometheus", "relay"]
    {
        files::folder(&at(name), 0o755, None)?;
    }
    // What containers may reach, and what they did, is nobody's on the machine but its service's and root's.
    files::folder(&at("rules"), 0o700, None)?;
    files::folder(&at("data"), 0o711, None)?;
    for (name, user) in service::data(settings) {
        files::folder(&at(name), 0o700, Some(user))?;
    }
    let inside = "/etc/otelcol";
    let collector = Collector {
        store: store_url(settings),
        login: None,
        relay: Some(format!("{}:{RELAY_PORT}", host(settings.plane, RELAY))),
        certificates: format!("{inside}/certificates"),
        resolver_log: format!("{inside}/coredns"),
        state: format!("{inside}/state"),
        metrics: format!("0.0.0.0:{METRICS}"),
    };
    json_file(&at("collector/config.yaml"), &collector.config())?;
    json_file(&at("agents-collector/config.yaml"), &collector.agents_config())?;
    json_file(&at("prometheus/prometheus.yml"), &prometheus(settings))?;
    // Its own copy: what runs does not change with what is built.
    let relay = settings.relay()?;
    let program = fs::read(&relay).map_err(|error| {
        Wrong(format!(
            "{}: {error}; --relay names the relay's program, which is beside this one if both were built",
            relay.display()
        ))
    })?;
    files::write(&at("relay/relay"), &program, 0o755, None)?;
    let authorities = fs::read(&settings.authorities).map_err(|error| {
        Wrong(format!(
            "{}: {error}; --authorities names a file of those that upstreams' certificates are checked by",
            settings.authorities.display()
        ))
    })?;
    files::write(&at("envoy/upstream-ca.crt"), &authorities, 0o644, None)?;
    Ok(())
}

/// Whom Prometheus asks.
fn prometheus(settings: &Settings) -> Value {
    let at = |number: u8, port: u16| vec![format!("{}:{port}", host(settings.plane, number))];
    let prometheus = Prometheus {
        agents: at(AGENTS_COLLECTOR, METRICS),
        collector: at(AGENTS_COLLECTOR, AGENTS_OWN_METRICS),
        reader: at(MACHINE, READER),
        relay: at(RELAY, RELAY_METRICS),
        interval: INTERVAL,
    };
    prometheus.config()
}

/// What Envoy is told besides the plan.
pub fn upstream(settings: &Settings) -> anyhow::Result<Upstream> {
    let receiver = |lane: Lane, port: Option<u16>| {
        let collector = host(settings.plane, collector_of(lane).1).to_string();
        Ok::<_, anyhow::Error>((collector, port.context("a lane has no receiver")?))
    };
    Ok(Upstream {
        resolvers: vec![settings.dns],
        authorities: format!("{ENVOY}/upstream-ca.crt"),
        collector: receiver(Lane::Envoy, Lane::Envoy.port())?,
        telemetry: Telemetry {
            names: vec![host(settings.agents, TO_PROXY).to_string()],
            grpc: receiver(Lane::Claude, Lane::Claude.port())?,
            http: receiver(Lane::Claude, Lane::Claude.http_port())?,
        },
        own: vec![settings.agents.into(), settings.plane.into()],
        folder: ENVOY.to_owned(),
    })
}

/// Has `certificates` hold what the proxy shows to agents by this plan. Names those that were made.
pub fn certificates(
    folder: &Path,
    certificates: &Path,
    plan: &Plan,
    settings: &Settings,
) -> anyhow::Result<Vec<String>> {
    let authority = trust::proxy(folder)?;
    let upstream = upstream(settings)?;
    let mut made = Vec::new();
    for Shown { file, names } in Envoy::new(plan, &upstream).certificates() {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if trust::renew(&authority, &certificates.join(file), &names, Role::Server, Some(USER))? {
            made.push(names.join(", "));
        }
    }
    Ok(made)
}

/// What depends on containers: moved into its place, which is what Envoy and CoreDNS watch for.
pub fn containers(folder: &Path, kept: &Kept, plan: &Plan, settings: &Settings) -> anyhow::Result<()> {
    let upstream = upstream(settings)?;
    let envoy = folder.join("envoy");
    let files = Envoy::new(plan, &upstream).files();
    for (name, content) in &files {
        files::write(&envoy.join(name), content.to_string().as_bytes(), 0o644, None)?;
    }
    files::write(
        &folder.join("coredns/Corefile"),
        corefile_of(kept, plan, settings).as_bytes(),
        0o644,
        None,
    )?;
    // Nothing names them any more.
    for entry in fs::read_dir(&envoy).with_context(|| envoy.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_ours = name.ends_with(".json") && (name.starts_with("rds-") || name.starts_with("sds-"));
        if is_ours && files.iter().all(|(there, _)| *there != name) {
            fs::remove_file(entry.path())
                .with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// Where CoreDNS tells what it serves: on its own loopback.
pub const RESOLVER_METRICS: u16 = 9153;

/// What CoreDNS is told.
pub fn corefile_of(kept: &Kept, plan: &Plan, settings: &Settings) -> String {
    let machine = host(settings.agents, MACHINE);
    let views: Vec<View<'_>> = plan
        .containers
        .iter()
        .filter_map(|container| {
            let port = kept.dns(container)?;
            Some(View { container, port, resolver: (machine, port).into() })
        })
        .collect();
    let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, RESOLVER_METRICS));
    corefile(&[host(settings.agents, TO_RESOLVER).into()], DNS, &views, metrics)
}

/// Rules of each container, with their listeners, as `ebpf-manager` reads them.
pub fn rules(folder: &Path, plan: &Plan) -> anyhow::Result<()> {
    let rules = folder.join("rules");
    let mut names = Vec::new();
    for container in &plan.containers {
        let name = format!("{}.yaml", container.container_id);
        // A rule a line; JSON is YAML too.
        let mut text = String::new();
        for rule in &container.rules {
            text.push_str(&format!("- {}\n", serde_json::to_string(rule)?));
        }
        if text.is_empty() {
            text.push_str("[]\n");
        }
        files::write(&rules.join(&name), text.as_bytes(), 0o644, None)?;
        names.push(name);
    }
    for entry in fs::read_dir(&rules).with_context(|| rules.display().to_string())? {
        let entry = entry?;
        if !names.contains(&entry.file_name().to_string_lossy().into_owned()) {
            fs::remove_file(entry.path())
                .with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

fn json_file(path: &Path, content: &Value) -> anyhow::Result<()> {
    files::write(path, &serde_json::to_vec_pretty(content)?, 0o644, None).map(drop)
}
