//! What the agent's own calls returned, and whether the denied ones would have arrived.

use std::net::SocketAddr;

use super::evidence::{Evidence, Fired};
use crate::event::{Class, Failure};

/// Compares every step with what the case says; every denial with its control.
pub fn judge(evidence: &Evidence<'_>) -> Vec<Failure> {
    let mut failures = Vec::new();
    for fired in &evidence.fired {
        if !same(&fired.report.outcome, &fired.expected) {
            let path = format!("{}.outcome", fired.path);
            let message = format!(
                "{}: the call ended with {}, not {}",
                fired.path, fired.report.outcome, fired.expected
            );
            failures.push(evidence.failure(Class::Trigger, &path, message, detail(fired)));
        } else if let Some(text) = unsaid(evidence, fired) {
            let path = format!("{}.exec.stdout", fired.path);
            let message = format!("{}: standard output does not contain {text:?}", fired.path);
            failures.push(evidence.failure(Class::Trigger, &path, message, detail(fired)));
        }
    }
    failures.extend(control(evidence));
    failures
}

/// A program that succeeds is `ok` and `exit 0`.
fn same(outcome: &str, expected: &str) -> bool {
    let plain = |text: &str| if text == "exit 0" { "ok".to_owned() } else { text.to_ascii_lowercase() };
    plain(outcome) == plain(expected)
}

/// The text that a program should have said and did not.
fn unsaid<'a>(evidence: &'a Evidence<'_>, fired: &Fired) -> Option<&'a str> {
    let text = evidence.cell.step(&fired.path)?.exec.as_ref()?.stdout.as_deref()?;
    (!fired.report.stdout.contains(text)).then_some(text)
}

fn detail(fired: &Fired) -> String {
    let report = &fired.report;
    let mut lines = Vec::new();
    if !report.detail.is_empty() {
        lines.push(report.detail.clone());
    }
    for (name, text) in [("stdout", &report.stdout), ("stderr", &report.stderr)] {
        if !text.is_empty() {
            lines.push(format!("{name}: {}", text.trim_end()));
        }
    }
    lines.join("\n")
}

/// EPERM or silence proves nothing if the trigger cannot arrive at all.
fn control(evidence: &Evidence<'_>) -> Vec<Failure> {
    let Some(control) = &evidence.control else { return Vec::new() };
    let mut failures = Vec::new();
    for fired in &control.fired {
        let denied = matches!(fired.report.outcome.as_str(), "EPERM" | "NXDOMAIN");
        let unreached = fired.report.dst.filter(|dst| {
            let dst = SocketAddr::new(dst.ip().to_canonical(), dst.port()).to_string();
            !control.wire.counts.iter().any(|count| count.packets > 0 && count.dst == dst)
        });
        if denied {
            let message = format!(
                "{}: not enforced, the call still ended with {}, so its denial proves nothing",
                fired.path, fired.report.outcome
            );
            failures.push(evidence.failure(Class::Trigger, &fired.path, message, detail(fired)));
        } else if let Some(dst) = unreached {
            let message = format!(
                "{}: not enforced, nothing arrived at {dst} either, so its denial proves nothing",
                fired.path
            );
            failures.push(evidence.failure(Class::Trigger, &fired.path, message, detail(fired)));
        }
    }
    failures
}
