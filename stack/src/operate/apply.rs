//! `stack apply`: has the proxy and the resolver serve what containers are listed, without a restart and without cutting a
//! connection.

use std::{fs, net::SocketAddr, path::Path};

use anyhow::Context as _;
use bollard::models::{Mount as Bind, MountType};
use stack::{Envoy, Plan};

use super::{
    Outcome, Wrong, commands, configure,
    docker::Docker,
    files, listed,
    plan::Kept,
    ready, say,
    service::{self, Ready, Service, TO_RESOLVER, USER},
    settings::{Settings, host},
    up,
};

/// Folder of what is tried before it is put into its place.
const NEXT: &str = "next";

/// Applies the list in `file` to the stack in `folder`.
pub fn apply(folder: &Path, file: &Path) -> anyhow::Result<Outcome> {
    ready::root()?;
    let settings = Settings::needed(folder)?;
    let folder = &folder.canonicalize().with_context(|| folder.display().to_string())?;
    let _lock = files::lock(folder)?;
    let text = fs::read_to_string(file).map_err(|error| Wrong(format!("{}: {error}", file.display())))?;
    let wrong = |problem: String| Wrong(format!("{}: {problem}", file.display()));
    let containers = stack::containers(&text).map_err(wrong)?;
    let docker = Docker::connect(&settings.name)?;
    let holders = docker.holders(&settings.agents_network())?;
    for container in &containers {
        listed::fits(container, &settings).map_err(wrong)?;
        match docker.anybodys(&container.container_id)? {
            Some(there) => listed::is_it(container, &there, &docker)?.map_err(wrong)?,
            None => eprintln!(
                "stack: Docker knows no container {}: it is served as it is listed",
                container.container_id
            ),
        }
        if let Some((address, holder)) = listed::taken(container, &docker, &holders)? {
            let id = &container.container_id;
            return Err(wrong(format!(
                "the container {id} is listed with {address}, which is the container {holder}'s: leave out of the list what has ended"
            ))
            .into());
        }
    }
    let (next, plan) =
        Kept::read(folder)?.with(containers).map_err(|problem| wrong(format!("{problem:#}")))?;
    reachable(&plan, &settings).map_err(|problem| wrong(problem.to_string()))?;
    tried(&docker, folder, &settings, &plan)?;
    // From here on it can be; an interrupted one is completed by the next, or by `up`.
    next.write(folder)?;
    configure::certificates(folder, &folder.join("envoy/certificates"), &plan, &settings)?;
    configure::containers(folder, &next, &plan, &settings)?;
    configure::rules(folder, &plan)?;
    serves(&docker, &settings, &next, &plan)?;
    say(&commands::of(&docker, folder, &settings, &next, &plan)?)?;
    Ok(Outcome::Good)
}

/// Waits until proxy and resolver serve what is kept.
pub fn serves(docker: &Docker, settings: &Settings, kept: &Kept, plan: &Plan) -> anyhow::Result<()> {
    let name = settings.container("envoy");
    if docker.running(&name)?.is_some() {
        let upstream = configure::upstream(settings)?;
        ready::wait_until_served(docker, &name, &Envoy::new(plan, &upstream))?;
    } else {
        eprintln!("stack: the proxy does not run: `stack up` starts it, with what was applied");
    }
    let name = settings.container("coredns");
    if docker.running(&name)?.is_some() {
        let resolver = host(settings.agents, TO_RESOLVER);
        let ports = kept.containers.iter().filter_map(|container| kept.dns(container));
        let addresses: Vec<SocketAddr> = ports.map(|port| (resolver, port).into()).collect();
        let corefile = configure::corefile_of(kept, plan, settings);
        ready::wait_until_resolved(docker, &name, &corefile, &addresses)?;
    } else {
        eprintln!("stack: the resolver does not run: `stack up` starts it, with what was applied");
    }
    Ok(())
}

/// No rule names an address that the proxy connects to for nobody.
fn reachable(plan: &Plan, settings: &Settings) -> anyhow::Result<()> {
    let upstream = configure::upstream(settings)?;
    let Some((handed, what)) = Envoy::new(plan, &upstream).refused().into_iter().next() else {
        return Ok(());
    };
    anyhow::bail!(
        "a rule names {} port {}, which is {what}: the proxy connects there for nobody, so that no container gets behind it by a \
         name; leave the rule out, or give the server an address of its own",
        handed.dst,
        handed.port
    )
}

/// Has Envoy itself check all of the plan, and puts nothing anywhere.
fn tried(docker: &Docker, folder: &Path, settings: &Settings, plan: &Plan) -> anyhow::Result<()> {
    let next = folder.join(NEXT);
    files::folder(&next, 0o700, Some(USER))?;
    let at = |name: &str| next.join(name);
    files::folder(&at("certificates"), 0o700, Some(USER))?;
    configure::certificates(folder, &at("certificates"), plan, settings)?;
    let upstream = configure::upstream(settings)?;
    let whole = Envoy::new(plan, &upstream).whole();
    files::write(&at("whole.json"), whole.to_string().as_bytes(), 0o600, Some(USER))?;
    let envoy = Service {
        command: ["--mode", "validate", "-c", "/next/whole.json"].map(str::to_owned).to_vec(),
        mounts: Vec::new(),
        ready: Ready::Listens(0),
        ..service::envoy(settings)
    };
    let mut body = up::body(folder, settings, &envoy, None);
    if let Some(host) = &mut body.host_config {
        let bind = |from: &Path, at: &str| Bind {
            typ: Some(MountType::BIND),
            source: Some(from.to_string_lossy().into_owned()),
            target: Some(at.to_owned()),
            read_only: Some(true),
            ..Bind::default()
        };
        host.mounts = Some(vec![
            bind(&next, "/next"),
            bind(&at("certificates"), "/etc/envoy/certificates"),
            bind(&folder.join("envoy/lane"), "/etc/envoy/lane"),
            bind(&folder.join("envoy/telemetry"), "/etc/envoy/telemetry"),
            bind(&folder.join("envoy/upstream-ca.crt"), "/etc/envoy/upstream-ca.crt"),
        ]);
        host.restart_policy = None;
    }
    let (code, told) = docker.run(&settings.container("check"), body)?;
    fs::remove_dir_all(&next).with_context(|| format!("cannot remove {}", next.display()))?;
    if code != 0 {
        return Err(
            Wrong(format!("Envoy would not take this, and nothing was changed ({code}):\n{told}")).into()
        );
    }
    Ok(())
}
