//! `stack status`: how each part stands, and what somebody has to see to.

mod lanes;
mod show;

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use serde::Serialize;
use stack::{Container, LOG_LOST, LogLost, certificates::Held, store::Standing};

use super::{
    Outcome,
    docker::Docker,
    listed,
    plan::Kept,
    ready, say,
    service::{self, Service},
    settings::{Settings, host},
    store, trust,
};
use lanes::Lane;

/// All of it.
#[derive(Debug, Serialize)]
pub struct Status {
    services: Vec<Running>,
    /// Streams; or why they are not known.
    streams: Result<Vec<Standing>, String>,
    /// Whether the store removes what is old by itself; if not, `stack keep` must.
    retention: Retention,
    /// What waits in the relay, and what it could not keep or hand over, by lane; or why that is not known.
    lanes: Result<BTreeMap<String, Lane>, String>,
    /// What the proxy lost of its log; or why that is not known.
    log: Result<LogLost, String>,
    /// Questions that came faster than the resolver read them, since it was started: in no log. Of whoever lost any.
    dropped: Vec<Dropped>,
    /// Addresses whose documents are told as another container's.
    taken: Vec<Taken>,
    /// Certificates that end soon.
    certificates: Vec<Ending>,
    /// Seconds since 1970.
    now: u64,
}

/// A service.
#[derive(Debug, Serialize)]
struct Running {
    name: &'static str,
    /// running, exited (1), absent.
    state: String,
    /// When it was started, RFC 3339.
    since: Option<String>,
    restarts: i64,
    /// Whether it answers.
    ready: bool,
}

/// What the kernel had no room for at a container's socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Dropped {
    /// Labels.
    agent: String,
    project: String,
    /// The runtime's identifier.
    container_id: String,
    /// Datagrams.
    questions: u64,
}

/// A container's address that is another's now.
#[derive(Debug, Serialize)]
struct Taken {
    address: IpAddr,
    /// Who is listed with it.
    listed: String,
    /// Who has it.
    holder: String,
}

/// Who removes what is old.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Retention {
    /// The store, by its policy.
    Policy,
    /// `stack keep`.
    Keep,
    /// The store does not answer.
    Unknown,
}

/// A certificate, and when it ends.
#[derive(Debug, Serialize)]
struct Ending {
    file: String,
    /// Seconds since 1970.
    until: u64,
}

/// Shows how the stack in `folder` stands.
pub fn status(folder: &Path, json: bool) -> anyhow::Result<Outcome> {
    let settings = Settings::needed(folder)?;
    let docker = Docker::connect(&settings.name)?;
    let services: Vec<Running> = service::all(&settings)
        .iter()
        .map(|service| running(&docker, &settings, service))
        .collect::<Result<_, _>>()?;
    // Who does not run is not asked: that would take until it is clear that nobody answers.
    let asked = |name: &str| {
        let runs = services.iter().any(|service| service.name == name && service.since.is_some());
        if runs { Ok(()) } else { Err("it does not run".to_owned()) }
    };
    let kept = Kept::read(folder)?;
    let store = store::of(&settings)?;
    let retention = match asked("opensearch").map(|()| store.keeps_itself()) {
        Ok(Ok(true)) => Retention::Policy,
        Ok(Ok(false)) => Retention::Keep,
        Ok(Err(_)) | Err(_) => Retention::Unknown,
    };
    let status = Status {
        streams: asked("opensearch").and_then(|()| store.overview().map_err(|error| error.to_string())),
        retention,
        lanes: asked("relay").and_then(|()| lanes(&settings).map_err(|error| format!("{error:#}"))),
        log: log(&docker, &settings).map_err(|error| format!("{error:#}")),
        dropped: dropped(&docker, &settings, &kept)?,
        taken: taken(&docker, &settings, &kept)?,
        certificates: ending(folder)?,
        services,
        now: seconds(SystemTime::now()),
    };
    say(&if json { serde_json::to_string_pretty(&status)? + "\n" } else { format!("{status}\n") })?;
    Ok(if status.is_good() { Outcome::Good } else { Outcome::Bad })
}

impl Status {
    /// What waits is under way. What is lost for good stays told of, as long as whoever counts it does.
    fn is_good(&self) -> bool {
        let streams = self.streams.as_ref();
        self.services.iter().all(|service| service.ready)
            && streams.is_ok_and(|streams| streams.iter().all(|stream| stream.documents.is_some()))
            && self.lanes.as_ref().is_ok_and(|lanes| !lanes.values().any(Lane::is_lost))
            && self.log.as_ref().is_ok_and(|log| !log.is_any())
            && self.dropped.is_empty()
            && self.taken.is_empty()
            && self.certificates.is_empty()
    }
}

fn running(docker: &Docker, settings: &Settings, service: &Service) -> anyhow::Result<Running> {
    let container = docker.container(&settings.container(service.name))?;
    let running = container.as_ref().filter(|container| container.is_running());
    Ok(Running {
        name: service.name,
        state: container.as_ref().map_or_else(|| "absent".to_owned(), |container| container.state()),
        since: running.and_then(|container| container.started()).map(str::to_owned),
        restarts: container.as_ref().map_or(0, |container| container.restarts()),
        ready: running.is_some_and(|container| ready::is_ready(service, container)),
    })
}

/// What the relay says of itself.
fn lanes(settings: &Settings) -> anyhow::Result<BTreeMap<String, Lane>> {
    let address = host(settings.plane, service::RELAY);
    lanes::lanes(&ready::answer(&format!("http://{address}:{}/metrics", service::RELAY_METRICS))?)
}

/// What the proxy says of its log.
fn log(docker: &Docker, settings: &Settings) -> anyhow::Result<LogLost> {
    let pid = docker.running(&settings.container("envoy"))?.context("it does not run")?;
    LogLost::read(&ready::answer_of_proxy(pid, LOG_LOST)?).context("it does not tell what it lost")
}

/// What the kernel counts at the resolver's sockets.
fn dropped(docker: &Docker, settings: &Settings, kept: &Kept) -> anyhow::Result<Vec<Dropped>> {
    let Some(pid) = docker.running(&settings.container("coredns"))? else { return Ok(Vec::new()) };
    let table = |name: &str| fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
    let drops = drops(&(table("udp") + &table("udp6")));
    let of = |container: &Container| {
        let questions = drops.get(&kept.dns(container)?).copied().filter(|questions| *questions > 0)?;
        let Container { agent, project, container_id, .. } = container.clone();
        Some(Dropped { agent, project, container_id, questions })
    };
    Ok(kept.containers.iter().filter_map(of).collect())
}

/// Listed containers that ended, and left an address to another.
fn taken(docker: &Docker, settings: &Settings, kept: &Kept) -> anyhow::Result<Vec<Taken>> {
    let holders = docker.holders(&settings.agents_network())?;
    let mut all = Vec::new();
    for container in &kept.containers {
        if let Some((address, holder)) = listed::taken(container, docker, &holders)? {
            all.push(Taken { address, listed: container.container_id.clone(), holder });
        }
    }
    Ok(all)
}

/// Datagrams that sockets had no room for, by port, of a table as /proc/net/udp is: the last column.
fn drops(table: &str) -> BTreeMap<u16, u64> {
    let mut drops: BTreeMap<u16, u64> = BTreeMap::new();
    for line in table.lines() {
        let mut columns = line.split_whitespace();
        let port = columns.nth(1).and_then(|local| u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok());
        let (Some(port), Some(Ok(count))) = (port, columns.last().map(str::parse)) else { continue };
        let all = drops.entry(port).or_default();
        *all = all.saturating_add(count);
    }
    drops
}

/// Certificates below the stack's folder that end soon.
fn ending(folder: &Path) -> anyhow::Result<Vec<Ending>> {
    let limit = SystemTime::now().checked_add(trust::SOON);
    let mut ending = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inside) = folders.pop() {
        // What belongs to services is theirs, and has none.
        let Ok(entries) = fs::read_dir(&inside) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                if path != folder.join("data") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "crt")
                // Copies of authorities are made anew with these.
                && (!path.to_string_lossy().ends_with("ca.crt") || path.starts_with(folder.join(trust::AUTHORITIES)))
            {
                let Some(held) = Held::read(&path)? else { continue };
                if limit.is_some_and(|limit| held.until < limit) {
                    let file = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
                    ending.push(Ending { file, until: seconds(held.until) });
                }
            }
        }
    }
    ending.sort_by(|one, other| one.file.cmp(&other.file));
    Ok(ending)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).as_ref().map_or(0, Duration::as_secs)
}
