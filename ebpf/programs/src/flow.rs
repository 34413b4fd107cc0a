//! The life of a flow in the table: opened once, ended once, one record.

use abi::{CloseReason, FlowKey, flow_flag};

use crate::{emit, ledger, maps::FLOWS};

/// Marks a flow as ended, for the sweeper to emit. For a socket that is still in use: another thread's
/// datagram of this flow may be on its way, and is to be counted in it, not in an entry that is gone.
#[inline(always)]
pub fn leave(key: &FlowKey, reason: CloseReason, end_ns: u64) {
    let Some(flow) = FLOWS.get_ptr_mut(key) else { return };
    // SAFETY: a live map value.
    unsafe {
        if (*flow).flags & flow_flag::ENDED == 0 {
            (*flow).close_reason = reason as u8;
            (*flow).last_ns = end_ns;
            (*flow).flags |= flow_flag::ENDED;
        }
    }
}

/// Ends a flow and emits its record. Whoever removes the entry emits: never two records for one
/// flow. If the ring is full the flow stays, marked, for the sweeper: delayed, not lost.
///
/// Callers write the flow's final counts into the table before.
#[inline(always)]
pub fn end(key: &FlowKey, reason: CloseReason, end_ns: u64) {
    let Some(flow) = FLOWS.get_ptr_mut(key) else { return };
    // SAFETY: a live map value. It may be ended elsewhere at the same time, which the removal below decides.
    unsafe {
        if (*flow).flags & flow_flag::ENDED == 0 {
            (*flow).close_reason = reason as u8;
            (*flow).last_ns = end_ns;
        }
    }
    let Some(mut slot) = emit::reserve() else {
        // SAFETY: as above.
        unsafe { (*flow).flags |= flow_flag::ENDED };
        return;
    };
    // Read before the entry is removed, because a removed entry may be reused.
    // SAFETY: as above.
    let cgroup_id = unsafe {
        emit::fill(&mut slot, flow, (*flow).last_ns, 1);
        (*flow).cgroup_id
    };
    if FLOWS.remove(key).is_err() {
        slot.discard(0);
        return;
    }
    ledger::closed(cgroup_id);
    ledger::submitted(cgroup_id, 1);
    emit::submit(slot);
}
