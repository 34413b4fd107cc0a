//! The one path from an attempt to its verdict, its counters and its state.

use abi::{
    Address, CloseReason, Flow, FlowKey, Hook, ICMP, ICMPV6, Reason, Sock, TCP, UDP, Verdict, fault,
    flow_flag, sock_flag,
};
use aya_ebpf::bindings::BPF_NOEXIST;
use policy::{Decision, Destination, Route, decide, is_v4};

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

/// What is asked about.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Asked {
    /// A call that names its destination.
    Call = 0,
    /// A packet that goes where its socket's last redirect, or nothing, sent it.
    Packet = 1,
    /// A packet that does not go where its socket's flow was decided to go.
    Astray = 2,
    /// A packet of a socket that was connected before the container was enrolled.
    PreEnrolment = 3,
    /// A packet that a process made itself: of a socket that is made under bypass only.
    Raw = 4,
}

/// An attempt that a hook sees.
#[derive(Clone, Copy)]
pub struct Attempt {
    /// Whose.
    pub cgroup_id: u64,
    /// When, nanoseconds since boot. Read once for each attempt: that costs as much as a look-up.
    pub now: u64,
    /// Where.
    pub hook: Hook,
    /// What is asked about it.
    pub asked: Asked,
}

/// Decides an attempt on `key`, which names the socket and what the container asked for. A known flow
/// passes as decided before; a new one is counted, recorded or remembered.
#[inline(never)]
pub fn admit(key: &FlowKey, sock: *mut Sock, attempt: &Attempt) -> u64 {
    if sock.is_null() {
        return Admission::Deny as u64;
    }
    let &Attempt { cgroup_id, now, hook, asked } = attempt;
    let bypass_epoch = facts::bypass_epoch(cgroup_id, now);

    // A connect is a new generation of its socket, and no flow has its key.
    if hook != Hook::Connect
        && asked != Asked::Astray
        && let Some(known) = FLOWS.get_ptr_mut(key)
    {
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
                return if aim(sock, known) { Admission::Redirect as u64 } else { Admission::Pass as u64 };
            }
        }
        // Permitted by a bypass that is over: that flow ends here, and this call is a new attempt.
        flow::end(key, CloseReason::BypassEnded, now);
    }

    let mut flow = flow::attempt(hook, now, cgroup_id, key.cookie);
    // SAFETY: non-null socket storage.
    (flow.comm, flow.pid, flow.uid) = unsafe { ((*sock).comm, (*sock).pid, (*sock).uid) };
    flow.bypass_epoch = bypass_epoch;
    flow.dst = key.remote;
    flow.actual_dst = key.remote;
    flow.dst_port = key.port;
    flow.actual_dst_port = key.port;
    flow.generation = key.generation;
    flow.l4_proto = key.l4_proto;
    if hook == Hook::Egress {
        flow.flags |= flow_flag::GATED;
    }
    let quota = judge(&mut flow, asked);
    if flow.reason == Reason::Loopback as u8 {
        return Admission::Pass as u64;
    }
    if crate::fault(fault::ICMP_UNRECORDED) && matches!(key.l4_proto, ICMP | ICMPV6) {
        return u64::from(flow.verdict != Verdict::Denied as u8);
    }
    // The resolver itself, asked on its own address, needs no other.
    let elsewhere = flow.actual_dst_port != flow.dst_port || flow.actual_dst != flow.dst;
    // A packet cannot be sent elsewhere: it goes there already, or nowhere.
    // SAFETY: non-null socket storage.
    if elsewhere && hook == Hook::Egress && unsafe { !aimed(sock, &flow) } {
        flow.verdict = Verdict::Denied as u8;
        flow.reason = Reason::DestinationMismatch as u8;
        flow.actual_dst = flow.dst;
        flow.actual_dst_port = flow.dst_port;
    }

    if flow.verdict != Verdict::Denied as u8 && !open(key, &flow, sock, quota) {
        flow.verdict = Verdict::Denied as u8;
        flow.reason = Reason::FlowTableFull as u8;
        flow.bypass_epoch = 0;
    }
    if flow.verdict == Verdict::Denied as u8 {
        deny(&flow);
        return Admission::Deny as u64;
    }
    if elsewhere { Admission::Redirect as u64 } else { Admission::Pass as u64 }
}

/// Writes the verdict on a flow into it, the names that led to it, and where it is sent. A call of its own, for the
/// stack it takes. Returns how many flows the container may have open, since its settings are looked up here.
#[inline(never)]
fn judge(flow: &mut Flow, asked: Asked) -> u64 {
    let names = facts::names(flow);
    if let Some(names) = names {
        // SAFETY: a live map value.
        unsafe {
            flow.domain = (*names).latest;
            if (*names).names[1].domain != 0 {
                flow.flags |= flow_flag::AMBIGUOUS;
            }
        }
    }
    let container = CONTAINERS.get_ptr(flow.cgroup_id);
    let facts = Kernel { flow, names, container };
    let dst = &Destination { addr: &flow.dst, port: flow.dst_port, l4_proto: flow.l4_proto };
    let bypassed = flow.bypass_epoch != 0;
    let mut decision = if flow.cgroup_id == 0 {
        Decision::denied(Reason::NotEnrolled)
    } else if !bypassed && asked == Asked::Astray {
        Decision::denied(Reason::DestinationMismatch)
    } else if !bypassed && asked == Asked::PreEnrolment {
        Decision::denied(Reason::PreEnrolment)
    } else if !bypassed && asked == Asked::Raw {
        Decision::denied(Reason::NoFlow)
    } else {
        decide(&facts, dst)
    };
    let by_packet = flow.flags & flow_flag::GATED != 0;
    if by_packet && decision.reason == Reason::NoRule && !ruled_by_packet(flow.l4_proto) {
        decision.reason = Reason::NoFlow;
    }
    if crate::fault(fault::VERDICT_FLIPPED) && !matches!(decision.reason, Reason::Dns | Reason::Loopback) {
        decision.verdict = match decision.verdict {
            Verdict::Denied => Verdict::Allowed,
            _ => Verdict::Denied,
        };
    }
    flow.verdict = decision.verdict as u8;
    flow.reason = decision.reason as u8;
    if decision.route != Route::Direct
        && let Some(container) = container
    {
        // SAFETY: a live map value.
        unsafe {
            let (addr, port) = match decision.route {
                Route::Proxy if is_v4(&flow.dst) || (*container).proxy6 == [0; 16] => {
                    (&raw const (*container).proxy, decision.listener)
                }
                Route::Proxy => (&raw const (*container).proxy6, decision.listener),
                _ => {
                    let (addr, port) = facts::resolver(container, &flow.dst);
                    (addr, *port)
                }
            };
            flow.actual_dst = by_words(addr);
            flow.actual_dst_port = port;
        }
    }
    facts::flow_quota(container)
}

/// An address as two words: by bytes it would be copied by a call of memmove.
///
/// # Safety
/// `addr` is valid to read, and lies at a multiple of 8.
#[inline(always)]
unsafe fn by_words(addr: *const Address) -> Address {
    // SAFETY: the caller's promise; both are 16 bytes without padding.
    unsafe {
        let words = addr.cast::<u64>();
        let words = [core::ptr::read_volatile(words), core::ptr::read_volatile(words.add(1))];
        core::mem::transmute::<[u64; 2], Address>(words)
    }
}

/// Transports whose packets a rule can permit where no call was decided.
const fn ruled_by_packet(l4_proto: u8) -> bool {
    matches!(l4_proto, UDP | ICMP | ICMPV6)
}

/// Puts a flow into the table and the socket. False if there is no room for it, or the container has `quota` open.
#[inline(always)]
pub fn open(key: &FlowKey, flow: &Flow, sock: *mut Sock, quota: u64) -> bool {
    let Some(counts) = ledger::of(flow.cgroup_id) else { return false };
    if ledger::open_flows(counts) >= quota {
        return false;
    }
    if FLOWS.insert(key, flow, BPF_NOEXIST.into()).is_err() {
        // A race with another thread on the same socket and destination is one flow: the loser's entry
        // exists. One that was cut, and waits for room in the ring, is another flow in this one's place.
        return match FLOWS.get_ptr(key) {
            // SAFETY: a live map value, and non-null socket storage.
            Some(other) => unsafe {
                aim(sock, other);
                (*other).flags & flow_flag::ENDED == 0
                    || (*other).close_reason != CloseReason::BypassEnded as u8
            },
            None => false,
        };
    }
    ledger::opened(counts);
    // SAFETY: non-null socket storage.
    unsafe {
        (*sock).key = *key;
        (*sock).bypass_epoch = flow.bypass_epoch;
        (*sock).opened = (*sock).opened.wrapping_add(1);
        aim(sock, flow);
    }
    true
}

/// Notes in the socket where this flow's packets go; true if that is not where they were meant to. Of a
/// socket that asks two name servers in turn, the one asked last counts.
///
/// # Safety
/// `sock` is non-null socket storage, and `flow` is valid to read.
#[inline(always)]
unsafe fn aim(sock: *mut Sock, flow: *const Flow) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let elsewhere = (*flow).actual_dst_port != (*flow).dst_port || (*flow).actual_dst != (*flow).dst;
        if elsewhere {
            (*sock).intended = (*flow).dst;
            (*sock).intended_port = (*flow).dst_port;
            (*sock).flags |= sock_flag::REDIRECTED;
        }
        // A connection has one destination, which the gate holds its packets to.
        if elsewhere || (*flow).l4_proto == TCP {
            (*sock).actual = (*flow).actual_dst;
            (*sock).actual_port = (*flow).actual_dst_port;
        }
        elsewhere
    }
}

/// Whether the socket's packets go where this flow is sent.
///
/// # Safety
/// As for [`aim`].
#[inline(always)]
unsafe fn aimed(sock: *const Sock, flow: &Flow) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        (*sock).flags & sock_flag::REDIRECTED != 0
            && (*sock).actual_port == flow.actual_dst_port
            && (*sock).actual == flow.actual_dst
            && (*sock).intended_port == flow.dst_port
            && (*sock).intended == flow.dst
    }
}

/// Counts and records a denied attempt.
#[inline(always)]
pub fn deny(flow: &Flow) {
    ledger::denied(flow.cgroup_id);
    ledger::metric(flow);
    emit::record(flow);
}
