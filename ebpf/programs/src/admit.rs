//! The one path from an attempt to its verdict, its counters and its state.

use abi::{CloseReason, Flow, FlowKey, Hook, Reason, Sock, TCP, Verdict, fault, flow_flag, sock_flag};
use aya_ebpf::bindings::BPF_NOEXIST;
use policy::{Decision, Destination, decide};

use crate::{
    emit,
    facts::{self, Kernel},
    flow, ledger,
    maps::{CONTAINERS, FLOWS},
};

/// `-EEXIST`, as the helpers return it.
const EEXIST: i32 = -17;

/// What the hook does next.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Admission {
    /// Fail the call, or drop the packet.
    Deny = 0,
    /// Let it pass.
    Pass = 1,
    /// Let it pass to `Sock::actual` instead.
    Redirect = 2,
}

/// Decides an attempt on `key`, which names the socket and what the container asked for. A known flow
/// passes as decided before; a new one is counted, recorded or remembered.
#[inline(never)]
pub fn admit(key: &FlowKey, sock: *mut Sock, cgroup_id: u64, hook: Hook) -> u64 {
    if sock.is_null() {
        return Admission::Deny as u64;
    }
    let dst = &Destination { addr: &key.remote, port: key.port, l4_proto: key.l4_proto };
    let now = facts::now();
    let bypass_epoch = facts::bypass_epoch(cgroup_id, now);

    if let Some(known) = FLOWS.get_ptr_mut(key) {
        // SAFETY: a live map value.
        unsafe {
            let waits = (*known).flags & flow_flag::ENDED != 0;
            let cut = waits && (*known).close_reason == CloseReason::BypassEnded as u8;
            if !cut && ((*known).bypass_epoch == 0 || (*known).bypass_epoch == bypass_epoch) {
                if waits && (*known).close_reason == CloseReason::Idle as u8 {
                    // Its record waits for room in the ring: it goes on.
                    (*known).flags &= !flow_flag::ENDED;
                    (*known).close_reason = CloseReason::None as u8;
                }
                (*known).last_ns = now;
                return if redirect(sock, known) {
                    Admission::Redirect as u64
                } else {
                    Admission::Pass as u64
                };
            }
        }
        // Permitted by a bypass that is over: that flow ends here, and this call is a new attempt.
        flow::end(key, CloseReason::BypassEnded, now);
    }

    let facts = Kernel { cgroup_id, now, bypass_epoch };
    let mut decision = if cgroup_id == 0 {
        Decision { verdict: Verdict::Denied, reason: Reason::NotEnrolled, to_resolver: false }
    } else if hook == Hook::Egress && key.l4_proto == TCP {
        // A connection goes where `connect` was told, or nowhere: this packet does not.
        Decision { verdict: Verdict::Denied, reason: Reason::NoRule, to_resolver: false }
    } else {
        decide(&facts, dst)
    };
    if decision.reason == Reason::Loopback {
        return Admission::Pass as u64;
    }
    if crate::fault(fault::VERDICT_FLIPPED) && decision.reason != Reason::Dns {
        decision.verdict = match decision.verdict {
            Verdict::Denied => Verdict::Allowed,
            _ => Verdict::Denied,
        };
    }

    let (domain, ambiguous) = facts.name(dst);
    let mut flow = flow::attempt(hook, now, cgroup_id, key.cookie);
    // SAFETY: non-null socket storage.
    (flow.comm, flow.pid, flow.uid) = unsafe { ((*sock).comm, (*sock).pid, (*sock).uid) };
    flow.bypass_epoch = bypass_epoch;
    flow.dst = key.remote;
    flow.actual_dst = key.remote;
    flow.dst_port = key.port;
    flow.actual_dst_port = key.port;
    flow.domain = domain;
    flow.generation = key.generation;
    flow.l4_proto = key.l4_proto;
    flow.verdict = decision.verdict as u8;
    flow.reason = decision.reason as u8;
    flow.flags = if ambiguous { flow_flag::AMBIGUOUS } else { 0 };
    if decision.to_resolver
        && let Some(container) = CONTAINERS.get_ptr(cgroup_id)
    {
        // SAFETY: a live map value.
        unsafe {
            let (addr, port) = facts::resolver(container, &key.remote);
            flow.actual_dst = *addr;
            flow.actual_dst_port = *port;
        }
    }

    if decision.verdict != Verdict::Denied && !open(key, &flow, sock) {
        flow.verdict = Verdict::Denied as u8;
        flow.reason = Reason::FlowTableFull as u8;
        flow.bypass_epoch = 0;
    }
    ledger::metric(&flow);
    if flow.verdict == Verdict::Denied as u8 {
        deny(&flow);
        return Admission::Deny as u64;
    }
    // The resolver itself, asked on its own address, needs no other.
    let elsewhere = flow.actual_dst_port != flow.dst_port || flow.actual_dst != flow.dst;
    if decision.to_resolver && elsewhere { Admission::Redirect as u64 } else { Admission::Pass as u64 }
}

/// Puts a flow into the table and the socket. False if there is no room for it.
#[inline(always)]
fn open(key: &FlowKey, flow: &Flow, sock: *mut Sock) -> bool {
    let quota = match CONTAINERS.get_ptr(flow.cgroup_id) {
        // SAFETY: a live map value.
        Some(container) => unsafe { (*container).flow_quota },
        None => 0,
    };
    if ledger::open_flows(flow.cgroup_id) >= quota {
        return false;
    }
    if FLOWS.insert(key, flow, BPF_NOEXIST.into()).is_err() {
        // A race with another thread on the same socket and destination is one flow: the loser's entry
        // exists. One that was cut, and waits for room in the ring, is another flow in this one's place.
        return match FLOWS.get_ptr(key) {
            // SAFETY: a live map value, and non-null socket storage.
            Some(other) => unsafe {
                redirect(sock, other);
                (*other).flags & flow_flag::ENDED == 0
                    || (*other).close_reason != CloseReason::BypassEnded as u8
            },
            None => false,
        };
    }
    ledger::opened(flow.cgroup_id);
    // SAFETY: non-null socket storage.
    unsafe {
        (*sock).key = *key;
        (*sock).bypass_epoch = flow.bypass_epoch;
        (*sock).opened = (*sock).opened.wrapping_add(1);
        redirect(sock, flow);
    }
    true
}

/// Notes in the socket where this flow's packets go instead of where they were meant to; false if
/// they go there. Of a socket that asks two name servers in turn, the one asked last counts.
///
/// # Safety
/// `sock` is non-null socket storage, and `flow` is valid to read.
#[inline(always)]
unsafe fn redirect(sock: *mut Sock, flow: *const Flow) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        if (*flow).actual_dst_port == (*flow).dst_port && (*flow).actual_dst == (*flow).dst {
            return false;
        }
        (*sock).intended = (*flow).dst;
        (*sock).intended_port = (*flow).dst_port;
        (*sock).actual = (*flow).actual_dst;
        (*sock).actual_port = (*flow).actual_dst_port;
        (*sock).flags |= sock_flag::REDIRECTED;
    }
    true
}

/// Counts and records a denied attempt.
#[inline(always)]
pub fn deny(flow: &Flow) {
    ledger::denied(flow.cgroup_id);
    emit::record(flow);
}
