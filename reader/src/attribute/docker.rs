//! Docker's containers, from a listing and the events after it.
//!
//! An event says only that a container changed; how it is now, the daemon says when it is asked. So events that
//! come twice, late, or for something that has changed again since, lead to the same end.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    net::IpAddr,
    path::Path,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use abi::Enrolment;
use bollard::{
    API_DEFAULT_VERSION, Docker,
    errors::Error,
    models::{ContainerInspectResponse, EventMessage, EventMessageTypeEnum},
    query_parameters::{EventsOptionsBuilder, InspectContainerOptions, ListContainersOptions},
};
use emitter::with_causes;
use futures_util::{Stream, StreamExt as _};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    cgroup::{Cgroups, NoCgroup},
    containers::{Containers, Labels, Running},
};
use crate::{
    clock::Offset,
    observe::{Component, Counters, Health},
};

/// Longest time for an answer of the daemon, seconds.
const ANSWER: u64 = 10;
/// How often every container is asked about, whatever the events said.
const COMPARE: Duration = Duration::from_secs(60);
/// Before a daemon that does not answer is tried again.
const RETRY: Duration = Duration::from_secs(1);
const SECOND_NS: u64 = 1_000_000_000;
/// Events from this long before the listing are heard again, so that none falls between the two.
const OVERLAP_NS: u64 = SECOND_NS;

/// Why the daemon is not followed at this time.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("Docker: {0}")]
    Docker(#[from] Error),
    #[error("Docker ended the stream of events")]
    Ended,
    #[error("cannot read the boot clock: {0}")]
    Clock(#[from] nix::Error),
    #[error(transparent)]
    Cgroup(#[from] NoCgroup),
}

/// Keeps [`Containers`] as the daemon behind a socket has them.
#[derive(Clone)]
pub struct Watch {
    /// What is kept.
    pub containers: Arc<Containers>,
    /// Where what cannot be read is counted.
    pub counters: Arc<Counters>,
    /// Where it says how it is.
    pub health: Arc<Health>,
}

impl Watch {
    /// Follows the daemon for ever, starting again where it was lost. Tells `listed` when it has listed once.
    pub async fn run(self, socket: &Path, listed: watch::Sender<bool>) {
        loop {
            let Err(error) = self.follow(socket, &listed).await;
            self.health.down(
                Component::Docker,
                &with_causes(
                    format!("{error}; is it up, and may the reader open {}?", socket.display()),
                    &error,
                ),
            );
            sleep(RETRY).await;
        }
    }

    async fn follow(&self, socket: &Path, listed: &watch::Sender<bool>) -> Result<Infallible, Lost> {
        let cgroups = Cgroups::mounted()?;
        let docker = Docker::connect_with_unix(&socket.to_string_lossy(), ANSWER, API_DEFAULT_VERSION)?
            .negotiate_version()
            .await?;
        let daemon = Daemon { docker, cgroups, watch: self };
        let since = Offset::measure()?.now_unix_ns().saturating_sub(OVERLAP_NS);
        daemon.compare().await?;
        listed.send_replace(true);
        self.health.up(Component::Docker);
        let mut events = pin!(daemon.events(since));
        let mut ticks = interval(COMPARE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            tokio::select! {
                event = events.next() => daemon.heard(event.ok_or(Lost::Ended)??).await?,
                _ = ticks.tick() => daemon.compare().await?,
            }
        }
    }
}

/// A daemon that answers.
struct Daemon<'a> {
    docker: Docker,
    cgroups: Cgroups,
    watch: &'a Watch,
}

impl Daemon<'_> {
    /// What changes a container's process or addresses, from `since_ns` on, nanoseconds since 1970.
    fn events(&self, since_ns: u64) -> impl Stream<Item = Result<EventMessage, Error>> {
        let filters = HashMap::from([
            ("type", vec!["container", "network"]),
            ("event", vec!["start", "die", "destroy", "connect", "disconnect"]),
        ]);
        let since = format!("{}.{:09}", since_ns / SECOND_NS, since_ns % SECOND_NS);
        self.docker.events(Some(EventsOptionsBuilder::new().since(&since).filters(&filters).build()))
    }

    /// Asks about every container that runs and every one that did.
    async fn compare(&self) -> Result<(), Lost> {
        let listing = self.docker.list_containers(None::<ListContainersOptions>).await?;
        let listed = listing.into_iter().filter_map(|container| container.id).map(Arc::from);
        let all: HashSet<Arc<str>> = listed.chain(self.watch.containers.running()).collect();
        for id in all {
            self.ask(&id, None).await?;
        }
        Ok(())
    }

    async fn heard(&self, event: EventMessage) -> Result<(), Lost> {
        let at_ns = event.time_nano.and_then(|time| u64::try_from(time).ok());
        let Some(actor) = event.actor else { return Ok(()) };
        let of_network = event.typ == Some(EventMessageTypeEnum::NETWORK);
        let id =
            if of_network { actor.attributes.and_then(|mut of| of.remove("container")) } else { actor.id };
        let Some(id) = id else { return Ok(()) };
        self.ask(&id, at_ns).await?;
        // Who lives in its network namespace has its addresses.
        for other in self.watch.containers.within(&id) {
            self.ask(&other, at_ns).await?;
        }
        Ok(())
    }

    /// Enters a container as it is now. `at_ns`: when something was heard of it, nanoseconds since 1970.
    async fn ask(&self, id: &str, at_ns: Option<u64>) -> Result<(), Lost> {
        let inspected = self.inspect(id).await?;
        let clock = Offset::measure()?;
        let containers = &self.watch.containers;
        let now_ns = at_ns.map_or(clock.now_boot_ns(), |at| clock.boot_of(at));
        let Some(container) = inspected else {
            containers.ended(id, now_ns);
            return Ok(());
        };
        let finished = container.state.as_ref().and_then(|state| unix_ns(state.finished_at.as_deref()?));
        let Some(pid) = pid(&container) else {
            containers.ended(id, finished.map_or(now_ns, |finished| clock.boot_of(finished)));
            return Ok(());
        };
        let created = container.created.as_ref().and_then(created_ns);
        let since_ns = clock.boot_of(created.max(finished).unwrap_or_default());
        let within = within(&container);
        let addresses = match &within {
            Some(other) => self.inspect(other).await?.as_ref().map(addresses).unwrap_or_default(),
            None => addresses(&container),
        };
        let labels = labels(container).unwrap_or_else(|cause| self.unread(id, cause));
        let cgroup_id = match self.cgroups.id(pid, id) {
            Ok(cgroup_id) => Some(cgroup_id),
            Err(cause) => {
                if self.inspect(id).await?.as_ref().and_then(self::pid) != Some(pid) {
                    // It has ended since, which is an event of its own.
                    return Ok(());
                }
                self.unread(id, &cause.to_string())
            }
        };
        let running = Running { container_id: id.into(), labels, cgroup_id, addresses, within, since_ns };
        containers.runs(running, now_ns);
        Ok(())
    }

    /// `None`: the daemon knows no such container.
    async fn inspect(&self, id: &str) -> Result<Option<ContainerInspectResponse>, Error> {
        match self.docker.inspect_container(id, None::<InspectContainerOptions>).await {
            Ok(container) => Ok(Some(container)),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Counts and says, once for each life of a container, that something of it cannot be had.
    fn unread<T>(&self, id: &str, cause: &str) -> Option<T> {
        if self.watch.containers.runs_already(id) {
            return None;
        }
        self.watch.counters.container_unreadable();
        tracing::warn!(
            event = "container_unreadable",
            container_id = id,
            cause,
            "its flows are attributed by its enrolment alone"
        );
        None
    }
}

/// Its first process; `None` while it does not run.
fn pid(container: &ContainerInspectResponse) -> Option<u32> {
    u32::try_from(container.state.as_ref()?.pid?).ok().filter(|pid| *pid != 0)
}

/// The container whose network namespace it lives in.
fn within(container: &ContainerInspectResponse) -> Option<Arc<str>> {
    let mode = container.host_config.as_ref()?.network_mode.as_ref()?;
    mode.strip_prefix("container:").map(Arc::from)
}

fn addresses(container: &ContainerInspectResponse) -> Vec<IpAddr> {
    let networks = container.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    let texts = networks
        .into_iter()
        .flatten()
        .flat_map(|(_, network)| [&network.ip_address, &network.global_ipv6_address].into_iter().flatten());
    // Empty where the network has none of that family.
    texts.filter_map(|text| text.parse().ok()).collect()
}

/// The raw labels; `None`: it is no agent.
fn labels(container: ContainerInspectResponse) -> Result<Option<Labels>, &'static str> {
    let mut labels = container.config.and_then(|config| config.labels).unwrap_or_default();
    let Some(agent) = labels.remove(Enrolment::AGENT_LABEL) else { return Ok(None) };
    let project = labels.remove(Enrolment::PROJECT_LABEL).unwrap_or_default();
    if agent.len().max(project.len()) > Enrolment::MOST_LABEL {
        return Err("a label is longer than 4096 bytes");
    }
    Ok(Some(Labels { agent: agent.into(), project: project.into() }))
}

/// Nanoseconds since 1970; `None` for the year 1, which stands for never.
fn unix_ns(time: &str) -> Option<u64> {
    created_ns(&OffsetDateTime::parse(time, &Rfc3339).ok()?)
}

fn created_ns(time: &OffsetDateTime) -> Option<u64> {
    u64::try_from(time.unix_timestamp_nanos()).ok()
}
