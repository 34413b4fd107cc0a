//! A document on its way, and what goes together in one request.

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
};

use crate::{document::STREAM, spool::Rejected};

/// A document, and what it counts for.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub cgroup_id: u64,
    pub attempts: u64,
    /// The OTLP log record, encoded.
    pub record: Bytes,
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
    if letters.is_empty() {
        return Vec::new();
    }
    if !careful && letters.len() <= limit {
        return vec![letters];
    }
    if careful {
        letters.sort_by_key(Letter::kind);
    }
    letters
        .chunk_by(|a, b| !careful || a.kind() == b.kind())
        .flat_map(|alike| alike.chunks(limit.max(1)))
        .map(<[Letter]>::to_vec)
        .collect()
}

/// The records of a group.
pub(super) fn records(group: &[Letter]) -> Vec<Bytes> {
    group.iter().map(|letter| letter.record.clone()).collect()
}

/// `ExportLogsServiceRequest`, whose records are encoded already: on the wire a message is the same as its bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_logs: Vec<ResourceLogs>,
}

/// `ResourceLogs`, likewise.
#[derive(Clone, PartialEq, prost::Message)]
struct ResourceLogs {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_logs: Vec<ScopeLogs>,
}

/// `ScopeLogs`, likewise.
#[derive(Clone, PartialEq, prost::Message)]
struct ScopeLogs {
    #[prost(bytes = "bytes", repeated, tag = "2")]
    log_records: Vec<Bytes>,
}

pub(super) fn request(log_records: Vec<Bytes>) -> Request {
    let service = AnyValue { value: Some(Value::StringValue(STREAM.to_owned())) };
    let service = KeyValue { key: "service.name".to_owned(), value: Some(service), ..KeyValue::default() };
    let resource = Resource { attributes: vec![service], ..Resource::default() };
    let scope_logs = if log_records.is_empty() { Vec::new() } else { vec![ScopeLogs { log_records }] };
    Request { resource_logs: vec![ResourceLogs { resource: Some(resource), scope_logs }] }
}
