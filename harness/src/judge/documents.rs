//! The documents against the expectations.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    difference::{carets, diff, equal, list, nearest, wrong},
    evidence::{Evidence, attribute, describe, is_redirected_dns, is_telemetry},
    vanished::vanished,
};
use crate::{
    event::{Class, Failure, Stage},
    plane::INDEX,
    scenario::{fields::EGRESS_STREAM, types::DocumentExpectation},
};

/// Most documents of one expectation whose differences are shown.
const MOST: usize = 5;

/// Every expectation, and that there is nothing else; and where the first missing event vanished.
pub fn judge(evidence: &Evidence<'_>) -> (Vec<Failure>, Option<Stage>) {
    let expect = &evidence.cell.scenario.expect;
    let mut failures = Vec::new();
    let mut stage = None;
    let mut claimed = vec![false; evidence.documents.len()];
    for (index, expectation) in expect.documents.iter().enumerate() {
        let path = format!("expect.documents[{index}]");
        let documents = evidence.of_stream(&expectation.stream);
        let meant: Vec<usize> =
            (0..documents.len()).filter(|at| matches(&documents[*at], &expectation.filter)).collect();
        if expectation.stream == EGRESS_STREAM {
            for at in &meant {
                claimed[*at] = true;
            }
        }
        if let Some((failure, missing)) = count(evidence, &path, expectation, meant.len() as u64) {
            failures.push(failure);
            stage = stage.or(missing);
        }
        failures.extend(lie_in(evidence, &path, expectation, meant.iter().map(|at| &documents[*at])));
        let mut differ = meant.iter().filter_map(|at| compare(evidence, &path, expectation, &documents[*at]));
        failures.extend(differ.by_ref().take(MOST));
        let more = differ.count();
        if more > 0 {
            let message = format!("{path}: {more} more document(s) differ from it");
            failures.push(Failure { class: Class::Expectation, message, detail: String::new() });
        }
    }
    if expect.nothing_else {
        failures.extend(unexpected(evidence, &claimed));
    }
    if expect.nothing_twice && !evidence.repeated.is_empty() {
        let message = format!(
            "{} document(s) came again, though nothing had a sender send again",
            evidence.repeated.len()
        );
        let detail = evidence
            .repeated
            .iter()
            .take(MOST)
            .map(|one| format!("    {one}"))
            .collect::<Vec<_>>()
            .join("\n");
        failures.push(evidence.failure(Class::Expectation, "expect.nothing_twice", message, detail));
    }
    (failures, stage)
}

/// Whether they lie in as many indices as they must.
fn lie_in<'d>(
    evidence: &Evidence<'_>,
    path: &str,
    expectation: &DocumentExpectation,
    meant: impl Iterator<Item = &'d Value>,
) -> Option<Failure> {
    let least = expectation.at_least_indices?;
    let mut indices: BTreeMap<&str, usize> = BTreeMap::new();
    for document in meant {
        *indices.entry(document[INDEX].as_str().unwrap_or_default()).or_default() += 1;
    }
    let found = indices.len() as u64;
    (found < least).then(|| {
        let message = format!("{path}: documents expected in at least {least} indices, found in {found}");
        evidence.failure(Class::Expectation, path, message, format!("    {indices:?}"))
    })
}

/// Documents that no expectation claims.
fn unexpected(evidence: &Evidence<'_>, claimed: &[bool]) -> Option<Failure> {
    let others = evidence.documents.iter().zip(claimed);
    let others: Vec<&Value> = others
        .filter(|(document, claimed)| !**claimed && !is_redirected_dns(document) && !is_telemetry(document))
        .map(|(document, _)| document)
        .collect();
    let (message, detail) = match others.as_slice() {
        [] => return None,
        [document] => (format!("a document that nothing expects: {}", describe(document)), String::new()),
        several => {
            (format!("{} documents that nothing expects", several.len()), list(several.iter().copied()))
        }
    };
    Some(evidence.failure(Class::Expectation, "expect", message, detail))
}

/// Whether there are as many as there must be; with the stage at which a missing one vanished.
fn count(
    evidence: &Evidence<'_>,
    path: &str,
    expectation: &DocumentExpectation,
    found: u64,
) -> Option<(Failure, Option<Stage>)> {
    let least = expectation.exactly.or(expectation.at_least).unwrap_or(1);
    let wanted = match expectation.exactly {
        Some(exactly) if exactly != found => format!("exactly {exactly}"),
        None if found < least => format!("at least {least}"),
        _ => return None,
    };
    let message =
        format!("{path}: {wanted} document(s) expected where {}, {found} found", words(&expectation.filter));
    let mut parts = Vec::new();
    let mut class = Class::Expectation;
    let documents = evidence.of_stream(&expectation.stream);
    // Where in the chain it vanished is known of the reader's alone.
    let of_reader = expectation.stream == EGRESS_STREAM;
    let missing = (found < least && of_reader).then(|| vanished(evidence, expectation, found));
    if let Some(missing) = &missing {
        if !missing.accounted && !matches!(missing.stage, Stage::Call | Stage::Filter) {
            class = Class::Lost;
        }
        parts.push(missing.to_string());
    }
    if found == 0 {
        let mut wanted = expectation.filter.clone();
        wanted.extend(expectation.fields.clone());
        if let Some(document) = nearest(documents, &wanted) {
            parts.push(format!("nearest document: {}\n{}", describe(document), diff(&wanted, document)));
        }
    }
    parts.push(match documents.len() {
        0 => "events seen: none of these agents".to_owned(),
        several if of_reader => format!("events seen ({several}):\n{}", list(documents.iter())),
        several => format!("documents seen ({several}):\n{}", whole(documents)),
    });
    let failure = evidence.failure(class, path, message, parts.join("\n"));
    Some((failure, missing.map(|missing| missing.stage)))
}

/// What a document that is meant says otherwise. That the case alone contradicts it does not make the
/// document wrong; the other oracles say so where it is.
fn compare(
    evidence: &Evidence<'_>,
    path: &str,
    expectation: &DocumentExpectation,
    document: &Value,
) -> Option<Failure> {
    let wrong = wrong(&expectation.fields, document);
    if wrong.is_empty() {
        return None;
    }
    let differences: Vec<String> = wrong
        .iter()
        .map(|(name, value)| format!("{name} is {}, not {value}", attribute(document, name)))
        .collect();
    let message = format!("{path}: {} of {}", differences.join(", "), describe(document));
    let detail = [carets(evidence, path, &wrong, document), diff(&expectation.fields, document)].join("\n");
    Some(Failure { class: Class::Expectation, message, detail })
}

/// Whether a document is meant by an expectation, and is as it says.
pub(super) fn agrees(expectation: &DocumentExpectation, document: &Value) -> bool {
    matches(document, &expectation.filter) && matches(document, &expectation.fields)
}

/// Whether a document has every value of a filter.
pub(crate) fn matches(document: &Value, filter: &BTreeMap<String, Value>) -> bool {
    filter.iter().all(|(name, value)| equal(attribute(document, name), value))
}

/// Documents of other streams, a line each, as they are.
fn whole(documents: &[Value]) -> String {
    let lines = documents.iter().take(MOST).map(|document| format!("    {}", document["attributes"]));
    lines.collect::<Vec<_>>().join("\n")
}

fn words(fields: &BTreeMap<String, Value>) -> String {
    if fields.is_empty() {
        return "anything goes".to_owned();
    }
    fields.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}
