//! A container that is removed on drop, and what it said.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::TryStreamExt as _;
use testcontainers::{
    ContainerAsync, GenericImage,
    bollard::{
        models::ContainerInspectResponse,
        query_parameters::{LogsOptions, StopContainerOptions},
    },
    core::logs::{LogFrame, consumer::LogConsumer},
};

use super::{Docker, DockerError};

/// Most of what a container said that is kept, bytes.
const KEPT: usize = 8 << 10;
/// How long one may take to end in order.
const STOP_SECONDS: i32 = 20;

/// A running container, or one that ended. Dropping it removes it.
pub struct Container {
    docker: Docker,
    what: String,
    /// `None` only while it is dropped.
    inner: Option<ContainerAsync<GenericImage>>,
    id: String,
    pid: u32,
    tail: Tail,
}

impl Container {
    pub(super) fn new(
        docker: Docker,
        what: String,
        inner: ContainerAsync<GenericImage>,
        tail: Tail,
    ) -> Result<Self, DockerError> {
        let id = inner.id().to_owned();
        let mut container = Self { docker, what, inner: Some(inner), id, pid: 0, tail };
        let state = container.inspect()?.state;
        let pid = state.and_then(|state| u32::try_from(state.pid?).ok()).filter(|pid| *pid > 0);
        container.pid = pid.ok_or_else(|| container.failed("it ended at once"))?;
        Ok(container)
    }

    /// Docker's name of it, 64 digits.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its first process, on this machine.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Its IPv4 address in a network.
    ///
    /// # Errors
    /// If it is in none of that name.
    pub fn address(&self, network: &str) -> Result<IpAddr, DockerError> {
        let networks = self.inspect()?.network_settings.and_then(|settings| settings.networks);
        let address = networks.and_then(|mut all| all.remove(network)?.ip_address?.parse().ok());
        address.ok_or_else(|| self.failed(&format!("it has no address in the network {network}")))
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.inspect().ok().and_then(|found| found.state?.running).unwrap_or(false)
    }

    /// Ends it by SIGKILL.
    ///
    /// # Errors
    /// If the daemon refuses, as it does for one that does not run.
    pub fn kill(&self) -> Result<(), DockerError> {
        let killed = self.docker.runtime.block_on(self.docker.client.kill_container(&self.id, None));
        killed.map_err(|error| self.failed(&error.to_string()))
    }

    /// Ends it by SIGTERM, and returns once it has; by SIGKILL if it takes too long.
    ///
    /// # Errors
    /// If the daemon refuses.
    pub fn stop(&self) -> Result<(), DockerError> {
        let options = StopContainerOptions { t: Some(STOP_SECONDS), ..StopContainerOptions::default() };
        let stopped =
            self.docker.runtime.block_on(self.docker.client.stop_container(&self.id, Some(options)));
        stopped.map_err(|error| self.failed(&error.to_string()))
    }

    /// Starts it again after it ended.
    ///
    /// # Errors
    /// If the daemon refuses.
    pub fn start(&mut self) -> Result<(), DockerError> {
        let started = self.docker.runtime.block_on(self.docker.client.start_container(&self.id, None));
        started.map_err(|error| self.failed(&error.to_string()))?;
        let state = self.inspect()?.state;
        self.pid = state.and_then(|state| u32::try_from(state.pid?).ok()).unwrap_or(0);
        Ok(())
    }

    /// What it said last, for a failure.
    #[must_use]
    pub fn told(&self) -> String {
        self.tail.told()
    }

    /// All that it has said, which the daemon keeps on disk.
    ///
    /// # Errors
    /// If the daemon does not tell.
    pub fn log(&self) -> Result<String, DockerError> {
        let options = LogsOptions { stdout: true, stderr: true, ..LogsOptions::default() };
        let frames = self.docker.client.logs(&self.id, Some(options));
        let whole = frames.try_fold(Vec::new(), |mut whole, frame| async move {
            whole.extend_from_slice(&frame.into_bytes());
            Ok(whole)
        });
        let whole = self.docker.runtime.block_on(whole).map_err(|error| self.failed(&error.to_string()))?;
        Ok(String::from_utf8_lossy(&whole).into_owned())
    }

    /// A failure of this container, with what it said last.
    #[must_use]
    pub fn failed(&self, cause: &str) -> DockerError {
        DockerError::Container { what: self.what.clone(), cause: cause.to_owned(), log: self.told() }
    }

    fn inspect(&self) -> Result<ContainerInspectResponse, DockerError> {
        let found = self.docker.runtime.block_on(self.docker.client.inspect_container(&self.id, None));
        found.map_err(|error| self.failed(&error.to_string()))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // It is removed by a task of the runtime that is entered here.
        let _entered = self.docker.runtime.enter();
        drop(self.inner.take());
    }
}

/// The end of what a container says.
#[derive(Clone, Default)]
pub(super) struct Tail(Arc<Mutex<VecDeque<u8>>>);

impl Tail {
    fn lock(&self) -> MutexGuard<'_, VecDeque<u8>> {
        // Bytes are valid whatever happened to a holder.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In words; nothing if it said nothing.
    pub fn told(&self) -> String {
        let bytes: Vec<u8> = self.lock().iter().copied().collect();
        if bytes.is_empty() {
            return String::new();
        }
        format!("; it said last:\n{}", String::from_utf8_lossy(&bytes).trim_end())
    }
}

impl LogConsumer for Tail {
    fn accept<'a>(&'a self, record: &'a LogFrame) -> futures_util::future::BoxFuture<'a, ()> {
        let mut kept = self.lock();
        kept.extend(record.bytes());
        let over = kept.len().saturating_sub(KEPT);
        kept.drain(..over);
        Box::pin(async {})
    }
}
