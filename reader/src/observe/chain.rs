//! Errors for people: one line with every cause.

use std::error::Error;

/// An error and what lies beneath it.
pub(crate) fn chain(error: &dyn Error) -> String {
    with_causes(error.to_string(), error)
}

/// `text`, which tells of `error`, and every layer beneath it that says something new: layers often
/// repeat each other.
pub(crate) fn with_causes(mut text: String, error: &dyn Error) -> String {
    let mut beneath = error.source();
    while let Some(error) = beneath {
        let layer = error.to_string();
        if !text.contains(&layer) {
            text.push_str(": ");
            text.push_str(&layer);
        }
        beneath = error.source();
    }
    text
}
