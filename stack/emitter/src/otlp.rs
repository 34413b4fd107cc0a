//! Records as OTLP has them, and whoever takes them.

use std::time::Duration;

use opentelemetry_proto::tonic::{
    collector::logs::v1::{ExportLogsServiceRequest, logs_service_client::LogsServiceClient},
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};
use tokio::time::timeout;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use crate::{event::Outcome, folder::Kept, logs::Line, now_unix_ns};

/// Longest time for an answer.
const ANSWER: Duration = Duration::from_secs(30);

/// How bad it is, as OTLP counts, and the word.
const INFO: (i32, &str) = (9, "INFO");
const WARN: (i32, &str) = (13, "WARN");
const ERROR: (i32, &str) = (17, "ERROR");

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was answered for.
    Taken,
    /// The answer rejects it, for good.
    Rejected(String),
    /// There is an answer, and it takes nothing.
    Refused(String),
    /// Nobody answers.
    Unheard(String),
}

/// One lane of a collector.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    logs: LogsServiceClient<Channel>,
    service: &'static str,
}

impl Client {
    /// Nothing is connected yet. Needs a runtime around it.
    pub fn new(endpoint: &Endpoint, service: &'static str) -> Self {
        Self { logs: LogsServiceClient::new(endpoint.connect_lazy()), service }
    }

    /// Sends records together, and where that does not do, each alone: one that cannot be taken does not hold up the
    /// others. Returns what became of each.
    pub async fn deliver(&mut self, records: &[LogRecord]) -> Vec<Fate> {
        let fate = self.send(records.to_vec()).await;
        if records.len() <= 1 || matches!(fate, Fate::Taken | Fate::Unheard(_)) {
            return vec![fate; records.len()];
        }
        let mut fates = Vec::with_capacity(records.len());
        let mut unheard = None;
        for record in records {
            let fate = match &unheard {
                Some(fate) => Fate::clone(fate),
                None => self.send(vec![record.clone()]).await,
            };
            if let (Fate::Unheard(_), None) = (&fate, &unheard) {
                unheard = Some(fate.clone());
            }
            fates.push(fate);
        }
        fates
    }

    async fn send(&mut self, records: Vec<LogRecord>) -> Fate {
        let request = self.request(records);
        let answer = timeout(ANSWER, self.logs.export(request)).await;
        match answer {
            Err(_) => Fate::Unheard(format!("no answer within {} s", ANSWER.as_secs())),
            Ok(Err(status)) if is_unheard(&status) => Fate::Unheard(told(&status)),
            Ok(Err(status)) => Fate::Refused(told(&status)),
            Ok(Ok(response)) => match response.into_inner().partial_success {
                Some(partial) if partial.rejected_log_records > 0 => {
                    Fate::Rejected(shortened(&partial.error_message))
                }
                _ => Fate::Taken,
            },
        }
    }

    fn request(&self, log_records: Vec<LogRecord>) -> ExportLogsServiceRequest {
        let attributes = vec![
            text("service.name", self.service.to_owned()),
            text("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
        let resource = Some(Resource { attributes, ..Resource::default() });
        ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs { resource, scope_logs, ..ResourceLogs::default() }],
        }
    }
}

/// An event as a record.
pub(crate) fn of_event(kept: &Kept) -> LogRecord {
    use crate::What::{BypassOn, Contradicted, Degraded, EventsLost, RecordsLost, UnobservedAccepted};
    let severity = match (kept.event.outcome, kept.event.event) {
        (Outcome::Failed, _) | (_, Degraded | RecordsLost | EventsLost) => ERROR,
        (Outcome::Refused, _) | (_, BypassOn | UnobservedAccepted | Contradicted) => WARN,
        _ => INFO,
    };
    record(kept.time, severity, kept.event.summary(), kept.event.attributes())
}

/// A log line as a record.
pub(crate) fn of_line(line: &Line, component: &str, node: &str) -> LogRecord {
    let severity = match line.level {
        tracing::Level::ERROR => ERROR,
        tracing::Level::WARN => WARN,
        _ => INFO,
    };
    let owner = [("agent", &line.agent), ("project", &line.project), ("container_id", &line.container_id)];
    let mut attributes: Vec<KeyValue> =
        owner.into_iter().filter_map(|(key, value)| Some(text(key, value.clone()?))).collect();
    attributes.extend([
        text("component", component.to_owned()),
        text("node", node.to_owned()),
        text("level", severity.1.to_owned()),
        text("event_id", line.id.clone()),
    ]);
    record(line.time, severity, line.text.clone(), attributes)
}

fn record(time: u64, severity: (i32, &str), body: String, attributes: Vec<KeyValue>) -> LogRecord {
    LogRecord {
        time_unix_nano: time,
        observed_time_unix_nano: now_unix_ns(),
        severity_number: severity.0,
        severity_text: severity.1.to_owned(),
        body: Some(AnyValue { value: Some(Value::StringValue(body)) }),
        attributes,
        ..LogRecord::default()
    }
}

fn text(key: &str, value: String) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value)) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

/// Whether that was no answer of the collector's. What a certificate is refused with is none either.
fn is_unheard(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Unauthenticated
    )
}

fn told(status: &Status) -> String {
    format!("{:?}: {}", status.code(), shortened(&crate::chain(status)))
}

fn shortened(text: &str) -> String {
    text.chars().take(512).collect()
}
