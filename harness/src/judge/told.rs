//! What the oracles had before them, for the report: the steps, and which documents an expectation
//! named together with their verdict. Judges nothing.

use std::collections::BTreeSet;

use abi::Verdict;
use serde_json::Value;

use super::{
    documents::agrees,
    evidence::{Evidence, Fired},
};
use crate::{
    actor::Action,
    event::{CallReport, StepReport},
    scenario::{
        Cell,
        types::{DocumentExpectation, Scenario, Step},
    },
    transport::{IpFamily, Position, Transport, written_families},
};

/// Bytes kept of each output stream of a program.
const MOST_OUTPUT: usize = 4096;

/// Every step of the case in order, with what came of those that were `fired`.
pub fn steps(cell: &Cell, fired: &[Fired], agents: &[&str]) -> Vec<StepReport> {
    cell.scenario
        .each_step()
        .map(|(path, step)| {
            let action = Action::of(step);
            let families = match &action {
                Some(Action::Socket(socket)) => IpFamily::of_socket(&socket.family).unwrap_or_default(),
                _ => &[],
            }
            .to_vec();
            let call = fired.iter().find(|fired| fired.path == path);
            StepReport {
                text: text(step),
                transport: action.as_ref().and_then(Transport::of),
                families,
                call: call.map(|fired| told(fired, agents)),
                path,
            }
        })
        .collect()
}

fn told(fired: &Fired, agents: &[&str]) -> CallReport {
    let report = &fired.report;
    CallReport {
        agent: agents.get(fired.agent).copied().unwrap_or_default().to_owned(),
        outcome: report.outcome.clone(),
        expected: fired.expected.clone(),
        detail: report.detail.clone(),
        dst: report.dst,
        src: report.src,
        sent: report.sent,
        received: report.received,
        stdout: beginning(&report.stdout),
        stderr: beginning(&report.stderr),
    }
}

fn beginning(text: &str) -> String {
    if text.len() <= MOST_OUTPUT {
        return text.to_owned();
    }
    format!("{}… ({} bytes)", &text[..text.floor_char_boundary(MOST_OUTPUT)], text.len())
}

/// Indexes of the documents that are as an expectation says, the verdict included.
pub fn asserted(evidence: &Evidence<'_>) -> Vec<usize> {
    let expectations = &evidence.cell.scenario.expect.documents;
    let named = |document: &Value| {
        expectations
            .iter()
            .filter(|one| one.exactly != Some(0))
            .any(|expectation| word(expectation, "verdict").is_some() && agrees(expectation, document))
    };
    (0..evidence.documents.len()).filter(|at| named(&evidence.documents[*at])).collect()
}

/// The places of the coverage table that the case's own text names: what would be covered if it ran.
pub fn declared(scenario: &Scenario) -> BTreeSet<Position> {
    let mut declared = BTreeSet::new();
    for expectation in scenario.expect.documents.iter().filter(|one| one.exactly != Some(0)) {
        let verdict = word(expectation, "verdict")
            .and_then(|word| Verdict::ALL.iter().find(|verdict| verdict.as_str() == word));
        let Some(&verdict) = verdict else { continue };
        for (_, step) in scenario.each_step() {
            let transport = Action::of(step).as_ref().and_then(Transport::of);
            let spoken = |transport: &Transport| {
                word(expectation, "l4_proto").is_none_or(|proto| transport.speaks(proto))
            };
            let Some(transport) = transport.filter(spoken) else { continue };
            declared.extend(written_families(step).into_iter().map(|family| Position {
                transport,
                family,
                verdict,
            }));
        }
    }
    declared
}

/// A word that an expectation names, in `where` or in `match`.
fn word<'e>(expectation: &'e DocumentExpectation, name: &str) -> Option<&'e str> {
    expectation.filter.get(name).or_else(|| expectation.fields.get(name))?.as_str()
}

/// What a step leaves unsaid, mostly: its agent's own cgroup, and a socket made in it.
const USUAL: [(&str, &str); 2] = [("cgroup", "own"), ("origin", "inside")];

/// A step as one line of YAML, without what it leaves at nothing or as usual.
fn text(step: &Step) -> String {
    match serde_json::to_value(step) {
        Ok(Value::Object(mut fields)) => {
            fields.retain(|name, _| !matches!(name.as_str(), "outcome" | "by"));
            let fields = fields.iter().filter(|(name, value)| says(name, value));
            fields.map(|(name, value)| format!("{name}: {}", flow(value))).collect::<Vec<_>>().join(", ")
        }
        // Every field of a step has a form in JSON.
        _ => String::new(),
    }
}

fn says(name: &str, value: &Value) -> bool {
    match value {
        Value::String(text) => !USUAL.contains(&(name, text)),
        Value::Null | Value::Bool(false) => false,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::Array(values) => !values.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(true) => true,
    }
}

/// YAML's flow style.
fn flow(value: &Value) -> String {
    let list = |parts: Vec<String>| parts.join(", ");
    match value {
        Value::Array(values) => format!("[{}]", list(values.iter().map(flow).collect())),
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(name, value)| says(name, value));
            format!("{{{}}}", list(fields.map(|(name, value)| format!("{name}: {}", flow(value))).collect()))
        }
        Value::String(text) if plain(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Whether text needs no quotes in flow style.
fn plain(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._/-".contains(c))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scenario(yaml: &Value) -> Scenario {
        serde_json::from_value(yaml.clone()).expect("a scenario")
    }

    #[test]
    fn a_step_is_one_line_of_yaml() {
        let step: Step = serde_json::from_value(json!({
            "send": {"to": "ntp.test:123", "bytes": 48}, "outcome": "EPERM"
        }))
        .expect("a step");
        assert_eq!(
            text(&step),
            "send: {bytes: 48, count: 1, family: v4, proto: udp, to: \"ntp.test:123\", via: sendto}"
        );
    }

    #[test]
    fn a_case_declares_what_its_steps_and_expectations_name() {
        let scenario = scenario(&json!({
            "name": "n",
            "steps": [
                {"send": {"to": "a.test:9", "family": "v6"}},
                {"connect": {"to": "[::ffff:198.51.100.7]:9"}},
                {"together": [{"socket": {"family": "inet6", "kind": "raw"}}, {"wait": "1s"}]},
            ],
            "expect": {"documents": [
                {"match": {"verdict": "DENIED", "l4_proto": "udp"}},
                {"where": {"verdict": "ALLOWED", "l4_proto": "tcp"}},
                {"where": {"verdict": "BYPASSED"}, "exactly": 0},
                {"where": {"reason": "dns"}},
            ]},
        }));
        let declared: Vec<String> = declared(&scenario).iter().map(ToString::to_string).collect();
        assert_eq!(
            declared,
            [
                "tcp/v4-mapped/ALLOWED",
                "udp/v6/DENIED",
                "raw/v6/ALLOWED",
                "raw/v6/DENIED",
                "raw/v4-mapped/ALLOWED",
                "raw/v4-mapped/DENIED",
            ]
        );
        let paths: Vec<String> = scenario.each_step().map(|(path, _)| path).collect();
        assert_eq!(paths, ["steps[0]", "steps[1]", "steps[2].together[0]", "steps[2].together[1]"]);
    }
}
