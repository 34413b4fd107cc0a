//! What a container is to be.

use std::path::{Path, PathBuf};

use testcontainers::{
    ContainerRequest, GenericImage, ImageExt as _,
    core::{AccessMode, Mount},
};

use super::{OWNER, START_LIMIT, TAG, container::Tail};
use crate::owner::Owner;

/// The network that a container is in.
#[derive(Clone, Debug)]
pub enum Network {
    /// None: whoever started it gives it one.
    None,
    /// One of this name, which is made with its first container and goes with its last.
    Named(String),
    /// That of the container with this id.
    Of(String),
}

impl Network {
    fn mode(self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::Named(name) => name,
            Self::Of(id) => format!("container:{id}"),
        }
    }
}

/// A container to be started.
#[derive(Clone, Debug)]
pub struct Order {
    /// In words, for messages.
    pub what: String,
    /// Of `clawker/<image>`.
    pub image: String,
    /// Its network.
    pub network: Network,
    /// In place of the image's own.
    pub entrypoint: Option<String>,
    /// Arguments.
    pub command: Vec<String>,
    /// Environment.
    pub variables: Vec<(String, String)>,
    /// Labels, beside that of its owner.
    pub labels: Vec<(String, String)>,
    /// Of the machine, seen in it.
    pub mounts: Vec<Seen>,
    /// `user:group`; default the image's.
    pub user: Option<String>,
    /// Capabilities beyond Docker's own.
    pub more: Vec<String>,
    /// Capabilities of Docker's own that it does not get.
    pub less: Vec<String>,
}

/// A file or folder of the machine, as a container sees it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// On the machine.
    pub from: PathBuf,
    /// In the container.
    pub at: String,
    /// Whether it may write there.
    pub writable: bool,
}

impl Order {
    /// One of `clawker/<image>` in this network, and nothing else said.
    #[must_use]
    pub fn new(what: impl Into<String>, image: &str, network: Network) -> Self {
        Self {
            what: what.into(),
            image: image.to_owned(),
            network,
            entrypoint: None,
            command: Vec::new(),
            variables: Vec::new(),
            labels: Vec::new(),
            mounts: Vec::new(),
            user: None,
            more: Vec::new(),
            less: Vec::new(),
        }
    }

    /// With a file or folder that it may read.
    #[must_use]
    pub fn sees(mut self, from: &Path, at: &str) -> Self {
        self.mounts.push(Seen { from: from.to_owned(), at: at.to_owned(), writable: false });
        self
    }

    /// With one that it may write.
    #[must_use]
    pub fn keeps(mut self, from: &Path, at: &str) -> Self {
        self.mounts.push(Seen { from: from.to_owned(), at: at.to_owned(), writable: true });
        self
    }

    /// With these arguments.
    #[must_use]
    pub fn told<'a>(mut self, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        self.command.extend(arguments.into_iter().map(str::to_owned));
        self
    }

    pub(super) fn request(self, tail: Tail) -> ContainerRequest<GenericImage> {
        let mut image = GenericImage::new(format!("clawker/{}", self.image).as_str(), TAG);
        if let Some(entrypoint) = &self.entrypoint {
            image = image.with_entrypoint(entrypoint);
        }
        let mut request = image
            .with_cmd(self.command)
            .with_label(OWNER, Owner::current().to_string())
            .with_labels(self.labels)
            .with_startup_timeout(START_LIMIT)
            .with_log_consumer(tail)
            // Whoever is to reach it does so by its network; and what a network of another container or none has cannot
            // be published.
            .with_host_config_modifier(|host| host.publish_all_ports = Some(false));
        if let Network::Named(name) = &self.network {
            request = request.with_network(name);
        } else {
            let mode = self.network.mode();
            request = request.with_host_config_modifier(move |host| {
                host.publish_all_ports = Some(false);
                host.network_mode = Some(mode.clone());
            });
        }
        for (name, value) in self.variables {
            request = request.with_env_var(name, value);
        }
        for Seen { from, at, writable } in self.mounts {
            let access = if writable { AccessMode::ReadWrite } else { AccessMode::ReadOnly };
            request =
                request.with_mount(Mount::bind_mount(from.to_string_lossy(), at).with_access_mode(access));
        }
        if let Some(user) = self.user {
            request = request.with_user(user);
        }
        for capability in self.more {
            request = request.with_cap_add(capability);
        }
        for capability in self.less {
            request = request.with_cap_drop(capability);
        }
        request
    }
}
