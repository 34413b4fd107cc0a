//! What is asked of the Docker daemon. Everything that is made carries the stack's name as a label, and nothing without it
//! is changed.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
};

use anyhow::{Context as _, bail};
use bollard::{
    Docker as Client,
    errors::Error,
    models::{
        ContainerCreateBody, ContainerInspectResponse, EndpointIpamConfig, EndpointResource,
        EndpointSettings, Ipam, IpamConfig, NetworkConnectRequest, NetworkCreateRequest, NetworkInspect,
    },
    query_parameters::{
        CreateContainerOptionsBuilder, InspectContainerOptions, InspectNetworkOptions,
        ListContainersOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
        StopContainerOptionsBuilder, WaitContainerOptions,
    },
};
use futures_util::TryStreamExt as _;
use ipnet::{IpNet, Ipv4Net};
use tokio::runtime::{Builder, Runtime};

use super::{
    service::MACHINE,
    settings::{host, others},
};

/// Label of what is the stack's, with its name.
const OWNER: &str = "dev.clawker.stack";
/// Label of a container: what it was made of.
const DIGEST: &str = "dev.clawker.stack.digest";
/// Lines of a log that an error shows.
const LINES: &str = "20";
/// Seconds that a service has to end by itself.
const END: i32 = 20;

/// A daemon, and whose things are looked at.
pub struct Docker {
    runtime: Runtime,
    client: Client,
    name: String,
}

/// One network that a container is in, and its address there.
#[derive(Clone, Debug)]
pub struct Place {
    pub network: String,
    pub address: Ipv4Addr,
}

impl Docker {
    /// The daemon that `DOCKER_HOST` names, or the machine's own, for the stack of this name.
    pub fn connect(name: &str) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let client =
            runtime.block_on(async { Client::connect_with_unix_defaults()?.negotiate_version().await });
        let client = client.context(
            "no Docker daemon answers on its socket. Start it, or set DOCKER_HOST=unix://… to the one that is meant",
        )?;
        Ok(Self { runtime, client, name: name.to_owned() })
    }

    /// The identity of an image.
    pub fn image(&self, image: &str) -> anyhow::Result<String> {
        match self.runtime.block_on(self.client.inspect_image(image)) {
            Ok(found) => found.id.with_context(|| format!("the image {image} has no identity")),
            Err(error) if is_absent(&error) => {
                let name = image.trim_start_matches("clawker/").split(':').next().unwrap_or_default();
                bail!("there is no image {image}: `ci/images {name}` makes it, or pull one and tag it so")
            }
            Err(error) => Err(error).with_context(|| format!("cannot look at the image {image}")),
        }
    }

    /// Makes a bridge network, unless it is there; says whether it was not. An internal one leads nowhere but to the machine.
    pub fn network(&self, name: &str, subnet: Ipv4Net, internal: bool) -> anyhow::Result<bool> {
        if let Some(there) = self.find_network(name)? {
            self.is_ours(there.labels.as_ref(), "network", name)?;
            let config = there.ipam.and_then(|ipam| ipam.config?.into_iter().next());
            let other = config.and_then(|config| config.subnet).unwrap_or_default();
            if other != subnet.to_string() {
                bail!(
                    "the network {name} has the subnet {other}, and is to have {subnet}: `stack down` removes it, and no data"
                );
            }
            if there.internal != Some(internal) {
                bail!(
                    "the network {name} is to be {}: `stack down` removes it, and no data",
                    if internal { "internal" } else { "no internal one" }
                );
            }
            return Ok(false);
        }
        let config = IpamConfig {
            subnet: Some(subnet.to_string()),
            // What Docker gives to whoever comes, so that our own addresses stay free.
            ip_range: Some(others(subnet)?.to_string()),
            gateway: Some(host(subnet, MACHINE).to_string()),
            ..IpamConfig::default()
        };
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            internal: Some(internal),
            ipam: Some(Ipam { config: Some(vec![config]), ..Ipam::default() }),
            labels: Some(HashMap::from([(OWNER.to_owned(), self.name.clone())])),
            ..NetworkCreateRequest::default()
        };
        let made = self.runtime.block_on(self.client.create_network(request));
        made.with_context(|| {
            format!(
                "cannot make the network {name} ({subnet}); another subnet is chosen by --agents and --plane"
            )
        })?;
        Ok(true)
    }

    /// Whether there is such a network, of ours.
    pub fn has_network(&self, name: &str) -> anyhow::Result<bool> {
        let there = self.find_network(name)?;
        Ok(there.is_some_and(|there| self.is_ours(there.labels.as_ref(), "network", name).is_ok()))
    }

    /// Who has which address in a network: containers by identifier.
    pub fn holders(&self, network: &str) -> anyhow::Result<HashMap<IpAddr, String>> {
        let inside = self.find_network(network)?.and_then(|there| there.containers).unwrap_or_default();
        let of = |(id, one): (String, EndpointResource)| {
            let prefixes = [one.ipv4_address, one.ipv6_address].into_iter().flatten();
            let addresses = prefixes.filter_map(|prefix| Some(prefix.parse::<IpNet>().ok()?.addr()));
            addresses.map(|address| (address, id.clone())).collect::<Vec<_>>()
        };
        Ok(inside.into_iter().flat_map(of).collect())
    }

    /// Removes a network of ours. Who else is in it keeps it: their names.
    pub fn remove_network(&self, name: &str) -> anyhow::Result<Option<Vec<String>>> {
        let Some(there) = self.find_network(name)? else { return Ok(None) };
        self.is_ours(there.labels.as_ref(), "network", name)?;
        let inside: Vec<String> =
            there.containers.into_iter().flatten().filter_map(|(_, one)| one.name).collect();
        if inside.is_empty() {
            self.runtime
                .block_on(self.client.remove_network(name))
                .with_context(|| format!("cannot remove the network {name}"))?;
        }
        Ok(Some(inside))
    }

    fn find_network(&self, name: &str) -> anyhow::Result<Option<NetworkInspect>> {
        match self.runtime.block_on(self.client.inspect_network(name, None::<InspectNetworkOptions>)) {
            Ok(found) => Ok(Some(found)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot look at the network {name}")),
        }
    }

    /// The container of this name, if there is one and it is the stack's.
    pub fn container(&self, name: &str) -> anyhow::Result<Option<Container>> {
        let Some(found) = self.anybodys(name)? else { return Ok(None) };
        let labels = found.0.config.as_ref().and_then(|config| config.labels.as_ref());
        self.is_ours(labels, "container", name)?;
        Ok(Some(found))
    }

    /// The container of this name or identifier, whoever's it is.
    pub fn anybodys(&self, name: &str) -> anyhow::Result<Option<Container>> {
        match self.runtime.block_on(self.client.inspect_container(name, None::<InspectContainerOptions>)) {
            Ok(found) => Ok(Some(Container(found))),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot look at the container {name}")),
        }
    }

    /// The first process of a container that runs, on this machine.
    pub fn running(&self, name: &str) -> anyhow::Result<Option<u32>> {
        Ok(self.container(name)?.filter(Container::is_running).and_then(|container| container.pid()))
    }

    fn is_ours(
        &self,
        labels: Option<&HashMap<String, String>>,
        what: &str,
        name: &str,
    ) -> anyhow::Result<()> {
        if labels.and_then(|labels| labels.get(OWNER)) == Some(&self.name) {
            return Ok(());
        }
        bail!("there is a {what} {name}, and it is not this stack's: remove it, or choose another --name")
    }

    /// Names of the stack's containers.
    pub fn containers(&self) -> anyhow::Result<Vec<String>> {
        let filters = HashMap::from([("label", vec![format!("{OWNER}={}", self.name)])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let all = self
            .runtime
            .block_on(self.client.list_containers(Some(options)))
            .context("cannot list containers")?;
        let names = all.into_iter().filter_map(|one| one.names?.into_iter().next());
        Ok(names.map(|name| name.trim_start_matches('/').to_owned()).collect())
    }

    /// Makes a container and starts it.
    pub fn start_new(
        &self,
        name: &str,
        digest: &str,
        mut body: ContainerCreateBody,
        places: &[Place],
    ) -> anyhow::Result<()> {
        let labels = body.labels.get_or_insert_default();
        labels.insert(OWNER.to_owned(), self.name.clone());
        labels.insert(DIGEST.to_owned(), digest.to_owned());
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        let make = async {
            self.client.create_container(Some(options), body).await?;
            for place in places {
                let address = EndpointIpamConfig {
                    ipv4_address: Some(place.address.to_string()),
                    ..EndpointIpamConfig::default()
                };
                let endpoint = EndpointSettings { ipam_config: Some(address), ..EndpointSettings::default() };
                let request =
                    NetworkConnectRequest { container: name.to_owned(), endpoint_config: Some(endpoint) };
                self.client.connect_network(&place.network, request).await?;
            }
            Ok::<(), Error>(())
        };
        self.runtime.block_on(make).with_context(|| format!("cannot make the container {name}"))?;
        self.start(name)
    }

    pub fn start(&self, name: &str) -> anyhow::Result<()> {
        let started = self.runtime.block_on(self.client.start_container(name, None));
        started.with_context(|| format!("cannot start the container {name}"))
    }

    /// Ends a container, if it runs, and removes it; what it keeps in folders stays.
    pub fn remove(&self, name: &str) -> anyhow::Result<()> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let remove = async {
            match self
                .client
                .stop_container(name, Some(StopContainerOptionsBuilder::default().t(END).build()))
                .await
            {
                // Not modified: it did not run.
                Ok(()) | Err(Error::DockerResponseServerError { status_code: 304 | 404, .. }) => {}
                Err(error) => return Err(error),
            }
            match self.client.remove_container(name, Some(options)).await {
                Err(error) if !is_absent(&error) => Err(error),
                _ => Ok(()),
            }
        };
        self.runtime.block_on(remove).with_context(|| format!("cannot remove the container {name}"))
    }

    /// Runs a container to its end: its exit code, and all that it said.
    pub fn run(&self, name: &str, mut body: ContainerCreateBody) -> anyhow::Result<(i64, String)> {
        self.remove(name)?;
        body.labels.get_or_insert_default().insert(OWNER.to_owned(), self.name.clone());
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        let run = async {
            self.client.create_container(Some(options), body).await?;
            self.client.start_container(name, None).await?;
            match self.client.wait_container(name, None::<WaitContainerOptions>).try_collect::<Vec<_>>().await
            {
                Ok(ends) => Ok(ends.first().map_or(0, |end| end.status_code)),
                // So it is told that the code is not 0.
                Err(Error::DockerContainerWaitError { code, .. }) => Ok(code),
                Err(error) => Err(error),
            }
        };
        let code = self.runtime.block_on(run).with_context(|| format!("cannot run the container {name}"));
        let told = self.told(name);
        self.remove(name)?;
        Ok((code?, told))
    }

    /// The end of what a container says.
    pub fn told(&self, name: &str) -> String {
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(LINES).build();
        let log = self.runtime.block_on(self.client.logs(name, Some(options)).try_collect::<Vec<_>>());
        let log: Vec<u8> = log.into_iter().flatten().flat_map(|line| line.into_bytes()).collect();
        String::from_utf8_lossy(&log).trim_end().to_owned()
    }

    /// A failure of a container, with what it said last.
    pub fn failed(&self, name: &str, cause: &str) -> anyhow::Error {
        let told = self.told(name);
        if told.is_empty() {
            anyhow::anyhow!("the container {name} {cause}, and said nothing")
        } else {
            anyhow::anyhow!("the container {name} {cause}; it said last:\n{told}")
        }
    }
}

/// As the daemon describes it.
pub struct Container(ContainerInspectResponse);

impl Container {
    /// Its whole identifier.
    pub fn id(&self) -> &str {
        self.0.id.as_deref().unwrap_or_default()
    }

    pub fn label(&self, name: &str) -> Option<&str> {
        self.0.config.as_ref()?.labels.as_ref()?.get(name).map(String::as_str)
    }

    /// The container whose network namespace it lives in, if that is not its own.
    pub fn within(&self) -> Option<&str> {
        self.0.host_config.as_ref()?.network_mode.as_ref()?.strip_prefix("container:")
    }

    /// Its addresses in every network; none while it does not run.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let networks = self.0.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
        let of =
            |network: &EndpointSettings| [network.ip_address.clone(), network.global_ipv6_address.clone()];
        let texts = networks.into_iter().flat_map(HashMap::values).flat_map(of).flatten();
        // Empty where the network has none of that family.
        texts.filter_map(|text| text.parse().ok()).collect()
    }

    /// What it was made of.
    pub fn digest(&self) -> Option<&str> {
        self.label(DIGEST)
    }

    pub fn is_running(&self) -> bool {
        let state = self.0.state.as_ref();
        state.is_some_and(|state| state.running == Some(true) && state.restarting != Some(true))
    }

    /// Its first process, on this machine, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.0.state.as_ref()?.pid.and_then(|pid| pid.try_into().ok()).filter(|pid| *pid > 0)
    }

    /// How often it was started again after it ended by itself.
    pub fn restarts(&self) -> i64 {
        self.0.restart_count.unwrap_or_default()
    }

    /// When it was started last, as RFC 3339.
    pub fn started(&self) -> Option<&str> {
        self.0.state.as_ref()?.started_at.as_deref()
    }

    /// How it stands: running, exited (1).
    pub fn state(&self) -> String {
        let Some(state) = &self.0.state else { return "unknown".to_owned() };
        let word = state.status.map_or_else(|| "unknown".to_owned(), |status| status.to_string());
        let killed = if state.oom_killed == Some(true) { ", out of memory" } else { "" };
        match state.exit_code {
            Some(code) if state.running != Some(true) => format!("{word} ({code}{killed})"),
            _ => word,
        }
    }
}

fn is_absent(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404, .. })
}
