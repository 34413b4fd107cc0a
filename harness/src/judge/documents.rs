//! The documents against the expectations.

use std::collections::BTreeMap;

use serde_json::Value;

use super::evidence::{Evidence, attribute, describe, is_redirected_dns};
use crate::{
    event::{Class, Failure},
    scenario::types::DocumentExpectation,
};

/// Every expectation, and that there is nothing else.
pub fn judge(evidence: &Evidence<'_>) -> Vec<Failure> {
    let expect = &evidence.cell.scenario.expect;
    let mut failures = Vec::new();
    let mut claimed = vec![false; evidence.documents.len()];
    for (index, expectation) in expect.documents.iter().enumerate() {
        let path = format!("expect.documents[{index}]");
        let meant: Vec<usize> = (0..evidence.documents.len())
            .filter(|at| matches(&evidence.documents[*at], &expectation.filter))
            .collect();
        for at in &meant {
            claimed[*at] = true;
        }
        failures.extend(count(evidence, &path, expectation, meant.len() as u64));
        for at in meant {
            failures.extend(compare(evidence, &path, expectation, &evidence.documents[at]));
        }
    }
    if expect.nothing_else {
        for (document, claimed) in evidence.documents.iter().zip(claimed) {
            if !claimed && !is_redirected_dns(document) {
                let message = format!("a document that nothing expects: {}", describe(document));
                failures.push(evidence.failure(Class::Expectation, "expect", message, String::new()));
            }
        }
    }
    failures
}

fn count(
    evidence: &Evidence<'_>,
    path: &str,
    expectation: &DocumentExpectation,
    found: u64,
) -> Option<Failure> {
    let (wrong, wanted) = match (expectation.exactly, expectation.at_least) {
        (Some(exactly), _) => (found != exactly, format!("exactly {exactly}")),
        (None, at_least) => (found < at_least.unwrap_or(1), format!("at least {}", at_least.unwrap_or(1))),
    };
    if !wrong {
        return None;
    }
    // Of agents that have no document at all, the documents were lost; otherwise they are other ones.
    let class = if evidence.documents.is_empty() { Class::Loss } else { Class::Expectation };
    let message =
        format!("{path}: {wanted} document(s) expected where {}, {found} found", words(&expectation.filter));
    Some(evidence.failure(class, path, message, nearest(evidence, expectation)))
}

fn compare(
    evidence: &Evidence<'_>,
    path: &str,
    expectation: &DocumentExpectation,
    document: &Value,
) -> Option<Failure> {
    let wrong: Vec<(&String, &Value)> =
        expectation.fields.iter().filter(|(name, value)| !equal(attribute(document, name), value)).collect();
    let (first, _) = wrong.first()?;
    let differences: Vec<String> = wrong
        .iter()
        .map(|(name, value)| format!("{name} is {}, not {value}", attribute(document, name)))
        .collect();
    let message = format!("{path}: {} of {}", differences.join(", "), describe(document));
    let detail = diff(&expectation.fields, document);
    Some(evidence.failure(Class::Expectation, &format!("{path}.match.{first}"), message, detail))
}

/// Whether a document has every value of a filter.
fn matches(document: &Value, filter: &BTreeMap<String, Value>) -> bool {
    filter.iter().all(|(name, value)| equal(attribute(document, name), value))
}

/// Equal values; an absent attribute is the empty text.
fn equal(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Null, Value::String(text)) => text.is_empty(),
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        _ => found == expected,
    }
}

fn words(fields: &BTreeMap<String, Value>) -> String {
    if fields.is_empty() {
        return "anything goes".to_owned();
    }
    fields.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

/// Every expected field, with what was found.
fn diff(fields: &BTreeMap<String, Value>, document: &Value) -> String {
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

/// The document that has most of what was wanted.
fn nearest(evidence: &Evidence<'_>, expectation: &DocumentExpectation) -> String {
    let mut wanted = expectation.filter.clone();
    wanted.extend(expectation.fields.clone());
    let score = |document: &&Value| {
        wanted.iter().filter(|(name, value)| equal(attribute(document, name), value)).count()
    };
    match evidence.documents.iter().max_by_key(score) {
        Some(document) => format!("nearest document: {}\n{}", describe(document), diff(&wanted, document)),
        None => "there is no document of these agents at all".to_owned(),
    }
}
