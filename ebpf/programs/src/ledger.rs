//! Counting, before the ring is tried. Only atomic adds: counters are shared by all CPUs.

use core::mem::offset_of;

use abi::{FOLD_QUOTA, Flow, HOOKS, Ledger, MetricKey};

use crate::{
    atomic,
    maps::{LEDGER, METRICS},
};

/// A denied attempt.
#[inline(always)]
pub fn denied(cgroup_id: u64) {
    count(cgroup_id, offset_of!(Ledger, denied), 1);
}

/// A flow that was let through, in counts of [`of`].
#[inline(always)]
pub fn opened(counts: *mut Ledger) {
    // SAFETY: a live map value.
    unsafe { atomic::add(&raw mut (*counts).opened, 1) };
}

/// A flow that ended and left the table.
#[inline(always)]
pub fn closed(cgroup_id: u64) {
    count(cgroup_id, offset_of!(Ledger, closed), 1);
}

/// A record handed to the ring.
#[inline(always)]
pub fn submitted(cgroup_id: u64) {
    count(cgroup_id, offset_of!(Ledger, submitted), 1);
}

/// A denied attempt that is counted instead of recorded.
#[inline(always)]
pub fn folded(cgroup_id: u64) {
    count(cgroup_id, offset_of!(Ledger, folded), 1);
}

/// One that found no room in `folds` either.
#[inline(always)]
pub fn overflow(cgroup_id: u64, hook: u8) {
    if (hook as usize) < HOOKS {
        count(cgroup_id, offset_of!(Ledger, overflow) + hook as usize * size_of::<u64>(), 1);
    }
}

/// An entry in `folds`.
#[inline(always)]
pub fn fold_key(cgroup_id: u64) {
    count(cgroup_id, offset_of!(Ledger, fold_keys), 1);
}

/// Entries that this container made in `folds`; may lag behind other CPUs by a few.
#[inline(always)]
pub fn fold_keys(cgroup_id: u64) -> u64 {
    match of(cgroup_id) {
        // SAFETY: a live map value; a whole-word read.
        Some(ledger) => unsafe { core::ptr::read_volatile(&raw const (*ledger).fold_keys) },
        None => FOLD_QUOTA,
    }
}

/// Adds to the counter that lies at `offset` in the container's ledger.
#[inline(always)]
fn count(cgroup_id: u64, offset: usize, amount: u64) {
    if let Some(ledger) = of(cgroup_id) {
        // SAFETY: a live map value, and `offset` is that of one of its 8-byte fields.
        unsafe { atomic::add(ledger.byte_add(offset).cast(), amount) };
    }
}

/// The container's counters. Whoever has none is counted under 0, which always exists.
#[inline(always)]
pub fn of(cgroup_id: u64) -> Option<*mut Ledger> {
    LEDGER.get_ptr_mut(cgroup_id).or_else(|| LEDGER.get_ptr_mut(0))
}

/// Flows that a container has open by its counts of [`of`]; may lag behind other CPUs by a few.
#[inline(always)]
pub fn open_flows(counts: *const Ledger) -> u64 {
    // SAFETY: a live map value; whole-word reads. A flow is counted after it is in the table, and may
    // have ended by then, so the difference can be negative for a moment.
    unsafe {
        let closed = core::ptr::read_volatile(&raw const (*counts).closed);
        core::ptr::read_volatile(&raw const (*counts).opened).saturating_sub(closed)
    }
}

/// The debugging counter of an attempt: of a denied one at once, of a flow when it ends, since an agent waits for
/// its `connect` and not for that.
#[inline(always)]
pub fn metric(flow: &Flow) {
    let key = MetricKey {
        cgroup_id: flow.cgroup_id,
        domain: flow.domain,
        port: flow.dst_port,
        l4_proto: flow.l4_proto,
        verdict: flow.verdict,
    };
    match METRICS.get_ptr_mut(key) {
        // SAFETY: a live map value.
        Some(count) => unsafe { atomic::add(count, 1) },
        None => {
            // Losing a race here loses one count of a surface that evicts anyway.
            let _ = METRICS.insert(key, 1, 0);
        }
    }
}
