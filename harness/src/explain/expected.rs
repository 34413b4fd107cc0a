//! What is expected, and what every cell is judged by besides.

use std::collections::BTreeMap;

use serde_json::Value;

use super::words::Paragraph;
use crate::scenario::{
    Cell,
    types::{
        DocumentExpectation, LedgerExpectation, Losses, LostExpectation, MetricExpectation, Step,
        WireExpectation,
    },
};

/// Adds both.
pub(super) fn tell(cell: &Cell, text: &mut Paragraph) {
    let expect = &cell.scenario.expect;
    for expected in &expect.documents {
        text.row("expected", &document(expected));
    }
    if expect.nothing_else {
        let aside = if cell.scenario.has_envoy() { "redirected DNS and telemetry" } else { "redirected DNS" };
        text.row("expected", &format!("no other document of these agents, {aside} aside"));
    }
    for expected in &expect.metrics {
        text.row("expected", &metric(expected));
    }
    if let Some(absent) = &expect.absent_everywhere {
        text.row(
            "expected",
            &format!("{absent:?} is in no document, in no series, on no disk between, and in no log"),
        );
    }
    for expected in &expect.wire {
        text.row("expected", &wire(expected));
    }
    for (emitter, count) in expect.lost.iter().flat_map(LostExpectation::each) {
        let whose = emitter.called();
        text.row("expected", &format!("{count} flow(s) that {whose} took and told nothing of"));
    }
    if expect.nothing_twice {
        text.row("expected", "no document is there twice");
    }
    text.row("besides", "every document, and whatever arrives, is judged by the naive model");
    text.row(
        "besides",
        "every document carries the labels of its owner, and the bytes that crossed the wire",
    );
    if expect.ledger == LedgerExpectation::Closed {
        text.row("besides", "the ledger closes: attempts = documents + losses + open flows");
        if expect.losses == Losses::None {
            text.row("besides", "there are no losses, accounted for or not");
        }
    }
    let mut denied: Vec<String> = Vec::new();
    for (index, step) in cell.scenario.steps.iter().enumerate() {
        let is_denial = |step: &Step| is_denial(cell, step);
        if is_denial(step) || step.together.iter().flatten().any(is_denial) {
            denied.push((index + 1).to_string());
        }
    }
    if !denied.is_empty() {
        let steps = if denied.len() == 1 { "step" } else { "steps" };
        let row = format!("control: {steps} {} again, not enforced, must arrive", denied.join(", "));
        text.row("besides", &row);
    }
}

/// A name that no host has resolves nowhere, enforced or not.
fn is_denial(cell: &Cell, step: &Step) -> bool {
    let host = step.resolve.as_ref().is_none_or(|name| cell.scenario.host(name).is_some());
    match step.outcome.as_deref() {
        Some("EPERM") => true,
        Some("NXDOMAIN" | "NODATA") => host,
        _ => false,
    }
}

fn document(expected: &DocumentExpectation) -> String {
    let count = match (expected.exactly, expected.at_least) {
        (Some(0), _) => "no document".to_owned(),
        (Some(1), _) => "exactly 1 document".to_owned(),
        (Some(count), _) => format!("exactly {count} documents"),
        (None, Some(count)) if count > 1 => format!("at least {count} documents"),
        (None, _) => "at least 1 document".to_owned(),
    };
    let filter = list(&expected.filter);
    let filter = if filter.is_empty() { "with anything".to_owned() } else { format!("with {filter}") };
    let fields = list(&expected.fields);
    let fields = if fields.is_empty() { String::new() } else { format!("\n  each says {fields}") };
    let indices =
        expected.at_least_indices.map(|least| format!(", in at least {least} indices")).unwrap_or_default();
    format!("{count} in {} {filter}{indices}{fields}", expected.stream)
}

fn metric(expected: &MetricExpectation) -> String {
    let labels: Vec<String> =
        expected.labels.iter().map(|(name, value)| format!("{name} = {value:?}")).collect();
    let labels = if labels.is_empty() { String::new() } else { format!(" with {}", labels.join(", ")) };
    let count = match expected.exactly {
        Some(0) => "no series".to_owned(),
        Some(1) | None => "one series".to_owned(),
        Some(count) => format!("{count} series"),
    };
    let value = expected.value.map(|value| format!(", of {value}")).unwrap_or_default();
    format!("{count} {}{labels}{value}", expected.series)
}

fn list(fields: &BTreeMap<String, Value>) -> String {
    fields.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join(", ")
}

fn wire(expected: &WireExpectation) -> String {
    let packets = match (expected.packets, expected.at_least) {
        (Some(0), _) => Some("no packet".to_owned()),
        (Some(1), _) => Some("exactly 1 packet".to_owned()),
        (Some(count), _) => Some(format!("exactly {count} packets")),
        (None, Some(1)) => Some("at least 1 packet".to_owned()),
        (None, Some(count)) => Some(format!("at least {count} packets")),
        (None, None) => None,
    };
    let bytes = expected.bytes.map(|bytes| format!("exactly {bytes} bytes of payload"));
    let what: Vec<String> = packets.into_iter().chain(bytes).collect();
    format!("the far side sees {} for {}", what.join(" and "), expected.to)
}
