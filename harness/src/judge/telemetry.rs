//! Series of agents' counters against the expectations, and texts that must be nowhere.

use super::evidence::Evidence;
use crate::{
    event::{Class, Failure},
    plane::Series,
    scenario::types::MetricExpectation,
};

/// Most places or series that a failure shows.
const MOST: usize = 5;

pub fn judge(evidence: &Evidence<'_>) -> Vec<Failure> {
    let expect = &evidence.cell.scenario.expect;
    let metrics = expect.metrics.iter().enumerate();
    let mut failures: Vec<Failure> =
        metrics.filter_map(|(index, expected)| metric(evidence, index, expected)).collect();
    if let Some(text) = expect.absent_everywhere.as_ref().filter(|_| !evidence.places.is_empty()) {
        let message = format!("{text:?} must be nowhere, and is in {} place(s)", evidence.places.len());
        let shown: Vec<String> =
            evidence.places.iter().take(MOST).map(|place| format!("    {place}")).collect();
        let path = "expect.absent_everywhere";
        failures.push(evidence.failure(Class::MisRecord, path, message, shown.join("\n")));
    }
    failures
}

fn metric(evidence: &Evidence<'_>, index: usize, expected: &MetricExpectation) -> Option<Failure> {
    let path = format!("expect.metrics[{index}]");
    let named: Vec<&Series> = evidence
        .series
        .iter()
        .filter(|series| series.labels.get("__name__") == Some(&expected.series))
        .collect();
    // A label that a series has not is the empty one.
    let has = |series: &Series| {
        let label = |name: &String| series.labels.get(name).map_or("", String::as_str);
        expected.labels.iter().all(|(name, value)| label(name) == value)
    };
    let meant: Vec<&&Series> = named.iter().filter(|series| has(series)).collect();
    let message = match (meant.as_slice(), expected.exactly, expected.value) {
        (_, Some(exactly), _) if meant.len() as u64 == exactly => return None,
        (_, Some(exactly), _) => format!("exactly {exactly} series expected, {} found", meant.len()),
        ([_], None, None) => return None,
        // As it is written: both are read from text.
        ([one], None, Some(value)) if one.value == value => return None,
        ([one], None, Some(value)) => format!("it is {}, not {value}", one.value),
        (several, None, _) => format!("one series expected, {} found", several.len()),
    };
    let seen = if named.is_empty() { evidence.series.iter().collect() } else { named };
    let seen: Vec<String> =
        seen.iter().take(MOST).map(|series| format!("    {:?} {}", series.labels, series.value)).collect();
    let detail = if seen.is_empty() {
        "series seen: none of these agents".to_owned()
    } else {
        format!("series seen:\n{}", seen.join("\n"))
    };
    let message = format!("{path}: {}: {message}", expected.series);
    Some(evidence.failure(Class::Expectation, &path, message, detail))
}
