//! A document on its way, and what goes together in one request.

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::any_value::Value,
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};

use crate::{
    document::{STREAM, key_value},
    spool::Rejected,
};

/// A document, and what it counts for.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub cgroup_id: u64,
    pub attempts: u64,
    pub record: LogRecord,
}

impl Letter {
    /// The endpoint refused it for good.
    pub fn reject(&self, rejected: &mut Rejected) {
        let attempts = rejected.entry(self.cgroup_id).or_default();
        *attempts = attempts.saturating_add(self.attempts);
    }

    fn kind(&self) -> (u64, u64) {
        (self.cgroup_id, self.attempts)
    }
}

/// Whether a count of some of these says all that is to be counted.
pub(super) fn are_alike(group: &[Letter]) -> bool {
    group.first().is_some_and(|first| group.iter().all(|letter| letter.kind() == first.kind()))
}

/// Groups of at most `limit`, in order; if `careful`, of letters that are alike.
pub(super) fn groups(mut letters: Vec<Letter>, limit: usize, careful: bool) -> Vec<Vec<Letter>> {
    if !careful {
        return letters.chunks(limit.max(1)).map(<[Letter]>::to_vec).collect();
    }
    letters.sort_by_key(Letter::kind);
    letters
        .chunk_by(|a, b| a.kind() == b.kind())
        .flat_map(|alike| alike.chunks(limit.max(1)))
        .map(<[Letter]>::to_vec)
        .collect()
}

/// The OTLP records of a group.
pub(super) fn records(group: &[Letter]) -> Vec<LogRecord> {
    group.iter().map(|letter| letter.record.clone()).collect()
}

pub(super) fn request(log_records: Vec<LogRecord>) -> ExportLogsServiceRequest {
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
