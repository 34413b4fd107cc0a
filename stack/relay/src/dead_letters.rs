//! The file of a lane's records that its endpoint refused for good, for a person to look at.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, any_value::Value},
    logs::v1::ResourceLogs,
};
use prost::Message as _;
use serde_json::{Map, json};

/// Bytes of the file before it is set aside, in the place of an older one.
const MOST: u64 = 64 << 20;

/// `<lane>.dead-letters.jsonl`: one JSON object a line.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    path: PathBuf,
}

impl DeadLetters {
    /// Of a lane, in `folder`.
    pub fn new(folder: &Path, lane: &str) -> Self {
        Self { path: folder.join(format!("{lane}.dead-letters.jsonl")) }
    }

    /// `count` of these were refused; if that is not all, the endpoint does not say which.
    pub fn add(&self, records: &[Bytes], count: u64, why: &str) {
        let documents: Vec<_> = records.iter().map(document).collect();
        let line = json!({"rejected": count, "of": records.len(), "why": why, "documents": documents});
        if let Err(error) = self.append(&line) {
            // They are counted whether or not they are kept.
            tracing::error!(event = "dead_letter_lost", path = %self.path.display(), %error);
        }
    }

    fn append(&self, line: &serde_json::Value) -> io::Result<()> {
        if fs::metadata(&self.path).is_ok_and(|file| file.len() > MOST) {
            fs::rename(&self.path, self.path.with_extension("jsonl.old"))?;
        }
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
        file.write_all(format!("{line}\n").as_bytes())
    }
}

/// Time, body and attributes of a record.
fn document(record: &Bytes) -> serde_json::Value {
    // What the relay encoded itself can be decoded.
    let whole = ResourceLogs::decode(record.clone()).unwrap_or_default();
    let record = whole.scope_logs.into_iter().flat_map(|scope| scope.log_records).next().unwrap_or_default();
    let pairs = record.attributes.iter().map(|pair| (pair.key.clone(), value(pair.value.as_ref())));
    json!({
        "time_unix_nano": record.time_unix_nano,
        "body": value(record.body.as_ref()),
        "attributes": pairs.collect::<Map<_, _>>(),
    })
}

fn value(of: Option<&AnyValue>) -> serde_json::Value {
    match of.and_then(|of| of.value.as_ref()) {
        None => serde_json::Value::Null,
        Some(Value::StringValue(text)) => json!(text),
        Some(Value::IntValue(number)) => json!(number),
        Some(Value::DoubleValue(number)) => json!(number),
        Some(Value::BoolValue(truth)) => json!(truth),
        Some(Value::ArrayValue(array)) => array.values.iter().map(|one| value(Some(one))).collect(),
        Some(Value::KvlistValue(list)) => {
            let pairs = list.values.iter().map(|pair| (pair.key.clone(), value(pair.value.as_ref())));
            serde_json::Value::Object(pairs.collect())
        }
        Some(Value::BytesValue(bytes)) => json!(bytes),
        Some(_) => json!("of a kind that has no place here"),
    }
}
