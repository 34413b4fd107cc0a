//! `sock_ops`: how a TCP connection went, and its bytes.

use abi::{Address, CloseReason, Flow, Sock, sock_flag, v4_mapped};
use aya_ebpf::{EbpfContext as _, bindings::bpf_sock_ops, macros::sock_ops, programs::SockOpsContext};

use crate::{context, facts, flow, inbound, maps::FLOWS};

/// `BPF_SOCK_OPS_*` operations.
const TCP_CONNECT_CB: u32 = 3;
const ACTIVE_ESTABLISHED_CB: u32 = 4;
const PASSIVE_ESTABLISHED_CB: u32 = 5;
const RTO_CB: u32 = 8;
const STATE_CB: u32 = 10;
/// `BPF_SOCK_OPS_RTO_CB_FLAG | BPF_SOCK_OPS_STATE_CB_FLAG`.
const CALLBACKS: i32 = 1 | 4;

/// `enum bpf_tcp_state`.
pub mod state {
    pub const SYN_SENT: u32 = 2;
    pub const FIN_WAIT1: u32 = 4;
    pub const CLOSE: u32 = 7;
    pub const LAST_ACK: u32 = 9;
    pub const LISTEN: u32 = 10;
    pub const CLOSING: u32 = 11;
}

/// An address of the context, each word read whole, as the verifier demands.
macro_rules! address {
    ($ops:ident, $v4:ident, $v6:ident) => {
        if (*$ops).family == policy::AF_INET {
            v4_mapped((*$ops).$v4.to_ne_bytes())
        } else {
            context::address([
                core::ptr::read_volatile(&raw const (*$ops).$v6[0]),
                core::ptr::read_volatile(&raw const (*$ops).$v6[1]),
                core::ptr::read_volatile(&raw const (*$ops).$v6[2]),
                core::ptr::read_volatile(&raw const (*$ops).$v6[3]),
            ])
        }
    };
}

#[sock_ops]
pub fn sock_ops(ctx: SockOpsContext) -> u32 {
    let op = ctx.op();
    if op == TCP_CONNECT_CB || op == PASSIVE_ESTABLISHED_CB {
        // Refused only if the kernel lacks the callbacks, which the floor has.
        let _ = ctx.set_cb_flags(CALLBACKS);
    } else if op != ACTIVE_ESTABLISHED_CB && op != RTO_CB && op != STATE_CB {
        return 1;
    }
    // SAFETY: the context is valid for the program's run; `sk` is checked against null below.
    let sk = unsafe { (*ctx.ops).__bindgen_anon_2.sk };
    if sk.is_null() {
        return 1;
    }
    let known = context::sock(sk);
    if op == PASSIVE_ESTABLISHED_CB && known.is_none() {
        inbound::accepted(ctx.as_ptr(), ctx.ops, sk);
        return 1;
    }
    let Some(sock) = known else { return 1 };
    // SAFETY: non-null socket storage, here and below.
    match op {
        TCP_CONNECT_CB => unsafe { (*sock).flags |= sock_flag::STARTED },
        // Passive, of a socket that we know: it connects, and both sides' SYNs crossed.
        ACTIVE_ESTABLISHED_CB | PASSIVE_ESTABLISHED_CB => unsafe { (*sock).flags |= sock_flag::ESTABLISHED },
        RTO_CB => {
            // args: retransmits, time-out, whether this was the last one.
            if ctx.arg(2) != 0 {
                unsafe { (*sock).flags |= sock_flag::TIMED_OUT };
            }
        }
        _ => {
            if ctx.arg(1) == state::CLOSE {
                close(ctx.ops, sock, ctx.arg(0));
            }
        }
    }
    1
}

/// The connection is over: every ending passes here exactly once.
#[inline(always)]
fn close(ops: *const bpf_sock_ops, sock: *mut Sock, from: u32) {
    // SAFETY: non-null socket storage.
    let key = unsafe { (*sock).key };
    let now = facts::now();
    if let Some(flow) = FLOWS.get_ptr_mut(&key) {
        // SAFETY: a live map value.
        unsafe {
            (*flow).bytes_out = acknowledged(ops, sock);
            (*flow).bytes_in = received(ops, sock);
            (*flow).packets_in = u64::from((*ops).segs_in);
            (*flow).packets_out = u64::from((*ops).segs_out);
            local(ops, flow);
        }
    }
    // SAFETY: as above.
    let (epoch, cgroup_id) = unsafe { ((*sock).bypass_epoch, (*sock).owner.cgroup_id) };
    let bypass_over = facts::bypass_over(epoch, cgroup_id);
    flow::end(&key, if bypass_over { CloseReason::BypassEnded } else { reason(ops, sock, from) }, now);
}

/// Payload the peer acknowledged. `bytes_acked` counts our SYN once it is acknowledged, and our FIN.
#[inline(always)]
unsafe fn acknowledged(ops: *const bpf_sock_ops, sock: *const Sock) -> u64 {
    // SAFETY: the caller's context and non-null socket storage.
    unsafe {
        let syn = (*sock).flags & sock_flag::ESTABLISHED != 0;
        (*ops).bytes_acked.saturating_sub(u64::from(syn) + u64::from(fin_acknowledged(ops, sock)))
    }
}

/// Payload received in order. `bytes_received` counts the peer's FIN once it is in order.
#[inline(always)]
unsafe fn received(ops: *const bpf_sock_ops, sock: *const Sock) -> u64 {
    // SAFETY: the caller's context and non-null socket storage.
    unsafe { (*ops).bytes_received.saturating_sub(u64::from(fin_received(ops, sock))) }
}

/// The peer has our FIN. The state alone does not tell: a FIN that waits behind a closed window is not
/// sent, and everything sent may be acknowledged.
#[inline(always)]
unsafe fn fin_acknowledged(ops: *const bpf_sock_ops, sock: *const Sock) -> bool {
    // SAFETY: the caller's context and non-null socket storage.
    unsafe { (*sock).flags & sock_flag::FIN_OUT != 0 && (*ops).snd_una == (*sock).fin_out_end }
}

/// We have the peer's FIN, and all before it.
#[inline(always)]
unsafe fn fin_received(ops: *const bpf_sock_ops, sock: *const Sock) -> bool {
    // SAFETY: the caller's context and non-null socket storage.
    unsafe { (*sock).flags & sock_flag::FIN_IN != 0 && (*ops).rcv_nxt == (*sock).fin_end }
}

/// The container's own address, which the kernel chose after `connect` was decided.
#[inline(always)]
pub unsafe fn local(ops: *const bpf_sock_ops, flow: *mut Flow) {
    // SAFETY: the caller's context and a live map value, or a flow of the caller's.
    unsafe {
        (*flow).src = address!(ops, local_ip4, local_ip6);
        (*flow).src_port = (*ops).local_port as u16;
    }
}

/// The peer's address.
#[inline(always)]
pub unsafe fn remote(ops: *const bpf_sock_ops) -> Address {
    // SAFETY: the caller's context.
    unsafe { address!(ops, remote_ip4, remote_ip6) }
}

/// Why it ended, from the state it left and what was seen on the way.
#[inline(always)]
fn reason(ops: *const bpf_sock_ops, sock: *const Sock, from: u32) -> CloseReason {
    // SAFETY: the caller's context and non-null socket storage.
    let (flags, sent, got) = unsafe { ((*sock).flags, fin_acknowledged(ops, sock), fin_received(ops, sock)) };
    let reset = flags & sock_flag::RST_IN != 0;
    let released = flags & sock_flag::RELEASED != 0;
    // Before anything else: a reset that the kernel did not believe changes nothing about this.
    if sent && got {
        return CloseReason::Closed;
    }
    if flags & sock_flag::TIMED_OUT != 0 {
        return CloseReason::Timeout;
    }
    if from == state::SYN_SENT {
        // Neither answered nor given up by this side: an ICMP error, which is a refusal too.
        return if released && !reset { CloseReason::Aborted } else { CloseReason::Refused };
    }
    if reset {
        return CloseReason::Reset;
    }
    // The peer need not have finished: a socket that is closed on both ways here waits for nobody.
    if sent { CloseReason::Closed } else { CloseReason::Aborted }
}
