//! The oracles: what the agent's own calls returned, the documents, the wire, the naive model and
//! the ledger. Each judges the same evidence on its own; they must not ask one another. Where the
//! model and a document disagree, `dispute` says by the others which of the two the wire bears out.

mod attribution;
mod caller;
mod calls;
mod difference;
mod dispute;
mod documents;
mod evidence;
mod leak;
mod ledger;
mod lost;
mod model;
mod names;
mod outcomes;
mod over_block;
#[cfg(test)]
mod sample;
mod servers;
mod telemetry;
mod times;
mod told;
mod vanished;
mod wire;

pub(crate) use documents::matches;
pub use evidence::{AgentEvidence, Control, Evidence, Fired, Output, Query, Window, attribute, before_port};
pub use model::steps as model_steps;
pub use told::{asserted, declared, steps as told_steps};

use crate::event::{Failure, ModelVerdict, Stage};

/// What the oracles found.
pub struct Judged {
    /// Every violated assertion, gravest first, steps before documents.
    pub failures: Vec<Failure>,
    /// What the model says of each destination.
    pub model: Vec<ModelVerdict>,
    /// The first stage at which an expected event vanished, where one did.
    pub stage: Option<Stage>,
}

/// Asks every oracle.
pub fn judge(evidence: &Evidence<'_>) -> Judged {
    let mut failures = outcomes::judge(evidence);
    let (documents, stage) = documents::judge(evidence);
    failures.extend(documents);
    failures.extend(telemetry::judge(evidence));
    failures.extend(servers::judge(evidence));
    failures.extend(attribution::judge(evidence));
    failures.extend(calls::judge(evidence));
    failures.extend(caller::judge(evidence));
    failures.extend(times::judge(evidence));
    failures.extend(names::judge(evidence));
    failures.extend(wire::judge(evidence));
    failures.extend(leak::judge(evidence));
    failures.extend(lost::judge(evidence));
    failures.extend(ledger::judge(evidence));
    let (disagreements, model) = model::judge(evidence);
    let blocked = over_block::judge(evidence);
    let disagreements = dispute::classify(disagreements, !blocked.is_empty());
    failures.extend(blocked);
    failures.extend(disagreements);
    failures.sort_by_key(|failure| std::cmp::Reverse(failure.class));
    Judged { failures, model, stage }
}
