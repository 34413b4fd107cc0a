//! What a well-formed scenario can still get wrong.
//!
//! Each check says the path of the value it is about; the outline of the file knows where that is.

pub(crate) mod agents;
mod application;
mod expect;
mod fault;
mod hosts;
mod needs;
mod reach;
pub(crate) mod rules;
pub(crate) mod steps;
mod transport;

use crate::scenario::{
    cell::printable,
    diagnostic::Diagnostic,
    outline::{Outline, Place},
    source::SourceFile,
    types::Scenario,
};

/// Every fault of an expanded scenario, in the order of the checks.
pub(crate) fn validate(source: &SourceFile, outline: &Outline, scenario: &Scenario) -> Vec<Diagnostic> {
    let mut check = Check { source, outline, scenario, faults: Vec::new() };
    if scenario.name.trim().is_empty() {
        check.fault("name", "a scenario needs a name: what it claims, in one line");
    }
    if scenario.gap.is_some_and(|gap| !(1..=11).contains(&gap)) {
        check.fault("gap", "`gap` is a number of the tracker, from 1 to 11");
    }
    needs::check(&mut check);
    agents::check(&mut check);
    hosts::check(&mut check);
    rules::check(&mut check, "rules", &scenario.rules);
    steps::check(&mut check);
    fault::ring(&mut check);
    expect::check(&mut check);
    check.faults
}

/// What the checks share.
struct Check<'a> {
    source: &'a SourceFile,
    outline: &'a Outline,
    scenario: &'a Scenario,
    faults: Vec<Diagnostic>,
}

impl<'a> Check<'a> {
    /// A fault of the value at `path`.
    fn fault(&mut self, path: &str, message: impl Into<String>) -> &mut Diagnostic {
        self.push(self.outline.value(path), message.into())
    }

    /// A fault of the key at `path`.
    fn fault_of_key(&mut self, path: &str, message: impl Into<String>) -> &mut Diagnostic {
        self.push(self.outline.key(path), message.into())
    }

    fn push(&mut self, place: Option<Place>, message: String) -> &mut Diagnostic {
        let fault = self.source.diagnose(place.unwrap_or(Place::START), message);
        self.faults.push(fault);
        let last = self.faults.len() - 1;
        &mut self.faults[last]
    }

    /// Whether the file itself has something at `path`; a default is not in the file.
    fn is_written(&self, path: &str) -> bool {
        self.outline.has(path)
    }

    /// The scenario's host of that name; DNS does not tell upper from lower case.
    fn is_host(&self, name: &str) -> bool {
        self.scenario.host(name).is_some()
    }

    /// A fault where `name` is no host of this file.
    fn require_host(&mut self, path: &str, name: &str) {
        if !self.is_host(name) {
            let names: Vec<String> = self.scenario.hosts.keys().cloned().collect();
            let message = format!("`{}` is not a host of this scenario", printable(name));
            self.fault(path, message).suggest(name, names);
        }
    }
}
