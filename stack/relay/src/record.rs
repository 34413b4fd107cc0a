//! Records as they are kept: each alone with its resource and scope, bounded, and with an identity of its own.

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
};
use prost::Message as _;

/// The attribute that documents are told apart by. What a sender writes there is not kept.
pub const EVENT_ID: &str = "event_id";
/// Bytes of an identity that a sender gives, at most.
const IDENTITY: usize = 512;
/// Bytes of a text, at most; what is longer is cut.
const TEXT: usize = 64 << 10;
/// Attributes of a record or a resource, at most; those after them are dropped, and their number is in the record.
const ATTRIBUTES: usize = 256;
/// Bytes of a record with its resource, at most.
const RECORD: usize = 1 << 20;

/// Records of a request, ready to be kept.
#[derive(Debug, Default)]
pub struct Encoded {
    /// Each a `ResourceLogs` of one record.
    pub records: Vec<Vec<u8>>,
    /// Their bytes.
    pub bytes: u64,
    /// Records that are too large to be kept.
    pub oversized: u64,
}

/// How many records a request has.
pub fn count(request: &ExportLogsServiceRequest) -> u64 {
    let scopes = request.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
    scopes.fold(0, |count, scope| count.saturating_add(scope.log_records.len() as u64))
}

/// Encodes a request's records; `id` names the one of that place among those that are kept, unless it is `numbered` by its
/// sender. None if they are more than `most` bytes, each with a resource of its own.
pub fn encode(
    request: ExportLogsServiceRequest,
    most: u64,
    numbered: bool,
    id: impl Fn(u64) -> String,
) -> Option<Encoded> {
    let mut encoded = Encoded::default();
    for ResourceLogs { resource, scope_logs, schema_url } in request.resource_logs {
        let mut whole = ResourceLogs { resource, scope_logs: Vec::new(), schema_url };
        if let Some(resource) = &mut whole.resource {
            // The collector's processors have no way to these.
            resource.entity_refs.clear();
            bound(&mut resource.attributes, &mut resource.dropped_attributes_count);
        }
        for ScopeLogs { scope, log_records, schema_url } in scope_logs {
            let mut around = ScopeLogs { scope, log_records: Vec::new(), schema_url };
            for mut record in log_records {
                let own = numbered.then(|| given(&record)).flatten();
                let place = encoded.records.len() as u64;
                stamp(&mut record, own.unwrap_or_else(|| id(place)));
                around.log_records = vec![record];
                whole.scope_logs = vec![around];
                let length = whole.encoded_len();
                if length > RECORD {
                    encoded.oversized = encoded.oversized.saturating_add(1);
                } else {
                    encoded.bytes = encoded.bytes.saturating_add(length as u64);
                    if encoded.bytes > most {
                        return None;
                    }
                    encoded.records.push(whole.encode_to_vec());
                }
                around = whole.scope_logs.pop().unwrap_or_default();
            }
        }
    }
    Some(encoded)
}

/// The identity that a record came with, if that is one.
fn given(record: &LogRecord) -> Option<String> {
    let pair = record.attributes.iter().find(|pair| pair.key == EVENT_ID)?;
    match pair.value.as_ref()?.value.as_ref()? {
        Value::StringValue(id) if (1..=IDENTITY).contains(&id.len()) => Some(id.clone()),
        _ => None,
    }
}

fn stamp(record: &mut LogRecord, id: String) {
    record.attributes.retain(|pair| pair.key != EVENT_ID);
    bound(&mut record.attributes, &mut record.dropped_attributes_count);
    if let Some(body) = &mut record.body {
        cut_value(body);
    }
    let value = AnyValue { value: Some(Value::StringValue(id)) };
    record.attributes.push(KeyValue { key: EVENT_ID.to_owned(), value: Some(value), ..KeyValue::default() });
}

fn bound(attributes: &mut Vec<KeyValue>, dropped: &mut u32) {
    let over = attributes.len().saturating_sub(ATTRIBUTES);
    *dropped = dropped.saturating_add(u32::try_from(over).unwrap_or(u32::MAX));
    attributes.truncate(ATTRIBUTES);
    for pair in attributes {
        cut(&mut pair.key);
        if let Some(value) = &mut pair.value {
            cut_value(value);
        }
    }
}

/// As deep as it goes: decoding has a limit of its own.
fn cut_value(value: &mut AnyValue) {
    match &mut value.value {
        Some(Value::StringValue(text)) => cut(text),
        Some(Value::BytesValue(bytes)) => bytes.truncate(TEXT),
        Some(Value::ArrayValue(array)) => array.values.iter_mut().for_each(cut_value),
        Some(Value::KvlistValue(list)) => {
            list.values.iter_mut().filter_map(|pair| pair.value.as_mut()).for_each(cut_value);
        }
        _ => {}
    }
}

fn cut(text: &mut String) {
    text.truncate(text.floor_char_boundary(TEXT));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &str, value: &str) -> KeyValue {
        let value = AnyValue { value: Some(Value::StringValue(value.to_owned())) };
        KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
    }

    fn request(records: Vec<LogRecord>) -> ExportLogsServiceRequest {
        let scope = ScopeLogs { log_records: records, ..ScopeLogs::default() };
        ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs { scope_logs: vec![scope], ..ResourceLogs::default() }],
        }
    }

    fn decoded(encoded: &Encoded) -> Vec<LogRecord> {
        let one = |bytes: &Vec<u8>| {
            let mut whole = ResourceLogs::decode(bytes.as_slice()).expect("a message");
            let mut records = whole.scope_logs.remove(0).log_records;
            assert_eq!((whole.scope_logs.len(), records.len()), (0, 1));
            records.remove(0)
        };
        encoded.records.iter().map(one).collect()
    }

    #[test]
    fn a_claimed_identity_is_replaced_and_each_record_has_its_own() {
        let claims = || LogRecord {
            attributes: vec![pair(EVENT_ID, "mine"), pair("a", "b"), pair(EVENT_ID, "x")],
            ..LogRecord::default()
        };
        let encoded = encode(request(vec![claims(), claims()]), 1 << 20, false, |place| format!("n-{place}"))
            .expect("room");
        for (place, record) in decoded(&encoded).into_iter().enumerate() {
            assert_eq!(record.attributes, [pair("a", "b"), pair(EVENT_ID, &format!("n-{place}"))]);
        }
        assert_eq!(encoded.bytes, encoded.records.iter().map(|record| record.len() as u64).sum::<u64>());
    }

    #[test]
    fn what_its_sender_numbers_keeps_its_identity_if_that_is_one() {
        let long = "x".repeat(IDENTITY + 1);
        let records = ["own", "", &long].map(|id| LogRecord {
            attributes: vec![pair(EVENT_ID, id), pair(EVENT_ID, "second")],
            ..LogRecord::default()
        });
        let records = records.into_iter().chain([LogRecord::default()]).collect();
        let encoded = encode(request(records), 1 << 20, true, |place| format!("n-{place}")).expect("room");
        let ids = ["own", "n-1", "n-2", "n-3"];
        for (record, id) in decoded(&encoded).into_iter().zip(ids) {
            assert_eq!(record.attributes, [pair(EVENT_ID, id)]);
        }
    }

    #[test]
    fn what_is_long_is_cut_and_what_is_many_is_dropped_and_counted() {
        let long = "ä".repeat(TEXT);
        let mut attributes: Vec<_> = (0..ATTRIBUTES + 7).map(|i| pair(&format!("k{i}"), "v")).collect();
        attributes[0] = pair("k0", &long);
        let body = AnyValue { value: Some(Value::StringValue(format!("x{long}"))) };
        let record = LogRecord { attributes, body: Some(body), ..LogRecord::default() };
        let encoded = encode(request(vec![record]), 1 << 20, false, |_| "id".to_owned()).expect("room");
        let record = decoded(&encoded).remove(0);
        assert_eq!((record.attributes.len(), record.dropped_attributes_count), (ATTRIBUTES + 1, 7));
        assert_eq!(record.attributes[0], pair("k0", &"ä".repeat(TEXT / 2)));
        // A letter of two bytes is not cut in half.
        let Some(Value::StringValue(body)) = record.body.and_then(|body| body.value) else {
            panic!("a text")
        };
        assert_eq!(body, format!("x{}", "ä".repeat(TEXT / 2 - 1)));
    }

    #[test]
    fn a_record_that_is_too_large_leaves_the_others() {
        let large = (0..20).map(|i| pair(&format!("k{i}"), &"x".repeat(TEXT))).collect();
        let large = LogRecord { attributes: large, ..LogRecord::default() };
        let small = LogRecord { severity_number: 9, ..LogRecord::default() };
        let request = request(vec![large, small]);
        assert_eq!(count(&request), 2);
        let encoded = encode(request, 1 << 20, false, |place| format!("n-{place}")).expect("room");
        assert_eq!((encoded.oversized, encoded.records.len()), (1, 1));
        assert_eq!(decoded(&encoded)[0].attributes, [pair(EVENT_ID, "n-0")]);
    }

    #[test]
    fn a_resource_that_is_repeated_beyond_the_room_is_noticed_early() {
        let mut request = request(vec![LogRecord::default(); 1000]);
        let attributes = (0..10).map(|i| pair(&format!("k{i}"), &"x".repeat(TEXT))).collect();
        request.resource_logs[0].resource =
            Some(opentelemetry_proto::tonic::resource::v1::Resource { attributes, ..Default::default() });
        assert!(encode(request, 32 << 20, false, |_| String::new()).is_none());
    }
}
