//! Handing records to the ring.

use abi::{Flow, Record, fault};
use aya_ebpf::{
    bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::generated::bpf_ringbuf_query,
    maps::ring_buf::RingBufEntry,
};

use crate::{fold, ledger, maps::EVENTS};

/// `BPF_RB_AVAIL_DATA`: bytes not yet consumed.
const AVAIL_DATA: u64 = 0;
/// `BPF_RB_RING_SIZE`: bytes in all.
const RING_SIZE: u64 = 1;

/// Records an attempt that is over as it begins: a denial. Past its container's budget, or if the ring is full,
/// it is folded.
#[inline(always)]
pub fn record(flow: &Flow) {
    if fold::within_budget(flow)
        && let Some(mut slot) = reserve()
    {
        // SAFETY: a reference is valid to read.
        unsafe { fill(&mut slot, flow, flow.start_ns, 1) };
        ledger::submitted(flow.cgroup_id);
        submit(slot);
    } else {
        fold::fold(flow);
    }
}

/// Room for one record, or nothing if the ring is full.
#[inline(always)]
pub fn reserve() -> Option<RingBufEntry<Record>> {
    EVENTS.reserve(0)
}

/// Fills a reserved record straight from `flow`: the stack has no room for copies.
///
/// # Safety
/// `flow` is valid to read.
#[inline(always)]
pub unsafe fn fill(slot: &mut RingBufEntry<Record>, flow: *const Flow, end_ns: u64, event_count: u64) {
    let record = slot.as_mut_ptr();
    // SAFETY: the reservation is exactly one record, and every field is written before it is submitted.
    unsafe {
        (*record).end_ns = end_ns;
        (*record).event_count = event_count;
        core::ptr::copy_nonoverlapping(flow, &raw mut (*record).flow, 1);
        if crate::fault(fault::INTENDED_LOST) {
            (*record).flow.dst = (*record).flow.actual_dst;
            (*record).flow.dst_port = (*record).flow.actual_dst_port;
        }
        if crate::fault(fault::PORT_BYTE_ORDER) {
            (*record).flow.dst_port = (*record).flow.dst_port.swap_bytes();
        }
    }
}

/// Hands a filled record to the reader.
#[inline(always)]
pub fn submit(slot: RingBufEntry<Record>) {
    slot.submit(wakeup());
}

/// Wakes the reader when a quarter of the ring is waiting; below that the reader's own time-out
/// bounds the latency. Waking it for each record costs the hook tens of microseconds.
#[inline(always)]
fn wakeup() -> u64 {
    let ring = (&raw const EVENTS).cast_mut().cast();
    // SAFETY: a map pointer; the helper only reads its positions.
    let (waiting, size) =
        unsafe { (bpf_ringbuf_query(ring, AVAIL_DATA), bpf_ringbuf_query(ring, RING_SIZE)) };
    if waiting >= size / 4 { BPF_RB_FORCE_WAKEUP.into() } else { BPF_RB_NO_WAKEUP.into() }
}
