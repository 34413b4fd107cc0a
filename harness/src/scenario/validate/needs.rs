//! What the machine must have.

use super::Check;
use crate::scenario::{
    cell::printable,
    needs::{self, Requirement},
    types::Need,
};

pub(super) fn check(check: &mut Check<'_>) {
    for (i, need) in check.scenario.needs.iter().enumerate() {
        match need {
            Need::Kernel(text) => {
                if let Err(unknown) = need.requirement() {
                    let message = needs::UnknownRequirement(printable(&unknown.0)).to_string();
                    let fault = check.fault(&format!("needs[{i}]"), message);
                    fault.suggest(text, needs::words());
                    if fault.help.is_none() {
                        fault.help = Some("for a program write `{program: nmap}`".to_owned());
                    }
                }
            }
            Need::Program(needed) => {
                if needed.program.is_empty() || needed.program.contains(['/', '\0']) {
                    check.fault(
                        &format!("needs[{i}].program"),
                        "a program is named without its folder: it is looked for in PATH",
                    );
                }
            }
        }
    }
    excluding(check);
}

/// A cell that no kernel can run is skipped everywhere, and never missed.
fn excluding(check: &mut Check<'_>) {
    let read = |need: &Need| need.requirement().ok();
    let needs = &check.scenario.needs;
    for (i, need) in needs.iter().enumerate() {
        let Some(mine) = read(need) else { continue };
        let excludes = |other: &Requirement| match (&mine, other) {
            (Requirement::Since(since), Requirement::Before(before))
            | (Requirement::Before(before), Requirement::Since(since)) => since >= before,
            _ => false,
        };
        if let Some(other) = needs.iter().take(i).filter_map(read).find(excludes) {
            let message =
                format!("no kernel is both `{other}` and `{mine}`, so this would always be skipped");
            check.fault(&format!("needs[{i}]"), message);
        }
    }
}
