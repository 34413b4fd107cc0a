//! How the kernel is told of what is served: the commands that `stack apply` prints, to be copied.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use stack::{Container, Plan};

use super::{
    docker::Docker,
    plan::Kept,
    service::{MACHINE, TO_PROXY, TO_RESOLVER},
    settings::{Settings, host},
};

/// Those for each container of a plan.
pub fn of(
    docker: &Docker,
    folder: &Path,
    settings: &Settings,
    kept: &Kept,
    plan: &Plan,
) -> anyhow::Result<String> {
    shown(|container| cgroup(docker, container), folder, settings, kept, plan)
}

/// The cgroup of a container that runs.
fn cgroup(docker: &Docker, container: &Container) -> anyhow::Result<Option<PathBuf>> {
    let runs = docker.anybodys(&container.container_id)?.filter(|there| there.is_running());
    let Some(pid) = runs.and_then(|there| there.pid()) else { return Ok(None) };
    // It may have ended by now.
    let Ok(of) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else { return Ok(None) };
    let mounts = fs::read_to_string("/proc/mounts").context("cannot read /proc/mounts")?;
    let root = mounts.lines().map(|line| line.split(' ')).find_map(|mut fields| {
        let at = fields.nth(1)?;
        (fields.next() == Some("cgroup2")).then_some(at)
    });
    let path = of.lines().find_map(|line| line.strip_prefix("0::/"));
    Ok(root.zip(path).map(|(root, path)| Path::new(root).join(path)))
}

fn shown(
    cgroup: impl Fn(&Container) -> anyhow::Result<Option<PathBuf>>,
    folder: &Path,
    settings: &Settings,
    kept: &Kept,
    plan: &Plan,
) -> anyhow::Result<String> {
    let machine = host(settings.agents, MACHINE);
    let (proxy, resolver) = (host(settings.agents, TO_PROXY), host(settings.agents, TO_RESOLVER));
    // Within the proxy's container it may be Docker's own, which is nobody on the machine.
    let dns = if settings.dns.ip().is_loopback() { "DNS:53".to_owned() } else { settings.dns.to_string() };
    let mut text = match plan.containers.len() {
        0 => return Ok("No container is served any more.\n".to_owned()),
        1 => "1 container is served".to_owned(),
        several => format!("{several} containers are served"),
    };
    text.push_str(
        ". The kernel is told of one that is not enrolled by `enrol`, and of one that is by `rules apply`.\n",
    );
    let mut waits = false;
    for container in &plan.containers {
        let rules = quoted(&folder.join(format!("rules/{}.yaml", container.container_id)).to_string_lossy());
        let port = kept.dns(container).unwrap_or_default();
        // One that does not run has none yet.
        let cgroup = cgroup(container)?;
        waits |= cgroup.is_none();
        let path =
            cgroup.as_ref().map_or_else(|| "CGROUP".to_owned(), |path| quoted(&path.to_string_lossy()));
        text.push_str(&format!(
            "\n    ebpf-manager enrol {path} --container-id {id} --agent {agent} --project {project} \\\n        \
             --rules {rules} --resolver {resolver}:{port} --view {machine}:{port} --upstream {dns} \\\n        \
             --proxy {proxy} --catch-all {catch_all} --infrastructure {proxy}:{telemetry} --subnet {subnet} --gateway {machine} \\\n        \
             --forbidden {plane}\n",
            id = container.container_id,
            agent = quoted(&container.agent),
            project = quoted(&container.project),
            catch_all = plan.listeners.catch_all,
            telemetry = plan.listeners.telemetry,
            subnet = settings.agents,
            plane = settings.plane,
        ));
        if let Some(folder) = cgroup.and_then(|path| fs::metadata(path).ok()) {
            text.push_str(&format!("    ebpf-manager rules apply {rules} --cgroup-id {}\n", folder.ino()));
        }
    }
    if waits {
        text.push_str(
            "\nCGROUP stands for the cgroup v2 folder of a container, which it has once it runs.\n",
        );
    }
    if dns == "DNS:53" {
        text.push_str("\nDNS:53 stands for the name server that names are looked up at, such as one of /etc/resolv.conf.\n");
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
        let of = |cgroup: Option<PathBuf>| {
            shown(|_| Ok(cgroup.clone()), Path::new("/stack"), &Settings::default(), &kept, &plan)
                .expect("commands")
        };
        let text = of(None);
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
        assert!(!text.contains("rules apply /stack"), "it does not run, so it is not enrolled: {text}");
        // A cgroup's identifier is its folder's inode.
        let folder = tempfile::tempdir().expect("a folder");
        let id = fs::metadata(folder.path()).expect("metadata").ino();
        let text = of(Some(folder.path().to_owned()));
        let apply = format!("\n    ebpf-manager rules apply /stack/rules/one.yaml --cgroup-id {id}\n");
        assert!(text.contains(&apply) && !text.contains("CGROUP"), "{text}");
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
