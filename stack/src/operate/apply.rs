//! `stack apply`: has the proxy and the resolver serve what containers are listed, without a restart and without cutting a
//! connection.

use std::{fs, net::SocketAddr, path::Path};

use anyhow::Context as _;
use bollard::models::{Mount as Bind, MountType};
use stack::{Container, Envoy, Plan};

use super::{
    Outcome, Wrong, configure,
    docker::Docker,
    files,
    plan::Kept,
    ready,
    service::{self, MACHINE, Ready, Service, TO_PROXY, TO_RESOLVER, USER},
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
    let containers =
        stack::containers(&text).map_err(|problem| Wrong(format!("{}: {problem}", file.display())))?;
    check(&containers, &settings).map_err(|problem| Wrong(format!("{}: {problem}", file.display())))?;
    let docker = Docker::connect(&settings.name)?;
    let (next, plan) = Kept::read(folder)?
        .with(containers)
        .map_err(|problem| Wrong(format!("{}: {problem:#}", file.display())))?;
    reachable(&plan, &settings).map_err(|problem| Wrong(format!("{}: {problem}", file.display())))?;
    tried(&docker, folder, &settings, &plan)?;
    // From here on it can be; an interrupted one is completed by the next, or by `up`.
    next.write(folder)?;
    configure::certificates(folder, &folder.join("envoy/certificates"), &plan, &settings)?;
    configure::containers(folder, &next, &plan, &settings)?;
    configure::rules(folder, &plan)?;
    serves(&docker, &settings, &next, &plan)?;
    print!("{}", commands(|container| cgroup(&docker, container), folder, &settings, &next, &plan)?);
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

/// What the list alone does not say: that containers are where the proxy can tell them apart.
fn check(containers: &[Container], settings: &Settings) -> Result<(), String> {
    for container in containers {
        let id = &container.container_id;
        if container.addresses.is_empty() {
            return Err(format!("the container {id} has no address: the proxy would know nothing of it"));
        }
        for address in &container.addresses {
            let std::net::IpAddr::V4(v4) = address.to_canonical() else { continue };
            if !settings.agents.contains(&v4) {
                return Err(format!(
                    "the container {id} has the address {v4}, which is not in {}, the network of agents: `docker run --network {}`",
                    settings.agents,
                    settings.agents_network()
                ));
            }
            if [MACHINE, TO_PROXY, TO_RESOLVER].iter().any(|number| host(settings.agents, *number) == v4) {
                return Err(format!("the container {id} has the address {v4}, which is the stack's own"));
            }
        }
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
    let envoy = service::all(settings).into_iter().find(|service| service.name == "envoy");
    let envoy = Service {
        command: ["--mode", "validate", "-c", "/next/whole.json"].map(str::to_owned).to_vec(),
        mounts: Vec::new(),
        ready: Ready::Listens(0),
        ..envoy.context("there is no proxy")?
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

/// The cgroup of a container that runs.
fn cgroup(docker: &Docker, container: &Container) -> anyhow::Result<Option<String>> {
    let runs = docker.anybodys(&container.container_id)?.filter(|there| there.is_running());
    let Some(pid) = runs.and_then(|there| there.pid()) else { return Ok(None) };
    // It may have ended by now.
    let Ok(of) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else { return Ok(None) };
    let mounts = fs::read_to_string("/proc/mounts").context("cannot read /proc/mounts")?;
    let root = mounts.lines().map(|line| line.split(' ')).find_map(|mut fields| {
        let at = fields.nth(1)?;
        (fields.next() == Some("cgroup2")).then_some(at)
    });
    Ok(root
        .zip(of.lines().find_map(|line| line.strip_prefix("0::")))
        .map(|(root, path)| format!("{root}{path}")))
}

/// How the kernel is told, for each container.
fn commands(
    cgroup: impl Fn(&Container) -> anyhow::Result<Option<String>>,
    folder: &Path,
    settings: &Settings,
    kept: &Kept,
    plan: &Plan,
) -> anyhow::Result<String> {
    let machine = host(settings.agents, MACHINE);
    let (proxy, resolver) = (host(settings.agents, TO_PROXY), host(settings.agents, TO_RESOLVER));
    let mut text = format!(
        "{} containers are served. The kernel is told by, for one that is enrolled already,\n",
        plan.containers.len()
    );
    // Within the proxy's container it may be Docker's own, which is nobody on the machine.
    let dns = if settings.dns.ip().is_loopback() { "DNS:53".to_owned() } else { settings.dns.to_string() };
    text.push_str("    ebpf-manager rules apply RULES --cgroup-id ID      # `ebpf-manager status` has the id\nand else by\n");
    for container in &plan.containers {
        let rules = folder.join(format!("rules/{}.yaml", container.container_id));
        let port = kept.dns(container).unwrap_or_default();
        // One that does not run has none yet.
        let cgroup = cgroup(container)?.map_or_else(|| "CGROUP".to_owned(), |path| quoted(&path));
        text.push_str(&format!(
            "    ebpf-manager enrol {cgroup} --container-id {id} --agent {agent} --project {project} \\\n        \
             --rules {rules} --resolver {resolver}:{port} --view {machine}:{port} --upstream {dns} \\\n        \
             --proxy {proxy} --catch-all {catch_all} --infrastructure {proxy}:{telemetry} --subnet {subnet} --gateway {machine} \\\n        \
             --forbidden {plane}\n",
            id = container.container_id,
            agent = quoted(&container.agent),
            project = quoted(&container.project),
            rules = quoted(&rules.to_string_lossy()),
            catch_all = plan.listeners.catch_all,
            telemetry = plan.listeners.telemetry,
            subnet = settings.agents,
            plane = settings.plane,
        ));
    }
    if dns == "DNS:53" {
        text.push_str("DNS:53 stands for the name server that names are looked up at, such as one of /etc/resolv.conf.\n");
    }
    Ok(text)
}

/// As a shell takes it for one word. Labels may be anything.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    if text.chars().any(char::is_control) {
        // Shown as it is, it would not be one line; this is bash's.
        let mut word = String::from("$'");
        for c in text.chars() {
            match c {
                '\\' | '\'' => word.extend(['\\', c]),
                c if c.is_control() => {
                    let mut bytes = [0; 4];
                    word.extend(c.encode_utf8(&mut bytes).bytes().map(|byte| format!("\\x{byte:02x}")));
                }
                c => word.push(c),
            }
        }
        return word + "'";
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_told_of_both_networks() {
        let one = "- {container_id: one, agent: a, project: p, addresses: [198.18.0.130], rules: [{dst: a.test, proto: ssh}]}";
        let (kept, plan) = Kept::default().with(stack::containers(one).expect("containers")).expect("a plan");
        let text = commands(|_| Ok(None), Path::new("/stack"), &Settings::default(), &kept, &plan)
            .expect("commands");
        let command = text.split_once("ebpf-manager enrol ").map(|(_, command)| command.replace("\\\n", ""));
        let words: Vec<&str> = command.as_deref().unwrap_or_default().split_whitespace().collect();
        for (flag, value) in [
            ("--rules", "/stack/rules/one.yaml"),
            ("--view", "198.18.0.1:5301"),
            ("--subnet", "198.18.0.0/24"),
            ("--gateway", "198.18.0.1"),
            ("--forbidden", "198.18.1.0/24"),
        ] {
            assert!(words.windows(2).any(|pair| pair == [flag, value]), "{flag} {value}: {text}");
        }
    }

    #[test]
    fn a_shell_reads_a_label_as_it_is() {
        for label in ["scout", "", "a b", "it's \"q\" $HOME `x`", "tab\t\\ and 'nl\n", "ä \u{85}"] {
            let script = format!("printf %s {}", quoted(label));
            let output =
                std::process::Command::new("bash").args(["-c", &script]).output().expect("bash runs");
            assert_eq!(String::from_utf8_lossy(&output.stdout), label, "{script}");
        }
    }
}
