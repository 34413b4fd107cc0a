//! The life of a flow in the table: opened once, ended once, one record.

use abi::{Address, CloseReason, Direction, Flow, FlowKey, Hook, Sock, flow_flag};

use crate::{emit, facts, ledger, maps::FLOWS};

/// What `hook` knows of every attempt before anything is decided: when, of whom, on which socket.
/// All else is zero, and the verdict has yet to be written.
#[inline(always)]
pub fn attempt(hook: Hook, now: u64, cgroup_id: u64, cookie: u64) -> Flow {
    let zero = opaque_zero();
    // SAFETY: both are 16 bytes without padding.
    let none = unsafe { core::mem::transmute::<[u64; 2], Address>([zero, zero]) };
    Flow {
        start_ns: now,
        last_ns: now,
        cgroup_id,
        cookie,
        bytes_in: zero,
        bytes_out: zero,
        packets_in: zero,
        packets_out: zero,
        bypass_epoch: zero,
        dst: none,
        actual_dst: none,
        src: none,
        comm: none,
        pid: 0,
        uid: 0,
        domain: 0,
        generation: 0,
        dst_port: 0,
        actual_dst_port: 0,
        src_port: 0,
        socket_family: 0,
        l4_proto: 0,
        verdict: 0,
        reason: zero as u8,
        hook: hook as u8,
        close_reason: CloseReason::None as u8,
        direction: Direction::Outbound as u8,
        flags: zero as u8,
        socket_type: 0,
    }
}

/// Zero, which the compiler does not know to be. Constant zeroes in a row become a call of memset, and
/// on Linux 5.10 one more call below `egress` and `admit` is more stack than there is.
#[inline(always)]
fn opaque_zero() -> u64 {
    static ZERO: u64 = 0;
    // SAFETY: a plain read of this object's read-only data.
    unsafe { core::ptr::read_volatile(&raw const ZERO) }
}

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
    // SAFETY: filled above, and ours until it is submitted.
    ledger::metric(unsafe { &(*slot.as_mut_ptr()).flow });
    ledger::submitted(cgroup_id);
    emit::submit(slot);
}

/// Whether the connection of this socket was permitted by a bypass that is over.
#[inline(always)]
pub fn bypass_over(sock: *const Sock) -> bool {
    // SAFETY: non-null socket storage.
    let (epoch, cgroup_id) = unsafe { ((*sock).bypass_epoch, (*sock).owner.cgroup_id) };
    facts::bypass_over(epoch, cgroup_id)
}

/// Whether a flow was permitted by a bypass that is over.
#[inline(always)]
pub fn of_bypass_over(flow: *const Flow) -> bool {
    // SAFETY: a live map value.
    let (epoch, cgroup_id) = unsafe { ((*flow).bypass_epoch, (*flow).cgroup_id) };
    facts::bypass_over(epoch, cgroup_id)
}

/// Whether the next datagram of a flow needs a decision of its own: the flow idled out, or was permitted
/// by a bypass that is over. One that its socket has left still takes the datagrams that were on their way.
#[inline(always)]
pub fn over(flow: *const Flow) -> bool {
    // SAFETY: a live map value.
    let (reason, flags) = unsafe { ((*flow).close_reason, (*flow).flags) };
    flags & flow_flag::ENDED != 0 && reason != CloseReason::Closed as u8 || of_bypass_over(flow)
}
