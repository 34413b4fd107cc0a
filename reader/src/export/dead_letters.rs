//! The file of records that the endpoint refused for good, for a person to look at.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use opentelemetry_proto::tonic::{common::v1::any_value::Value, logs::v1::LogRecord};
use prost::Message as _;
use serde_json::{Map, json};

use super::Letter;

/// Bytes of the file before it is set aside, in the place of an older one.
const MOST: u64 = 64 << 20;
/// Records of a request that are named where it is not known which were refused.
const NAMED: usize = 2048;

/// `<spool>/dead-letters.jsonl`: one JSON object a line.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    path: PathBuf,
}

impl DeadLetters {
    /// The file's name.
    pub const FILE: &str = "dead-letters.jsonl";

    /// The file of the spool in `dir`.
    pub fn new(dir: &Path) -> Self {
        Self { path: dir.join(Self::FILE) }
    }

    /// A record that was refused alone, as often as it is tried.
    pub(super) fn one(&self, letter: &Letter, why: &str) {
        self.append(&json!({"rejected": 1, "of": 1, "why": why, "documents": [attributes(letter)]}));
    }

    /// `count` of these were refused; if that is not all, the endpoint does not say which.
    pub(super) fn some_of(&self, group: &[Letter], count: u64, why: &str) {
        let documents: Vec<_> = group.iter().take(NAMED).map(attributes).collect();
        self.append(&json!({"rejected": count, "of": group.len(), "why": why, "documents": documents}));
    }

    fn append(&self, line: &serde_json::Value) {
        if let Err(error) = self.try_append(line) {
            // They are counted whether or not they are kept.
            tracing::error!(event = "dead_letter_lost", path = %self.path.display(), %error);
        }
    }

    fn try_append(&self, line: &serde_json::Value) -> io::Result<()> {
        if fs::metadata(&self.path).is_ok_and(|file| file.len() > MOST) {
            fs::rename(&self.path, self.path.with_extension("jsonl.old"))?;
        }
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
        file.write_all(format!("{line}\n").as_bytes())
    }
}

fn attributes(letter: &Letter) -> serde_json::Value {
    // What the reader encoded itself can be decoded.
    let record = LogRecord::decode(letter.record.clone()).unwrap_or_default();
    let pairs = record.attributes.iter().filter_map(|pair| {
        let value = match pair.value.as_ref()?.value.as_ref()? {
            Value::StringValue(text) => json!(text),
            Value::IntValue(number) => json!(number),
            Value::BoolValue(truth) => json!(truth),
            _ => return None,
        };
        Some((pair.key.clone(), value))
    });
    serde_json::Value::Object(pairs.collect::<Map<_, _>>())
}
