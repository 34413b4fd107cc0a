//! Containers of real servers and agents, which testcontainers starts and removes.

mod container;
mod order;
mod sweep;

use std::{sync::Arc, time::Duration};

use testcontainers::{
    bollard::Docker as Client, core::client::docker_client_instance, runners::AsyncRunner as _,
};
use tokio::runtime::{Builder, Runtime};

use crate::owner::Owner;
pub use container::Container;
use container::Tail;
pub use order::{Network, Order};

/// Label of every container of a run, with its owner.
const OWNER: &str = "clawker.owner";
/// What a run's networks begin with; the owner follows.
const NETWORK: &str = "clawker-";
/// Tag of what `ci/images` makes.
const TAG: &str = "local";
/// How long a container may take to be started, its image being there.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Why there is no container.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// No daemon, or none that may be asked.
    #[error("no Docker daemon answers ({0}); `ci/docker start` starts one where there is none")]
    Absent(String),
    /// Its image is not there.
    #[error("there is no image {0}; `ci/images` makes it")]
    Image(String),
    /// The daemon refused, or the container ended.
    #[error("{what}: {cause}{log}")]
    Container {
        /// What was tried.
        what: String,
        /// The daemon's answer.
        cause: String,
        /// What the container had said, if anything.
        log: String,
    },
}

/// A daemon, and a runtime to speak with it.
#[derive(Clone)]
pub struct Docker {
    runtime: Arc<Runtime>,
    client: Client,
}

impl Docker {
    /// The daemon that `DOCKER_HOST` names, or the machine's own.
    ///
    /// # Errors
    /// If none answers.
    pub fn connect() -> Result<Self, DockerError> {
        // With several threads: testcontainers removes on drop, and waits for it.
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(|error| DockerError::Absent(error.to_string()))?;
        let client = runtime.block_on(async {
            let client = docker_client_instance().await.map_err(|error| error.to_string())?;
            client.ping().await.map_err(|error| error.to_string())?;
            Ok(client)
        });
        Ok(Self { runtime: Arc::new(runtime), client: client.map_err(DockerError::Absent)? })
    }

    /// Whether `ci/images` has made these.
    ///
    /// # Errors
    /// Names one that is not there.
    pub fn has_images(&self, names: &[&str]) -> Result<(), DockerError> {
        for name in names {
            let image = format!("clawker/{name}:{TAG}");
            if self.runtime.block_on(self.client.inspect_image(&image)).is_err() {
                return Err(DockerError::Image(image));
            }
        }
        Ok(())
    }

    /// Name of a network of this run.
    #[must_use]
    pub fn network() -> String {
        format!("{NETWORK}{}", Owner::current())
    }

    /// Starts a container. It is removed when the guard is dropped, and by a later run should this one be killed. What it
    /// needs to be ready is the caller's to wait for.
    ///
    /// # Errors
    /// If the daemon refuses, or it ends at once.
    pub fn start(&self, order: Order) -> Result<Container, DockerError> {
        let tail = Tail::default();
        let what = order.what.clone();
        let started = self.runtime.block_on(order.request(tail.clone()).start());
        match started {
            Ok(inner) => Container::new(self.clone(), what, inner, tail),
            Err(error) => Err(DockerError::Container {
                what: format!("start {what}"),
                cause: error.to_string(),
                log: tail.told(),
            }),
        }
    }
}
