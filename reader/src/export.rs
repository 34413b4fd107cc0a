//! Sends batches to the endpoint and forgets a record only on its answer.
//!
//! An answer is a response, also one that rejects records (`partial_success`). Everything else is
//! no answer: the batch is kept and sent again for as long as it takes. INTERNAL too, because a
//! collector whose store is down says INTERNAL, permanent, and means neither.

mod backoff;
mod client;

use std::{sync::Arc, time::Duration};

use abi::LossPoint;
use opentelemetry_proto::tonic::{
    collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse},
    common::v1::any_value::Value,
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

pub use backoff::Backoff;
pub use client::{Client, ClientError};

use crate::{
    Fault,
    attribute::Attributor,
    clock::Offset,
    document::{STREAM, key_value},
    observe::{Component, Counters, Health, with_causes},
    spool::{Entry, Spool},
};

/// How often enrolments are looked at while nothing comes.
const IDLE: Duration = Duration::from_secs(1);
/// How often the endpoint is asked whether it is there while nothing comes.
const PROBE: Duration = Duration::from_secs(10);
/// Longest wait between attempts once the spool is closed: the time to empty it is bounded.
const CLOSING: Duration = Duration::from_millis(500);
/// Bytes of the endpoint's text that are logged.
const MESSAGE: usize = 512;

/// The stage, with attribution before it: takes entries from the spool, acknowledges them there.
pub struct Exporter {
    /// The endpoint.
    pub client: Client,
    /// Where entries come from.
    pub spool: Arc<Spool>,
    /// Makes documents of them.
    pub attributor: Attributor,
    /// Where it counts.
    pub counters: Arc<Counters>,
    /// Where it says how it is.
    pub health: Arc<Health>,
    /// Most records in one request.
    pub batch: usize,
    /// Longest wait for a batch to fill.
    pub flush: Duration,
    /// A fault to show.
    pub fault: Fault,
}

impl Exporter {
    /// Exports until the spool is closed and empty.
    pub async fn run(mut self) {
        self.refresh();
        self.probe().await;
        let mut answered = Instant::now();
        loop {
            match timeout(IDLE, self.spool.ready(self.batch, self.flush)).await {
                Ok(false) => return,
                Ok(true) => {
                    self.deliver().await;
                    answered = Instant::now();
                }
                Err(_idle) => {
                    self.refresh();
                    if answered.elapsed() >= PROBE {
                        self.probe().await;
                        answered = Instant::now();
                    }
                }
            }
        }
    }

    fn refresh(&mut self) -> Option<Offset> {
        let clock = match Offset::measure() {
            Ok(clock) => clock,
            Err(error) => {
                self.health.down(Component::Attribute, &format!("cannot read the boot clock: {error}"));
                return None;
            }
        };
        match self.attributor.refresh(clock) {
            Ok(()) => self.health.up(Component::Attribute),
            Err(cause) => self.health.down(Component::Attribute, &cause),
        }
        Some(clock)
    }

    /// An empty request: whether there is someone who answers.
    async fn probe(&mut self) {
        match self.client.export(request(Vec::new())).await {
            Ok(_) => self.health.up(Component::Export),
            Err(status) => self.health.down(Component::Export, &cause(&status)),
        }
    }

    /// Takes one batch and stays with it until the endpoint has answered.
    async fn deliver(&mut self) {
        let entries = self.spool.take(self.batch);
        let Some(last) = entries.last().map(|entry| entry.sequence) else {
            return;
        };
        // Without a clock there is no timestamp; the batch stays where it is.
        let Some(clock) = self.refresh() else {
            return sleep(CLOSING).await;
        };
        sleep(self.fault.delay()).await;
        let records = self.documents(&entries, clock);
        let sent = records.len() as u64;
        if sent > 0 {
            sleep(self.fault.delay()).await;
            let response = self.send(request(records)).await;
            sleep(self.fault.delay()).await;
            self.settle(&response, sent);
        }
        self.spool.acknowledge(last);
    }

    fn documents(&mut self, entries: &[Entry], clock: Offset) -> Vec<LogRecord> {
        let mut records = Vec::with_capacity(entries.len());
        for entry in entries {
            match self.attributor.attribute(entry, clock) {
                Ok(document) => {
                    self.counters.attributed(document.attribution);
                    records.push(
                        document.into_log_record(clock.wall_of(entry.record.end_ns), clock.now_unix_ns()),
                    );
                }
                Err(error) => {
                    self.counters.lost(LossPoint::Decode, 1);
                    tracing::warn!(event = "record_undecodable", sequence = entry.sequence, %error);
                }
            }
        }
        records
    }

    async fn send(&mut self, request: ExportLogsServiceRequest) -> ExportLogsServiceResponse {
        let mut backoff = Backoff::default();
        loop {
            match self.client.export(request.clone()).await {
                Ok(response) => {
                    self.health.up(Component::Export);
                    return response;
                }
                Err(status) => {
                    self.counters.export_error();
                    self.health.down(Component::Export, &cause(&status));
                }
            }
            let wait = backoff.next();
            if self.spool.is_closed() {
                sleep(wait.min(CLOSING)).await;
            } else {
                tokio::select! {
                    () = sleep(wait) => {}
                    () = self.spool.closed() => {}
                }
            }
        }
    }

    fn settle(&self, response: &ExportLogsServiceResponse, sent: u64) {
        let partial = response.partial_success.clone().unwrap_or_default();
        let rejected = u64::try_from(partial.rejected_log_records).unwrap_or(0).min(sent);
        if rejected > 0 {
            self.counters.lost(LossPoint::BackendRejected, rejected);
        }
        self.counters.exported(sent.saturating_sub(rejected));
        let message = shortened(&partial.error_message);
        if rejected > 0 {
            tracing::error!(event = "backend_rejected", rejected, sent, message, "these records are lost");
        } else if !message.is_empty() {
            tracing::warn!(event = "backend_warned", sent, message);
        }
    }
}

fn request(log_records: Vec<LogRecord>) -> ExportLogsServiceRequest {
    let resource = Resource {
        attributes: vec![key_value("service.name", Value::StringValue(STREAM.to_owned()))],
        ..Resource::default()
    };
    let scope_logs = if log_records.is_empty() {
        Vec::new()
    } else {
        vec![ScopeLogs { log_records, ..ScopeLogs::default() }]
    };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { resource: Some(resource), scope_logs, ..ResourceLogs::default() }],
    }
}

/// What a person needs of a failure: the code, the endpoint's words, and what lies beneath them.
fn cause(status: &Status) -> String {
    with_causes(format!("{:?}: {}", status.code(), shortened(status.message())), status)
}

fn shortened(text: &str) -> String {
    text.chars().take(MESSAGE).collect()
}
