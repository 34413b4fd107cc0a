//! The document store's side: an export of it, one JSON document a line.

use std::{
    collections::HashSet,
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

use serde::Deserialize;

use super::Readings;
use crate::error::{Error, Result};

/// What is read of a document.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    attributes: Attributes,
}

#[derive(Default, Deserialize)]
struct Attributes {
    event_id: Option<String>,
    event_count: Option<u64>,
    cgroup_id: Option<u64>,
    record_type: Option<String>,
}

/// Counts the distinct events in `path` whose identity has one of `nonces`. Documents of losses tell of what other terms count;
/// those of other spools and streams are nothing of this ledger's. Returns how many lines these are.
pub(super) fn read(path: &Path, nonces: &HashSet<u64>, counts: &mut Readings) -> Result<u64> {
    let mut seen: HashSet<(u64, u64)> = HashSet::new();
    let mut foreign = 0_u64;
    let file = File::open(path).map_err(Error::file(path))?;
    for (line, number) in BufReader::new(file).lines().zip(1_u64..) {
        let line = line.map_err(Error::file(path))?;
        if line.trim().is_empty() {
            continue;
        }
        let Document { attributes } = serde_json::from_str(&line).map_err(|error| Error::Documents {
            path: path.to_owned(),
            line: number,
            problem: error.to_string(),
        })?;
        let place = attributes.event_id.as_deref().and_then(place);
        let ours = place.filter(|(nonce, _)| nonces.contains(nonce));
        let (Some(place), Some(cgroup_id)) = (ours, attributes.cgroup_id) else {
            foreign = foreign.saturating_add(1);
            continue;
        };
        let is_loss = attributes.record_type.as_deref() == Some("loss");
        if !is_loss && seen.insert(place) {
            let row = counts.entry(cgroup_id).or_default();
            row.stored = row.stored.saturating_add(attributes.event_count.unwrap_or(1));
        }
    }
    Ok(foreign)
}

/// The nonce and the sequence in an event's identity, `node-nonce-sequence`.
fn place(event_id: &str) -> Option<(u64, u64)> {
    let mut parts = event_id.rsplitn(3, '-');
    let sequence = parts.next()?.parse().ok()?;
    Some((u64::from_str_radix(parts.next()?, 16).ok()?, sequence))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use super::*;

    fn count(lines: &str) -> Result<(u64, BTreeMap<u64, u64>)> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), lines).unwrap();
        let mut counts = Readings::default();
        let foreign = read(file.path(), &HashSet::from([0xab]), &mut counts)?;
        Ok((foreign, counts.into_iter().map(|(id, counts)| (id, counts.stored)).collect()))
    }

    #[test]
    fn each_event_is_counted_once_with_its_weight_and_losses_are_not() {
        let line = |id: &str, rest: &str| {
            format!("{{\"attributes\":{{\"event_id\":\"{id}\",\"cgroup_id\":7{rest}}}}}\n")
        };
        let lines = [
            line("node-1-00000000000000ab-3", ",\"event_count\":40"),
            line("node-1-00000000000000ab-3", ",\"event_count\":40"),
            line("node-1-00000000000000ab-4", ""),
            line("node-1-00000000000000ab-5", ",\"event_count\":9,\"record_type\":\"loss\""),
            line("node-1-00000000000000ac-6", ""),
            "{\"body\":\"of another stream\"}\n\n".to_owned(),
        ];
        assert_eq!(count(&lines.concat()).unwrap(), (2, BTreeMap::from([(7, 41)])));
    }

    #[test]
    fn a_line_that_is_no_document_is_told_with_its_number() {
        let told = count("{}\n{\"attributes\": 3}\n").unwrap_err().to_string();
        assert!(told.contains(": line 2: invalid type"), "{told}");
    }
}
