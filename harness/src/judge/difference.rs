//! How a document differs from what was expected, for people.

use std::{cmp::Reverse, collections::BTreeMap};

use serde_json::Value;

use super::evidence::{Evidence, attribute, describe};

/// Fields that say what was decided: told before the others.
const FIRST: [&str; 4] = ["verdict", "reason", "close_reason", "hook"];
/// Most documents that are listed.
const MOST: usize = 12;

/// Equal values; an absent attribute is the empty text.
pub fn equal(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Null, Value::String(text)) => text.is_empty(),
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        _ => found == expected,
    }
}

/// The fields that a document has otherwise, the verdict first.
pub fn wrong<'a>(fields: &'a BTreeMap<String, Value>, document: &Value) -> Vec<(&'a str, &'a Value)> {
    let mut wrong: Vec<(&str, &Value)> = fields
        .iter()
        .filter(|(name, value)| !equal(attribute(document, name), value))
        .map(|(name, value)| (name.as_str(), value))
        .collect();
    // Stable: the others stay in the order of their names.
    wrong.sort_by_key(|(name, _)| FIRST.iter().position(|first| first == name).unwrap_or(FIRST.len()));
    wrong
}

/// The YAML of each wrong field with a caret below it and what was found beside that; fields of one line
/// share it.
pub fn carets(evidence: &Evidence<'_>, path: &str, wrong: &[(&str, &Value)], document: &Value) -> String {
    let mut rows: Vec<String> = Vec::new();
    let mut shown = String::new();
    for (name, _) in wrong {
        let Some((line, column)) = evidence.cell.locate(&format!("{path}.match.{name}")) else { continue };
        let excerpt = evidence.cell.excerpt(line, column);
        let mut lines: Vec<&str> = excerpt.lines().collect();
        let Some(caret) = lines.pop() else { continue };
        // All but the first line, which has the column.
        let text = lines.get(1..).unwrap_or_default().join("\n");
        if text != shown {
            rows.extend(lines.iter().map(|line| (*line).to_owned()));
            shown = text;
        }
        rows.push(format!("{caret} found {}", attribute(document, name)));
    }
    rows.join("\n")
}

/// Every expected field, and what was found instead.
pub fn diff(fields: &BTreeMap<String, Value>, document: &Value) -> String {
    let line = |(name, value): (&String, &Value)| {
        let found = attribute(document, name);
        if equal(found, value) {
            format!("    {name}: {value}")
        } else {
            format!("  - {name}: {value}\n  + {name}: {found}")
        }
    };
    fields.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The document that has most of what was wanted, the earliest of several.
pub fn nearest<'a>(documents: &'a [Value], wanted: &BTreeMap<String, Value>) -> Option<&'a Value> {
    let has = |document: &Value| {
        wanted.iter().filter(|(name, value)| equal(attribute(document, name), value)).count()
    };
    documents.iter().min_by_key(|document| Reverse(has(document)))
}

/// One line a document, bounded.
pub fn list<'a>(documents: impl Iterator<Item = &'a Value>) -> String {
    let mut rows: Vec<String> = documents.map(|document| format!("    {}", describe(document))).collect();
    let more = rows.len().saturating_sub(MOST);
    if more > 0 {
        rows.truncate(MOST);
        rows.push(format!("    and {more} more"));
    }
    rows.join("\n")
}
