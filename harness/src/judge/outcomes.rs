//! What the agent's own calls returned, and whether the denied ones would have arrived.

use std::net::SocketAddr;

use super::evidence::{Evidence, Fired, Output};
use crate::{
    actor::{Action, Report},
    event::{Class, Failure},
    transport::Transport,
};

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
        }
        failures.extend(output(evidence, fired));
    }
    failures.extend(control(evidence));
    failures
}

/// What a program must have said and did not.
fn output(evidence: &Evidence<'_>, fired: &Fired) -> Vec<Failure> {
    let path = &fired.path;
    let failure = |(name, wanted): (&str, &str)| {
        let message = format!("{path}: the program's {name} does not contain {wanted:?}");
        evidence.failure(Class::Trigger, &format!("{path}.exec.{name}"), message, detail(fired))
    };
    unsaid(&fired.output, &fired.report).map(failure).collect()
}

/// Streams that lack their text, and the text.
fn unsaid<'a>(output: &'a Output, report: &'a Report) -> impl Iterator<Item = (&'static str, &'a str)> {
    let streams = [("stdout", &output.stdout, &report.stdout), ("stderr", &output.stderr, &report.stderr)];
    streams.into_iter().filter_map(|(name, wanted, said)| {
        wanted.as_deref().filter(|wanted| !said.contains(wanted)).map(|wanted| (name, wanted))
    })
}

/// A program that succeeds is `ok` and `exit 0`.
pub(super) fn same(outcome: &str, expected: &str) -> bool {
    let plain = |text: &str| if text == "exit 0" { "ok".to_owned() } else { text.to_ascii_lowercase() };
    plain(outcome) == plain(expected)
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
        let denied = matches!(fired.report.outcome.as_str(), "EPERM" | "NXDOMAIN" | "NODATA");
        let action = evidence.cell.step(&fired.path).and_then(Action::of);
        let transport = action.as_ref().and_then(Transport::of);
        let unreached = fired.report.dst.filter(|dst| {
            let address = dst.ip().to_canonical();
            // What has no ports is counted by address.
            let dst = match dst.port() {
                0 => address.to_string(),
                port => SocketAddr::new(address, port).to_string(),
            };
            !control.wire.counts.iter().any(|count| {
                let meant = transport.is_none_or(|transport| transport.carries(&count.l4_proto));
                meant && count.packets > 0 && count.dst == dst
            })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stream_must_say_its_own_text() {
        let said = |text: &str| Some(text.to_owned());
        let report = Report { stdout: "200 OK".to_owned(), stderr: "slow".to_owned(), ..Report::default() };
        let unsaid = |stdout, stderr| -> Vec<_> {
            let output = Output { stdout, stderr };
            unsaid(&output, &report).map(|(name, wanted)| format!("{name} {wanted}")).collect()
        };
        assert_eq!(unsaid(None, None), Vec::<String>::new());
        assert_eq!(unsaid(said("200"), said("slow")), Vec::<String>::new());
        assert_eq!(unsaid(said("slow"), said("200")), ["stdout slow", "stderr 200"]);
        assert_eq!(unsaid(said("404"), None), ["stdout 404"]);
    }
}
