//! The oracles: what the agent's own calls returned, the documents, the wire, the naive model and
//! the ledger. Each judges the same evidence on its own; they must not ask one another.

mod attribution;
mod documents;
mod evidence;
mod leak;
mod ledger;
mod model;
mod outcomes;
mod wire;

pub use evidence::{AgentEvidence, Control, Evidence, Fired, Output, Window, attribute};
pub use model::steps as model_steps;

use crate::event::{Failure, ModelVerdict};

/// Every violated assertion, gravest first, and what the model says of each destination.
pub fn judge(evidence: &Evidence<'_>) -> (Vec<Failure>, Vec<ModelVerdict>) {
    let mut failures = outcomes::judge(evidence);
    failures.extend(documents::judge(evidence));
    failures.extend(attribution::judge(evidence));
    failures.extend(wire::judge(evidence));
    failures.extend(leak::judge(evidence));
    failures.extend(ledger::judge(evidence));
    let (disagreements, verdicts) = model::judge(evidence);
    failures.extend(disagreements);
    failures.sort_by_key(|failure| std::cmp::Reverse(failure.class));
    (failures, verdicts)
}
