//! Envoy as the proxy of a case: configured as it ships, beside the hosts of the far side.

use std::{
    borrow::Cow,
    fs, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use serde_json::Value;
use stack::{Envoy as Files, Lane, Listeners, Plan, Shown, Telemetry, Upstream, certificates::Role};
use tempfile::TempDir;

use super::{FireError, act::uninterrupted, cell::Case, container, containers, server::Server};
use crate::{
    docker::{Network, Order},
    far,
    plane::Plane,
    scenario::{Cell, address, types::Rule},
    world::World,
};

/// Where Envoy sees its files.
const INSIDE: &str = "/etc/envoy";
/// How long connections may take to end, once the agents have.
const END_LIMIT: Duration = Duration::from_secs(5);
/// How long it may take until it serves what it was told.
const SERVE_LIMIT: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Longer than any run.
const LENGTH: Duration = Duration::from_secs(2 * 86_400);

/// A running Envoy.
pub(super) struct Envoy {
    plan: Plan,
    upstream: Upstream,
    server: Server,
    folder: TempDir,
}

/// The case with the listeners that its rules get from the plan that ships, the catch-all's included.
///
/// # Errors
/// If there is no such plan.
pub fn prepared(cell: &Cell) -> Result<Cow<'_, Cell>, FireError> {
    if !cell.scenario.has_envoy() {
        return Ok(Cow::Borrowed(cell));
    }
    let mut cell = cell.clone();
    let mut plan = None;
    let scenario = &mut cell.scenario;
    if let Some(proxy) = &mut scenario.proxy {
        proxy.catch_all = Some(Listeners::default().catch_all);
    }
    let lists = scenario.steps.iter_mut().filter_map(|step| step.rules.as_mut());
    for rules in std::iter::once(&mut scenario.rules).chain(lists) {
        let next = Plan::new(&[container("", "", "", &[], rules)?], Listeners::default(), plan.as_ref())?;
        for (rule, planned) in rules.iter_mut().zip(next.containers.iter().flat_map(|one| &one.rules)) {
            rule.listener = planned.listener();
        }
        plan = Some(next);
    }
    Ok(Cow::Owned(cell))
}

impl Envoy {
    /// Starts it on the far side of `world` with the rules of each agent, and waits until it serves them.
    pub fn start(
        case: Case<'_, '_>,
        world: &World,
        rules: &[Vec<Rule>],
        plane: &Plane,
    ) -> Result<Self, FireError> {
        let plan = plan(case, world, rules, None)?;
        let folder = plane.folder(&format!("envoy-{}", case.id)).map_err(problem("make its folder"))?;
        let receiver = |address: Option<SocketAddr>| {
            let address = address.ok_or_else(|| FireError::Proxy("its lane has no receiver".to_owned()))?;
            Ok::<_, FireError>((address.ip().to_string(), address.port()))
        };
        // In production too, agents know the proxy by its address in their own network.
        let names = world.agents().flat_map(|end| end.gateways).map(|address| address.to_string());
        let upstream = Upstream {
            resolvers: vec![World::authority()],
            authorities: format!("{INSIDE}/upstream-ca.crt"),
            collector: receiver(plane.receiver(Lane::Envoy))?,
            telemetry: Telemetry {
                names: names.collect(),
                grpc: receiver(plane.receiver(Lane::Claude))?,
                http: receiver(plane.http_receiver(Lane::Claude))?,
            },
            own: own(plane.receiver(Lane::Envoy).map(|address| address.ip())),
            folder: INSIDE.to_owned(),
        };
        let write = || -> io::Result<()> {
            fs::write(folder.path().join("upstream-ca.crt"), far::authority()?)?;
            for (name, lane) in [("lane", Lane::Envoy), ("telemetry", Lane::Claude)] {
                let (to, credentials) = (folder.path().join(name), plane.credentials(lane));
                fs::create_dir(&to)?;
                fs::copy(credentials.authority, to.join("ca.crt"))?;
                fs::copy(credentials.certificate, to.join("tls.crt"))?;
                fs::copy(credentials.key, to.join("tls.key"))?;
            }
            fs::create_dir(folder.path().join("certificates"))
        };
        write().map_err(problem("write its files"))?;
        configure(&plan, &upstream, folder.path(), plane)?;
        let far =
            world.far_house().ok_or_else(|| FireError::Proxy("the far side is no container".to_owned()))?;
        let order =
            Order::new("envoy", "envoy", Network::Of(far.to_owned())).sees(folder.path(), INSIDE).told([
                "-c",
                "/etc/envoy/bootstrap.json",
                "--disable-hot-restart",
                // As short as a cell: what is cut when others' rules change is cut within it.
                "--drain-time-s",
                "1",
                // So that its log is in the order of what happened.
                "--concurrency",
                "1",
                "--log-level",
                "warning",
                "--component-log-level",
                "misc:error",
            ]);
        let server = Server::new(plane.docker().start(order)?);
        let envoy = Self { plan, upstream, server, folder };
        envoy.serves(world)?;
        Ok(envoy)
    }

    /// Has it serve these rules, and the containers that `world` has now, without a restart.
    pub fn apply(
        &mut self,
        case: Case<'_, '_>,
        world: &World,
        rules: &[Vec<Rule>],
        plane: &Plane,
    ) -> Result<(), FireError> {
        let next = plan(case, world, rules, Some(&self.plan))?;
        configure(&next, &self.upstream, self.folder.path(), plane)?;
        self.plan = next;
        self.is_back(world)
    }

    /// Kills it and starts it again, and waits until it serves as before.
    pub fn restart(&self, world: &World) -> Result<(), FireError> {
        self.leave(Duration::ZERO)?;
        self.is_back(world)
    }

    /// All that it said on its standard output and error.
    pub fn log(&self) -> Result<String, FireError> {
        self.server.log()
    }

    /// Kills it, and has it back after `length`.
    pub fn leave(&self, length: Duration) -> Result<(), FireError> {
        self.server.leave(length)
    }

    /// Waits until it serves, if it was stopped.
    pub fn is_back(&self, world: &World) -> Result<(), FireError> {
        self.server.is_back()?;
        self.serves(world)
    }

    /// Waits until it has no connection any more, for [`END_LIMIT`] at most: it tells of one once both sides have let go of it, and
    /// so after what is told of others that came later.
    pub fn has_ended(&self, world: &World) -> Result<(), FireError> {
        let deadline = Instant::now() + END_LIMIT;
        while Instant::now() < deadline {
            uninterrupted()?;
            let pid = self.server.container().pid();
            if open(&world.far().run(stats(pid)).and_then(Result::ok).unwrap_or_default()) == 0 {
                break;
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Waits until it serves all of the plan, and nothing else.
    fn serves(&self, world: &World) -> Result<(), FireError> {
        let deadline = Instant::now() + SERVE_LIMIT;
        let files = Files::new(&self.plan, &self.upstream);
        loop {
            uninterrupted()?;
            let pid = self.server.container().pid();
            let dump = world.far().run(dump(pid)).and_then(Result::ok).unwrap_or_default();
            let unserved = files.unserved(&dump);
            if unserved.is_empty() {
                return Ok(());
            }
            let container = self.server.container();
            if !container.is_running() || Instant::now() >= deadline {
                return Err(container.failed(&unserved.join("; ")).into());
            }
            drop(container);
            thread::sleep(LOOK);
        }
    }
}

/// What it counts of connections.
async fn stats(pid: u32) -> anyhow::Result<String> {
    Ok(String::from_utf8(stack::ask(pid, "/stats?filter=downstream_cx_active").await?)?)
}

/// Connections to its listeners, beside that of whoever asks.
fn open(stats: &str) -> u64 {
    let of_listeners =
        stats.lines().filter(|line| line.starts_with("listener.") && !line.starts_with("listener.admin."));
    let all =
        of_listeners.filter(|line| !line.contains(".worker_")).filter_map(|line| line.rsplit_once(": "));
    all.filter_map(|(_, count)| count.parse::<u64>().ok()).sum()
}

/// What it says that it serves.
async fn dump(pid: u32) -> anyhow::Result<Value> {
    Ok(serde_json::from_slice(&stack::ask(pid, stack::DUMP).await?)?)
}

/// The networks that its stack is in: those of the agents, and of the plane, where this `server` is.
fn own(server: Option<IpAddr>) -> Vec<IpNet> {
    let of_server = server.and_then(|address| IpNet::new(address, 24).ok()).map(|network| network.trunc());
    address::of_the_world().chain(of_server).chain(address::plane()).collect()
}

/// The plan for the agents of a world.
fn plan(
    case: Case<'_, '_>,
    world: &World,
    rules: &[Vec<Rule>],
    before: Option<&Plan>,
) -> Result<Plan, FireError> {
    let containers = containers(case, world, rules)?;
    Ok(Plan::new(&containers, Listeners::default(), before)?)
}

/// Writes its files: each is moved into its place, which is what Envoy watches for.
fn configure(plan: &Plan, upstream: &Upstream, folder: &Path, plane: &Plane) -> Result<(), FireError> {
    let files = Files::new(plan, upstream);
    for Shown { file, names } in files.certificates() {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let made = plane.proxy_authority().issue(&names, Role::Server, LENGTH);
        made.and_then(|issued| issued.write(&folder.join("certificates"), &file))
            .map_err(|error| FireError::Proxy(error.to_string()))?;
    }
    for (name, content) in files.files() {
        let (path, new): (PathBuf, PathBuf) = (folder.join(&name), folder.join(format!("{name}.new")));
        let write = || -> io::Result<()> {
            fs::write(&new, content.to_string())?;
            fs::rename(&new, &path)
        };
        write().map_err(problem("write its files"))?;
    }
    Ok(())
}

fn problem(what: &str) -> impl FnOnce(io::Error) -> FireError {
    move |error| FireError::Proxy(format!("cannot {what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::open;

    #[test]
    fn connections_of_listeners_are_counted_once() {
        let stats = "http.admin.downstream_cx_active: 1\nlistener.0.0.0.0_15443.downstream_cx_active: 2\n\
            listener.0.0.0.0_15443.worker_0.downstream_cx_active: 2\nlistener.[__]_16000.downstream_cx_active: 1\n\
            listener.admin.downstream_cx_active: 1\nlistener.admin.main_thread.downstream_cx_active: 1\n";
        assert_eq!((open(stats), open("")), (3, 0));
    }
}
