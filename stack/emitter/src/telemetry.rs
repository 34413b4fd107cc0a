//! The part of a process that ships: a thread of its own, so that nothing else waits for it.

use std::{io, thread, time::Duration};

use tokio::{
    runtime,
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tonic::transport::Endpoint;

use crate::{
    channel::{ChannelError, channel},
    folder::Events,
    logs::Logs,
    options::Options,
    otlp::Client,
    ship,
};

/// Longest time to send what is there, after the stop. Events that are left are in their folder; lines are lost.
const FAREWELL: Duration = Duration::from_secs(2);
/// Before what panicked is started again.
const RESTART: Duration = Duration::from_secs(1);
/// How the lanes' certificates are called.
const OVERSEER: &str = "overseer";
const CP: &str = "cp";
/// The option that has them.
const CERTIFICATES: &str = "--lane-certificates";

/// What a process ships, and where to. Without endpoints it is nothing.
#[derive(Debug)]
pub struct Telemetry {
    options: Options,
    events: Events,
    logs: Option<Logs>,
}

/// Why nothing is shipped.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The command line.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The machine.
    #[error("the telemetry thread did not start: {0}")]
    Thread(#[from] io::Error),
}

/// A thread that ships.
#[derive(Debug)]
pub struct Running {
    stop: watch::Sender<bool>,
    thread: thread::JoinHandle<()>,
}

impl Telemetry {
    /// Ships events of this folder, and the lines of this process.
    #[must_use]
    pub fn new(options: &Options, events: Events) -> Self {
        let logs = options.logs_endpoint.as_ref().map(|_| Logs::new(events.component(), events.node()));
        Self { options: options.clone(), events, logs }
    }

    /// The layer that takes log lines, where they go anywhere.
    #[must_use]
    pub fn logs(&self) -> Option<Logs> {
        self.logs.clone()
    }

    /// Starts the thread. Nobody needs to answer.
    ///
    /// # Errors
    /// If the options do not fit, or there can be no thread.
    pub fn start(self) -> Result<Running, StartError> {
        let events = self.endpoint("--events-endpoint", self.options.events_endpoint.as_deref(), OVERSEER)?;
        let logs = self.endpoint("--logs-endpoint", self.options.logs_endpoint.as_deref(), CP)?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = watch::channel(false);
        let body = move || {
            runtime.block_on(self.ship(events, logs, stopped));
            // A name that is being looked up is not waited for.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("telemetry".to_owned()).spawn(body)?;
        Ok(Running { stop, thread })
    }

    fn endpoint(
        &self,
        option: &'static str,
        url: Option<&str>,
        lane: &str,
    ) -> Result<Option<Endpoint>, ChannelError> {
        let made = |url: &str| channel(option, url, CERTIFICATES, &self.options.tls(url, lane));
        url.map(made).transpose()
    }

    async fn ship(self, to_overseer: Option<Endpoint>, to_cp: Option<Endpoint>, stop: watch::Receiver<bool>) {
        let mut shipping = Vec::new();
        if let Some(endpoint) = to_overseer {
            let (events, stop) = (self.events.clone(), stop.clone());
            shipping.push(kept_up(move || {
                let client = Client::new(&endpoint, documents::OVERSEER.name);
                tokio::spawn(ship::events(events.clone(), client, stop.clone()))
            }));
        }
        if let (Some(endpoint), Some(logs)) = (to_cp, self.logs) {
            let (component, node) = (self.events.component().to_owned(), self.events.node().to_owned());
            let stop = stop.clone();
            shipping.push(kept_up(move || {
                let client = Client::new(&endpoint, documents::CP.name);
                let (component, node) = (component.clone(), node.clone());
                tokio::spawn(ship::logs(logs.clone(), component, node, client, stop.clone()))
            }));
        }
        let mut stop = stop;
        // Whoever held the sender is gone where it fails.
        let _ = stop.wait_for(|stop| *stop).await;
        let all = async {
            for one in shipping {
                let _ = one.await;
            }
        };
        // What is left is told by its folder.
        let _ = timeout(FAREWELL, all).await;
    }
}

/// Starts a task again after a panic, until it ends by itself.
fn kept_up(start: impl Fn() -> JoinHandle<()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(async move {
        while start().await.is_err() {
            tracing::error!(event = "telemetry_panicked", "shipping panicked; starting it again");
            sleep(RESTART).await;
        }
    })
}

impl Running {
    /// Sends what is there, within two seconds, and ends.
    pub fn stop(self) {
        let _ = self.stop.send(true);
        // It panics only where a bug does, and has then said so.
        let _ = self.thread.join();
    }
}
