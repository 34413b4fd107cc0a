//! What an endpoint says, cut to what is fit to be logged.

use emitter::with_causes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use tonic::Status;

/// Characters of the endpoint's text that are logged.
const MESSAGE: usize = 512;

/// What an endpoint's answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How many of the records it rejects, for good.
    pub rejected: u64,
    /// Its words, cut.
    pub message: String,
}

impl Answer {
    /// Of a request of `sent` records; what cannot be is taken as far as it can.
    pub fn of(response: &ExportLogsServiceResponse, sent: u64) -> Self {
        let partial = response.partial_success.as_ref();
        let rejected = partial.map_or(0, |partial| partial.rejected_log_records);
        Self {
            rejected: u64::try_from(rejected).unwrap_or(0).min(sent),
            message: partial.map_or_else(String::new, |partial| shortened(&partial.error_message)),
        }
    }
}

/// What a person needs of a failure: the code, the endpoint's words, and what lies beneath them.
pub(super) fn cause(status: &Status) -> String {
    with_causes(format!("{:?}: {}", status.code(), shortened(status.message())), status)
}

fn shortened(text: &str) -> String {
    text.chars().take(MESSAGE).collect()
}
