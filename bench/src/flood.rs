//! A flood of denied attempts beside a quiet container: everything is counted, and nothing of the quiet one is lost.

use std::{thread, time::Duration};

use crate::{
    caller::{Call, Caller, SERVED, UNLISTED},
    chain::Chain,
    endpoint::Endpoint,
    place::Place,
    reader_process::{ReaderProcess, To},
};

/// Flows of the quiet container.
pub const QUIET: u32 = 1000;

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// Attempts of the flood.
    pub attempts: u64,
    /// Those that neither a document nor a loss tells of; negative: told of twice.
    pub residual: f64,
    /// Records of the quiet container's flows that reached the ring; where the residual is 0, all were acknowledged.
    pub quiet: u64,
    /// Documents in all.
    pub documents: u64,
}

/// Floods.
///
/// # Errors
/// If something does not come up, or does not come to rest.
pub fn run(attempts: u32) -> anyhow::Result<Flood> {
    let place = Place::named("flood")?;
    let chain = Chain::load()?;
    let [(loud, _), (quiet, _)] = [place.cgroup("loud")?, place.cgroup("quiet")?];
    let (loud_id, quiet_id) = (chain.enrol(&loud, 10)?, chain.enrol(&quiet, 10)?);
    let endpoint = Endpoint::start()?;
    let reader = ReaderProcess::start(&chain, &To::Endpoint(&endpoint), 1 << 20)?;
    let (mut loud, mut quiet) = (Caller::start(&loud)?, Caller::start(&quiet)?);
    thread::scope(|scope| {
        let flood = scope.spawn(|| loud.call(Call::Connect, UNLISTED, attempts, Duration::ZERO).map(drop));
        let flows = quiet.call(Call::Tcp, SERVED, QUIET, Duration::from_millis(1)).map(drop);
        flood.join().unwrap_or_else(|_| anyhow::bail!("the flood panicked")).and(flows)
    })?;
    chain.sweep()?;
    let [of_loud, of_quiet] = [chain.manager.ledger(loud_id)?, chain.manager.ledger(quiet_id)?];
    let told = of_loud.denied + of_quiet.closed;
    reader.reaches("records_exported_total", told)?;
    let exported = reader.metric("records_exported_total")?;
    let documents = endpoint.documents();
    Ok(Flood {
        attempts: of_loud.denied,
        residual: f64::from(attempts + QUIET) - exported as f64,
        // Neither denied nor folded: each has a record, and nothing was lost.
        quiet: of_quiet.submitted.min(of_quiet.closed),
        documents,
    })
}
