//! What the machine must have.

use super::Check;
use crate::scenario::{cell::printable, needs, types::Need};

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
}
