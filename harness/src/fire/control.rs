//! The control of every denial: the same trigger in a world that is not enforced.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use super::{FireError, act::act, cell::agents};
use crate::{
    actor::Action,
    judge::{AgentEvidence, Control, Fired},
    scenario::{
        Cell,
        types::{End, Exec, Step},
    },
    wire::WireSummary,
    world::World,
};

/// How long a packet may take from the agent's call to the capture.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(2);
/// Between looks at the wire.
const LOOK: Duration = Duration::from_millis(5);

/// Runs the denied steps again, not enforced. `None` if none was denied: a case that records no
/// denial (`recorded`) shows what the kernel itself refuses, and a name that no host of the case has
/// resolves nowhere.
pub(super) fn control(
    cell: &Cell,
    id: &str,
    fired: &[Fired],
    containers: &[AgentEvidence],
    recorded: bool,
) -> Result<Option<Control>, FireError> {
    let is_denial = |fired: &&Fired| match fired.expected.as_str() {
        "EPERM" => recorded,
        "NXDOMAIN" | "NODATA" => cell.step(&fired.path).is_some_and(|step| names_host(cell, step)),
        _ => false,
    };
    let denied: Vec<&Fired> = fired.iter().filter(is_denial).collect();
    if denied.is_empty() {
        return Ok(None);
    }
    let world = World::new(&format!("{id}-control"), &cell.scenario.hosts, &agents(cell))?;
    let mut again = Vec::new();
    for fired in denied {
        let (Some(step), Some(container)) = (cell.step(&fired.path), containers.get(fired.agent)) else {
            continue;
        };
        let mut step = step.clone();
        // What is proven is that the trigger arrives, not how it goes on.
        if let Some(connect) = &mut step.connect {
            connect.pause = None;
            connect.receive = 0;
            connect.end = End::Reset;
        }
        if let Some(send) = &mut step.send {
            send.receive = 0;
            send.pause = None;
        }
        if let Some(flood) = &mut step.flood {
            (flood.count, flood.length) = (Some(1), None);
        }
        if let Some(ping) = &mut step.ping {
            ping.receive = 0;
        }
        if let Some(quic) = &mut step.quic {
            quic.receive = 0;
        }
        if let Some(http3) = &mut step.http3 {
            http3.receive = 0;
        }
        if let Some(Exec { stdout, .. }) = &mut step.exec {
            *stdout = None;
        }
        if let Some(action) = Action::of(&step) {
            again.push(act(&world, container.room, &fired.path, &step, &action)?);
        }
    }
    Ok(Some(Control { wire: arrived(&world, &again), fired: again }))
}

/// The wire once everything that was sent is there, or is not coming: a busy machine hands a packet over
/// after the process that sent it has ended.
fn arrived(world: &World, fired: &[Fired]) -> WireSummary {
    let deadline = Instant::now() + ARRIVAL_LIMIT;
    loop {
        let wire = world.wire();
        let is_missing = |dst: SocketAddr| {
            let dst = SocketAddr::new(dst.ip().to_canonical(), dst.port()).to_string();
            !wire.counts.iter().any(|count| count.dst == dst)
        };
        let sent = fired.iter().filter(|fired| fired.report.outcome == "ok");
        let mut expected = sent.filter_map(|fired| fired.report.dst);
        if !expected.any(is_missing) || Instant::now() >= deadline {
            return wire;
        }
        thread::sleep(LOOK);
    }
}

/// Whether a step names a host of the case.
fn names_host(cell: &Cell, step: &Step) -> bool {
    let to = step
        .connect
        .as_ref()
        .map(|connect| &connect.to)
        .or(step.send.as_ref().map(|send| &send.to))
        .or(step.flood.as_ref().map(|flood| &flood.to))
        .or(step.ping.as_ref().map(|ping| &ping.to))
        .or(step.resolve.as_ref())
        .map(String::as_str)
        .or(step.application().map(|application| application.to));
    to.is_some_and(|to| cell.scenario.host(to.split(':').next().unwrap_or_default()).is_some())
}
