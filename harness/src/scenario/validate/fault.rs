//! Faults of the chain, and what puts a load on it.

use super::{Check, steps::target, transport::of_family};
use crate::scenario::types::{Disturbance, Flood, Outage, Process, Rollover, Step, Stopped};

/// Least bytes of a ring: a page.
const LEAST_RING: u32 = 4096;
/// Most: more shows nothing more.
const LARGEST_RING: u32 = 64 << 20;
/// Most kills of one step.
const MOST_KILLS: u32 = 1000;
/// Most rollovers of one step: each makes an index.
const MOST_ROLLOVERS: u32 = 20;

/// The kernel takes no other sizes.
pub(super) fn ring(check: &mut Check<'_>) {
    let Some(bytes) = check.scenario.ring else { return };
    if !bytes.is_power_of_two() || !(LEAST_RING..=LARGEST_RING).contains(&bytes) {
        let message = format!("a ring has a power of two of bytes, from {LEAST_RING} to {LARGEST_RING}");
        check.fault("ring", message);
    }
}

pub(super) fn check(check: &mut Check<'_>, path: &str, step: &Step) {
    match step.disturbance() {
        Some(Disturbance::Kill(kill)) if kill.times == 0 || kill.times > MOST_KILLS => {
            check.fault(&format!("{path}.kill"), format!("a step kills from 1 to {MOST_KILLS} times"));
        }
        Some(Disturbance::Kill(kill)) if kill.times > 1 && kill.within.is_zero() => {
            check.fault(&format!("{path}.kill"), "this time cannot be zero");
        }
        Some(Disturbance::Rollover(Rollover { times, .. })) if times == 0 || times > MOST_ROLLOVERS => {
            let message = format!("a stream goes on in another index from 1 to {MOST_ROLLOVERS} times");
            check.fault(&format!("{path}.rollover"), message);
        }
        Some(Disturbance::Rollover(rollover)) if rollover.times > 1 && rollover.within.is_zero() => {
            check.fault(&format!("{path}.rollover"), "this time cannot be zero");
        }
        Some(Disturbance::Restart(Process::Coredns)) => has_coredns(check, &format!("{path}.restart")),
        Some(Disturbance::Restart(Process::Envoy)) => has_envoy(check, &format!("{path}.restart")),
        Some(Disturbance::Stop(outage)) if outage.length.is_zero() => {
            check.fault(&format!("{path}.stop"), "this time cannot be zero");
        }
        Some(Disturbance::Stop(Outage { part: Stopped::Coredns, .. })) => {
            has_coredns(check, &format!("{path}.stop"));
        }
        Some(Disturbance::Stop(Outage { part: Stopped::Envoy, .. })) => {
            has_envoy(check, &format!("{path}.stop"));
        }
        _ => {}
    }
}

fn has_coredns(check: &mut Check<'_>, path: &str) {
    if !check.scenario.has_coredns() {
        check.fault(path, "CoreDNS is not part of this case").help =
            Some("add `resolver: {server: coredns}` to the scenario".to_owned());
    }
}

fn has_envoy(check: &mut Check<'_>, path: &str) {
    if !check.scenario.has_envoy() {
        check.fault(path, "the proxy of this case is not Envoy").help =
            Some("add `proxy: {server: envoy}` to the scenario".to_owned());
    }
}

pub(super) fn flood(check: &mut Check<'_>, path: &str, flood: &Flood) {
    let Flood { to, family, ports, rate, count, length, .. } = flood;
    target(check, &format!("{path}.to"), to);
    of_family(check, path, to, *family);
    let first = to.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    if *ports == 0 || first.is_some_and(|first| first.checked_add(ports - 1).is_none()) {
        check.fault(&format!("{path}.ports"), "from the port of `to` on, there are not as many");
    }
    for (field, number) in [("rate", rate), ("count", count)] {
        if *number == Some(0) {
            check.fault(&format!("{path}.{field}"), "no attempt is nothing to test");
        }
    }
    match (count, length) {
        (Some(_), Some(_)) => {
            check.fault_of_key(&format!("{path}.for"), "`count` and `for` exclude each other");
        }
        (None, None) => {
            check.fault(path, "this flood has no end").help =
                Some("add `count: 1000`, or `for: 2s`".to_owned());
        }
        (None, Some(length)) if length.is_zero() => {
            check.fault(&format!("{path}.for"), "this time cannot be zero");
        }
        _ => {}
    }
}
