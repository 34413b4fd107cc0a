//! `stack up`: makes what is missing, makes anew what differs, and leaves the rest as it is.

use std::{collections::HashMap, path::Path};

use anyhow::Context as _;
use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, HostConfigLogConfig,
    Mount as Bind, MountType, NetworkingConfig, RestartPolicy, RestartPolicyNameEnum,
};
use stack::{Lane, Listeners, digest, store::Wanted};

use super::{
    Outcome, Wrong, apply, configure,
    docker::{Docker, Place},
    files,
    plan::Kept,
    ready, say,
    service::{self, COLLECTOR, Service, TO_PROXY, TO_RESOLVER},
    settings::{Given, Settings, host},
    store, trust,
};

const MIB: i64 = 1 << 20;

/// Makes the stack in `folder` run. Templates of its store that somebody changed are left so, or overwritten.
pub fn up(folder: &Path, given: &Given, overwrite: bool) -> anyhow::Result<Outcome> {
    ready::root()?;
    files::folder(folder, 0o755, None)?;
    let folder = &folder.canonicalize().with_context(|| folder.display().to_string())?;
    let _lock = files::lock(folder)?;
    let before = Settings::read(folder)?;
    let settings = before.clone().unwrap_or_default().with(given)?;
    if let Some(before) = before.filter(|before| !settings.is_where(before)) {
        nothing_is_left_of(&before)?;
    }
    let docker = Docker::connect(&settings.name)?;
    let services = service::all(&settings);
    let images: Vec<String> =
        services.iter().map(|service| docker.image(&image(service, &settings))).collect::<Result<_, _>>()?;
    // Before anything is written: what runs goes on if they cannot be.
    for (name, subnet, internal) in [
        (settings.agents_network(), settings.agents, false),
        (settings.plane_network(), settings.plane, true),
    ] {
        if docker.network(&name, subnet, internal)? {
            tell(&format!("network {name}: made, {subnet}"));
        }
    }
    settings.write(folder)?;
    configure::fixed(folder, &settings)?;
    let mut made = trust::ready(folder, &settings)?;
    let kept = Kept::read(folder)?;
    let plan = kept.plan()?;
    made.extend(configure::certificates(folder, &folder.join("envoy/certificates"), &plan, &settings)?);
    configure::containers(folder, &kept, &plan, &settings)?;
    configure::rules(folder, &plan)?;
    if !made.is_empty() {
        tell(&format!("certificates made: {}", made.join(", ")));
    }
    for (service, image) in services.iter().zip(&images) {
        let did = start(&docker, folder, &settings, service, image)?;
        tell(&format!("{}: {did}", service.name));
        ready::wait(&docker, &settings, service)?;
        if service.name == "opensearch" {
            let store = store::of(&settings)?;
            let wanted = Wanted {
                retention: settings.retention(),
                // Nobody but the others reaches the store: whoever writes to it shows nothing.
                writer: None,
                overwrite,
                prometheus: Some(configure::prometheus_url(&settings)),
            };
            let report = store.bootstrap(&wanted)?;
            tell(&format!("opensearch: ready\n{report}"));
        } else {
            tell(&format!("{}: ready", service.name));
        }
    }
    apply::serves(&docker, &settings, &kept, &plan)?;
    say(&to_give(folder, &settings))?;
    Ok(Outcome::Good)
}

/// What is called otherwise, or has other networks, is another stack: it would not find what is there.
fn nothing_is_left_of(before: &Settings) -> anyhow::Result<()> {
    let docker = Docker::connect(&before.name)?;
    let mut left = docker.containers()?;
    for network in [before.agents_network(), before.plane_network()] {
        left.extend(docker.has_network(&network)?.then_some(network));
    }
    if left.is_empty() {
        return Ok(());
    }
    let Settings { name, agents, plane, .. } = before;
    Err(Wrong(format!(
        "the stack that is there is --name {name} --agents {agents} --plane {plane}, and {} of it are left: `stack down` removes it, and no \
         data; nothing was changed",
        left.join(", ")
    ))
    .into())
}

fn tell(what: &str) {
    eprintln!("stack: {what}");
}

fn image(service: &Service, settings: &Settings) -> String {
    format!("clawker/{}:{}", service.image, settings.tag)
}

/// Has a service run as it should, and says what was done.
fn start(
    docker: &Docker,
    folder: &Path,
    settings: &Settings,
    service: &Service,
    image: &str,
) -> anyhow::Result<&'static str> {
    let name = settings.container(service.name);
    let mut places = Vec::new();
    for (network, address) in
        [(settings.agents_network(), service.agents), (settings.plane_network(), service.plane)]
    {
        places.extend(address.map(|address| Place { network, address }));
    }
    let body = body(folder, settings, service, places.first());
    let digest = digest(folder, service, image, &body, &places)?;
    let did = match docker.container(&name)? {
        Some(there) if there.digest() == Some(&digest) && there.is_running() => return Ok("as it is"),
        Some(there) if there.digest() == Some(&digest) => {
            docker.start(&name)?;
            return Ok("started again");
        }
        Some(_) => {
            docker.remove(&name)?;
            "made anew, for it differs"
        }
        None => "made",
    };
    docker.start_new(&name, &digest, body, places.get(1..).unwrap_or_default())?;
    Ok(did)
}

/// What a container is made of: it may do nothing that it need not.
pub fn body(
    folder: &Path,
    settings: &Settings,
    service: &Service,
    place: Option<&Place>,
) -> ContainerCreateBody {
    let binds = service.mounts.iter().map(|mount| Bind {
        typ: Some(MountType::BIND),
        source: Some(folder.join(mount.from).to_string_lossy().into_owned()),
        target: Some(mount.at.to_owned()),
        read_only: Some(!mount.writable),
        ..Bind::default()
    });
    let endpoints = place.map(|place| {
        let address = EndpointIpamConfig {
            ipv4_address: Some(place.address.to_string()),
            ..EndpointIpamConfig::default()
        };
        let endpoint = EndpointSettings { ipam_config: Some(address), ..EndpointSettings::default() };
        NetworkingConfig { endpoints_config: Some(HashMap::from([(place.network.clone(), endpoint)])) }
    });
    let memory = service.memory_mib.saturating_mul(MIB);
    ContainerCreateBody {
        image: Some(image(service, settings)),
        user: Some(format!("{}:{}", service.user.0, service.user.1)),
        entrypoint: service.entrypoint.map(|program| vec![program.to_owned()]),
        cmd: (!service.command.is_empty()).then(|| service.command.clone()),
        env: Some(service.variables.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        networking_config: endpoints,
        host_config: Some(HostConfig {
            network_mode: Some(place.map_or_else(|| "none".to_owned(), |place| place.network.clone())),
            mounts: Some(binds.collect()),
            tmpfs: Some(service.scratch.iter().map(|at| ((*at).to_owned(), String::new())).collect()),
            memory: Some(memory),
            memory_swap: Some(memory),
            cpu_shares: service.cpu_shares,
            pids_limit: Some(1024),
            readonly_rootfs: Some(!service.writes_root),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
                maximum_retry_count: None,
            }),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(HashMap::from([
                    ("max-size".to_owned(), "10m".to_owned()),
                    ("max-file".to_owned(), "3".to_owned()),
                ])),
            }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// Of everything that a container is made of, and of what it reads only once.
fn digest(
    folder: &Path,
    service: &Service,
    image: &str,
    body: &ContainerCreateBody,
    places: &[Place],
) -> anyhow::Result<String> {
    let mut all =
        vec![digest::of_value(&serde_json::to_value(body)?), image.to_owned(), format!("{places:?}")];
    for name in &service.read_once {
        let mut paths = vec![folder.join(name)];
        if let Ok(entries) = std::fs::read_dir(folder.join(name)) {
            paths = entries.flatten().map(|entry| entry.path()).collect();
            paths.sort();
        }
        for path in paths {
            let content = std::fs::read(&path).with_context(|| path.display().to_string())?;
            all.extend([path.to_string_lossy().into_owned(), digest::of_bytes(&content)]);
        }
    }
    Ok(digest::of_bytes(all.join("\n").as_bytes()))
}

/// What others need to know to be part of it.
fn to_give(folder: &Path, settings: &Settings) -> String {
    let given = folder.join(trust::GIVEN);
    let given = given.display();
    let collector = host(settings.plane, COLLECTOR);
    let port = |lane: Lane| lane.port().unwrap_or_default();
    let (proxy, resolver) = (host(settings.agents, TO_PROXY), host(settings.agents, TO_RESOLVER));
    let listeners = Listeners::default();
    format!(
        "\
Our own programs, once `ebpf-manager load` has been run:
    ebpf-manager run --events-endpoint https://{collector}:{overseer} --logs-endpoint https://{collector}:{cp} \\
        --lane-certificates {given}
    reader --endpoint https://{collector}:{egress} --listen {machine}:9464 \\
        --tls-ca {given}/collector-ca.crt --tls-cert {given}/egress.crt --tls-key {given}/egress.key \\
        --events-endpoint https://{collector}:{overseer} --logs-endpoint https://{collector}:{cp} --lane-certificates {given}
Agents: `docker run --network {network}`, with {given}/proxy-ca.crt among the authorities they trust; list them for
    stack apply CONTAINERS.yaml
which says how each is enrolled. The proxy is {proxy}, its catch-all {catch_all}; the resolver is {resolver}, with a port for each container.
Agents' own telemetry: OTLP over TLS to https://{proxy}:{telemetry}
Searches: {store}   Metrics: {prometheus}
",
        egress = port(Lane::Egress),
        overseer = port(Lane::Overseer),
        cp = port(Lane::Cp),
        machine = host(settings.plane, service::MACHINE),
        network = settings.agents_network(),
        catch_all = listeners.catch_all,
        telemetry = listeners.telemetry,
        store = configure::store_url(settings),
        prometheus = configure::prometheus_url(settings),
    )
}
