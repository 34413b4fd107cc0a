//! `cgroup/sock_create`: only known kinds of socket are made, and each is owned from birth.

use abi::{Flow, Hook, Reason, Verdict};
use aya_ebpf::{
    EbpfContext as _,
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
        generated::bpf_get_socket_cookie,
    },
    macros::cgroup_sock,
    programs::SockContext,
};
use policy::socket_permitted;

use crate::{admit::deny, context, emit, facts, flow, ledger};

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
    let now = facts::now();
    let bypass_epoch = facts::bypass_epoch(cgroup_id, now);
    // SAFETY: the helper takes the context of this program type.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    let (verdict, reason) = if cgroup_id == 0 {
        (Verdict::Denied, Reason::NotEnrolled)
    } else if bypass_epoch != 0 {
        (Verdict::Bypassed, Reason::Bypass)
    } else {
        (Verdict::Denied, Reason::SocketKind)
    };
    let flow = Flow {
        bypass_epoch,
        comm: bpf_get_current_comm().unwrap_or([0; abi::COMM_LEN]),
        pid: (bpf_get_current_pid_tgid() >> 32) as u32,
        uid: bpf_get_current_uid_gid() as u32,
        socket_family: family as u16,
        // Protocols above 255 (MPTCP, 262) do not fit the IP header's byte either; the socket's own
        // family and type tell them apart.
        l4_proto: protocol as u8,
        verdict: verdict as u8,
        reason: reason as u8,
        socket_type: kind as u8,
        ..flow::attempt(Hook::SockCreate, now, cgroup_id, cookie)
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
    emit::record(&flow);
    1
}
