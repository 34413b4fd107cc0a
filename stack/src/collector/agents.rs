//! What becomes of agents' telemetry: whose it is comes from the lane, and of what they say there is what a table has and
//! nothing else.
//!
//! The senders are hostile, so a record is not cleaned: a new one is made, of the attributes that are known, each in a form
//! that cannot hold a sentence. No statement can fail on what a sender may send, else the request would be refused, and
//! its text be in the collector's log; what has no sender is refused.

use documents::{CLAUDE, Kind};
use serde_json::{Value, json};

use crate::{Lane, envoy::IDENTITY};

/// What stands for the lane's word until it is decoded. An agent's own attributes of this prefix are removed first.
const PREFIX: &str = "lane.";
/// A word, whose length is up to the `{}`: identifiers, versions, models. No blank, so no sentence.
const WORD: &str = r"^[A-Za-z0-9_.:/@+\\[\\]-]{1,{}}$";
/// A number as text.
const NUMBER: &str = r"^-?[0-9]{1,15}(\\.[0-9]{1,15})?([eE]-?[0-9]{1,2})?$";
/// A moment, in UTC.
const MOMENT: &str = r"^[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?Z$";
/// The largest number that is told, and the smallest: what a sender makes of it must fit the store.
const BOUND: &str = "1000000000000000.0";

/// Drops records that no event has a name of: two bytes in a request, and a document's worth of memory once the lane's labels
/// are in them. How many it dropped is among what the collector tells of itself.
pub(super) fn named() -> Value {
    json!({"error_mode": "propagate", "logs": {"log_record": [r#"attributes["event.name"] == nil"#]}})
}

/// Puts what the lane says of a request into its records, under names of its own.
pub(super) fn identity() -> Value {
    let mut actions =
        vec![json!({"pattern": format!("^{}", PREFIX.replace('.', "\\.")), "action": "delete"})];
    actions.extend(IDENTITY.iter().map(|(attribute, header)| {
        json!({"key": format!("{PREFIX}{attribute}"), "from_context": format!("metadata.{header}"), "action": "upsert"})
    }));
    json!({"actions": actions})
}

/// Statements that put the labels in their true fields into what is made.
pub(super) fn labels() -> Vec<String> {
    let statement = |(attribute, _): &(&str, &str)| match *attribute {
        "src_ip" => format!(r#"set(cache["src_ip"], attributes["{PREFIX}src_ip"])"#),
        label => format!(r#"set(cache["{label}"], Decode(attributes["{PREFIX}{label}"], "base64"))"#),
    };
    IDENTITY.iter().map(statement).collect()
}

/// What is done to records of events.
pub(super) fn logs() -> Value {
    let mut statements = labels();
    // The relay gives each its `event_id`, behind this.
    let of_lane = |name: &str| name == "event_id" || IDENTITY.iter().any(|(attribute, _)| *attribute == name);
    for field in CLAUDE.fields.iter().filter(|field| !of_lane(field.name)) {
        match field.name.strip_prefix("claimed.") {
            Some(claim) => statements.extend(claimed(field.name, claim, field.longest)),
            None => statements.extend(copied(field.name, field.kind, field.longest)),
        }
    }
    // One that is no word is none.
    let named = r#"cache["event.name"] != nil"#;
    statements.extend([
        format!(r#"set(body, Concat(["claude_code", cache["event.name"]], ".")) where {named}"#),
        r#"set(body, "claude_code") where cache["event.name"] == nil"#.to_owned(),
        "set(attributes, cache)".to_owned(),
        // Where text could hide.
        r#"set(severity_text, "")"#.to_owned(),
        "set(severity_number, 0)".to_owned(),
        r#"set(event_name, "")"#.to_owned(),
        format!("set(trace_id, TraceID(0x{}))", "0".repeat(32)),
        format!("set(span_id, SpanID(0x{}))", "0".repeat(16)),
        "set(flags, 0)".to_owned(),
        "set(dropped_attributes_count, 0)".to_owned(),
        // Nor can an agent hide its events in another time.
        r#"set(time, Now()) where time > Now() + Duration("1m") or time < Now() - Duration("10m")"#
            .to_owned(),
        "set(observed_time, Now())".to_owned(),
    ]);
    let mut resource = cleared();
    resource.insert(0, word("service.version", "attributes", 128));
    resource.push(format!(r#"set(attributes["service.name"], "{}")"#, Lane::Claude.stream()));
    json!({
        "error_mode": "propagate",
        "log_statements": [
            {"context": "log", "statements": statements},
            {"context": "resource", "statements": resource},
            {"context": "scope", "statements": scope()},
        ],
    })
}

/// A resource's, or a scope's: nothing of what was in it, but what was put into the cache before.
pub(super) fn cleared() -> Vec<String> {
    ["set(attributes, cache)", r#"set(schema_url, "")"#, "set(dropped_attributes_count, 0)"]
        .map(str::to_owned)
        .to_vec()
}

pub(super) fn scope() -> Vec<String> {
    let mut statements = cleared();
    statements.extend([r#"set(name, "")"#, r#"set(version, "")"#].map(str::to_owned));
    statements
}

/// Of the record's own attribute or its resource's; under the name that those have it by.
fn claimed(name: &str, claim: &str, longest: u16) -> Vec<String> {
    let claim = claim.replace("service_name", "service.name");
    ["resource.attributes", "attributes"]
        .map(|of| {
            let value = format!(r#"{of}["{claim}"]"#);
            format!(r#"set(cache["{name}"], {value}) where {}"#, matches(&value, &word_of(longest)))
        })
        .to_vec()
}

/// The attribute, if it is as its kind has it.
fn copied(name: &str, kind: Kind, longest: u16) -> Vec<String> {
    let value = format!(r#"attributes["{name}"]"#);
    let set = format!(r#"set(cache["{name}"], "#);
    let in_bounds = format!("{value} > -{BOUND} and {value} < {BOUND}");
    match kind {
        Kind::Keyword => vec![
            word(name, "attributes", longest),
            format!("{set}String({value})) where IsBool({value}) or IsInt({value})"),
        ],
        // What is not as a number is written becomes none.
        Kind::Long => vec![
            format!("{set}Int({value})) where IsString({value}) or IsInt({value})"),
            format!("{set}Int({value})) where IsDouble({value}) and {in_bounds}"),
        ],
        Kind::Double => vec![
            format!("{set}Double({value})) where {}", matches(&value, NUMBER)),
            format!("{set}Double({value})) where IsInt({value})"),
            format!("{set}{value}) where IsDouble({value}) and {in_bounds}"),
        ],
        Kind::Date => vec![format!("{set}{value}) where {}", matches(&value, MOMENT))],
        Kind::Boolean => vec![format!("{set}{value}) where IsBool({value})")],
        // Free text and addresses of an agent's own making are not told.
        Kind::Text | Kind::Ip => Vec::new(),
    }
}

/// Into the cache, under its name, if it is a word.
fn word(name: &str, of: &str, longest: u16) -> String {
    let value = format!(r#"{of}["{name}"]"#);
    format!(r#"set(cache["{name}"], {value}) where {}"#, matches(&value, &word_of(longest)))
}

fn word_of(longest: u16) -> String {
    WORD.replace("{}", &longest.to_string())
}

/// Of anything but a text, no pattern is asked: that could fail.
pub(super) fn matches(value: &str, pattern: &str) -> String {
    format!(r#"IsString({value}) and IsMatch({value}, "{pattern}")"#)
}
