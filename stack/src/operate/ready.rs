//! Whether a service is ready, and waiting for it.

use std::{
    fs::File,
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::{
    sched::{CloneFlags, setns},
    unistd::geteuid,
};
use serde_json::Value;
use stack::{DUMP, Envoy, coredns::is_served};

use super::{
    configure::RESOLVER_METRICS,
    docker::{Container, Docker},
    service::{Ready, Service},
    settings::Settings,
};

/// Longer than any service takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);
/// Longer than the resolver takes to look for another Corefile, and to take it up.
const RESOLVED: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(3);

/// The largest answer that is read, bytes.
const LARGEST: u64 = 16 << 20;

/// Whether it is, now.
pub fn is_ready(service: &Service, container: &Container) -> bool {
    let Some(address) = service.plane.or(service.agents) else { return false };
    match service.ready {
        Ready::Answers(port, path) => answer(&format!("http://{address}:{port}{path}")).is_ok(),
        Ready::Listens(port) => {
            TcpStream::connect_timeout(&SocketAddr::from((address, port)), ANSWER).is_ok()
        }
        Ready::ProxyAnswers(path) => container.pid().is_some_and(|pid| answer_of_proxy(pid, path).is_ok()),
    }
}

/// Waits until it is. One that ends meanwhile is not waited for.
pub fn wait(docker: &Docker, settings: &Settings, service: &Service) -> anyhow::Result<()> {
    let name = settings.container(service.name);
    let begun = Instant::now();
    let restarts = docker.container(&name)?.map_or(0, |container| container.restarts());
    loop {
        let container = docker.container(&name)?.with_context(|| format!("the container {name} is gone"))?;
        if !container.is_running() || container.restarts() > restarts {
            return Err(docker.failed(&name, &format!("ended while it started ({})", container.state())));
        }
        if is_ready(service, &container) {
            return Ok(());
        }
        if begun.elapsed() > LIMIT {
            return Err(docker.failed(&name, &format!("is not ready after {} s", LIMIT.as_secs())));
        }
        thread::sleep(LOOK);
    }
}

/// What a server of the stack answers with 200.
pub fn answer(url: &str) -> anyhow::Result<String> {
    let agent = ureq::Agent::config_builder().timeout_global(Some(ANSWER)).proxy(None).build().new_agent();
    Ok(agent.get(url).call()?.body_mut().with_config().limit(LARGEST).read_to_string()?)
}

/// What is answered on the loopback of a process's network, which the service alone reaches otherwise.
fn answer_inside(pid: u32, port: u16, path: &str) -> anyhow::Result<String> {
    let network = File::open(format!("/proc/{pid}/ns/net"))?;
    // A thread of its own is in that network, and ends there.
    let ask = || {
        setns(network, CloneFlags::CLONE_NEWNET)?;
        answer(&format!("http://127.0.0.1:{port}{path}"))
    };
    thread::scope(|scope| scope.spawn(ask).join())
        .map_err(|_| anyhow::anyhow!("the question was not asked"))?
}

/// What the proxy whose first process is `pid` answers to whoever administers it.
pub fn answer_of_proxy(pid: u32, path: &str) -> anyhow::Result<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = async { tokio::time::timeout(ANSWER, stack::ask(pid, path)).await };
    Ok(runtime.block_on(asked).context("it does not answer in time")??)
}

/// Waits until the proxy serves what its files say, and nothing else.
pub fn wait_until_served(docker: &Docker, name: &str, envoy: &Envoy<'_>) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let Some(pid) = docker.running(name)? else {
            return Err(docker.failed(name, "does not run"));
        };
        let dump = answer_of_proxy(pid, DUMP);
        let dump: Value = dump.ok().and_then(|dump| serde_json::from_slice(&dump).ok()).unwrap_or_default();
        let unserved = envoy.unserved(&dump);
        if unserved.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > LIMIT {
            return Err(
                docker.failed(name, &format!("does not serve what was applied: {}", unserved.join("; ")))
            );
        }
        thread::sleep(LOOK);
    }
}

/// Waits until the resolver serves this Corefile, at each of these addresses. It looks for another every few seconds.
pub fn wait_until_resolved(
    docker: &Docker,
    name: &str,
    corefile: &str,
    addresses: &[SocketAddr],
) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let Some(pid) = docker.running(name)? else {
            return Err(docker.failed(name, "does not run"));
        };
        let page = answer_inside(pid, RESOLVER_METRICS, "/metrics");
        // It says so a moment before it listens.
        let listens = |address: &SocketAddr| TcpStream::connect_timeout(address, LOOK).is_ok();
        if page.is_ok_and(|page| is_served(corefile, &page)) && addresses.iter().all(listens) {
            return Ok(());
        }
        if begun.elapsed() > RESOLVED {
            return Err(docker.failed(
                name,
                &format!(
                    "does not serve the Corefile that was applied after {} s, and goes on with the one before; `docker logs {name}` may say why",
                    RESOLVED.as_secs()
                ),
            ));
        }
        thread::sleep(LOOK);
    }
}

/// This process is root, as folders of several users need.
pub fn root() -> anyhow::Result<()> {
    if !geteuid().is_root() {
        bail!(
            "this is not root, which it needs to be: services are users of their own, and their folders theirs"
        );
    }
    Ok(())
}
