//! What tests in the lab share: a machine that has none is a reason, not a pass.

use harness::{
    event::Tier,
    lab::{Availability, available},
};
use libtest_mimic::{Completion, Failed, Trial};

/// A test that needs the lab, and is told of it; ignored, and why, where there is none.
pub fn trial(
    name: impl Into<String>,
    check: impl FnOnce(Availability) -> Result<(), Failed> + Send + 'static,
) -> Trial {
    Trial::ignorable_test(name, move || {
        let availability = available();
        if availability.tier < Tier::Lab {
            return Ok(Completion::Ignored { reason: Some(availability.reason) });
        }
        check(availability).map(|()| Completion::Completed)
    })
}
