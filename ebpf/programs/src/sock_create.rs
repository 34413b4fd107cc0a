//! `cgroup/sock_create`: only known kinds of socket are made, and each is owned from birth.

use abi::{CloseReason, Direction, Flow, Hook, Reason, Verdict};
use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid, generated::bpf_get_socket_cookie},
    macros::cgroup_sock,
    programs::SockContext,
};
use policy::socket_permitted;

use crate::{admit::deny, attribution, context, emit, ledger};

#[cgroup_sock(sock_create)]
pub fn sock_create(ctx: SockContext) -> i32 {
    let cgroup_id = context::cgroup_id();
    // SAFETY: the context is valid for the program's run.
    let (family, kind, protocol) = unsafe { ((*ctx.sock).family, (*ctx.sock).type_, (*ctx.sock).protocol) };
    if cgroup_id != 0 && socket_permitted(family, kind, protocol) {
        return match context::sock_or_new(ctx.sock, cgroup_id) {
            Some(sock) => {
                context::note_caller(sock);
                1
            }
            None => 0,
        };
    }
    refuse(&ctx, cgroup_id, [family, kind, protocol])
}

/// Records a socket outside the allow-list: denied, or made under bypass.
#[inline(always)]
fn refuse(ctx: &SockContext, cgroup_id: u64, [family, kind, protocol]: [u32; 3]) -> i32 {
    let now = attribution::now();
    let bypass_epoch = attribution::bypass_epoch(cgroup_id, now);
    let (verdict, reason) = if cgroup_id == 0 {
        (Verdict::Denied, Reason::NotEnrolled)
    } else if bypass_epoch != 0 {
        (Verdict::Bypassed, Reason::Bypass)
    } else {
        (Verdict::Denied, Reason::SocketKind)
    };
    let flow = Flow {
        start_ns: now,
        last_ns: now,
        cgroup_id,
        // SAFETY: the helper takes the context of this program type.
        cookie: unsafe { bpf_get_socket_cookie(ctx.as_ptr()) },
        bytes_in: 0,
        bytes_out: 0,
        packets_in: 0,
        packets_out: 0,
        bypass_epoch,
        dst: [0; 16],
        actual_dst: [0; 16],
        src: [0; 16],
        comm: bpf_get_current_comm().unwrap_or([0; abi::COMM_LEN]),
        pid: (bpf_get_current_pid_tgid() >> 32) as u32,
        uid: bpf_get_current_uid_gid() as u32,
        domain: 0,
        generation: 0,
        dst_port: 0,
        actual_dst_port: 0,
        src_port: 0,
        socket_family: family as u16,
        // Protocols above 255 (MPTCP, 262) do not fit the IP header's byte either; the socket's own
        // family and type tell them apart.
        l4_proto: protocol as u8,
        verdict: verdict as u8,
        reason: reason as u8,
        hook: Hook::SockCreate as u8,
        close_reason: CloseReason::None as u8,
        direction: Direction::Outbound as u8,
        flags: 0,
        socket_type: kind as u8,
    };
    ledger::metric(&flow);
    if verdict == Verdict::Denied {
        deny(&flow);
        return 0;
    }
    // It lives as long as this bypass: without storage the packet hook would not know it.
    let Some(sock) = context::sock_or_new(ctx.sock, cgroup_id) else { return 0 };
    // SAFETY: non-null socket storage.
    unsafe { (*sock).bypass_epoch = bypass_epoch };
    // Under bypass the socket itself is the attempt: opened and closed at once.
    ledger::opened(cgroup_id);
    ledger::closed(cgroup_id);
    match emit::reserve() {
        Some(mut slot) => {
            // SAFETY: a reference is valid to read.
            unsafe { emit::fill(&mut slot, &flow, now, 1) };
            ledger::submitted(cgroup_id, 1);
            emit::submit(slot);
        }
        None => ledger::ring_full(cgroup_id, 1),
    }
    1
}
