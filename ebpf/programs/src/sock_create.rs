//! `cgroup/sock_create`: only known kinds of socket are made, and each is owned from birth.

use abi::{Flow, Hook, Reason, Verdict};
use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid},
    macros::cgroup_sock,
    programs::SockContext,
};
use policy::socket_permitted;

use crate::{admit::deny, context, facts, flow, maps::CONTAINERS};

#[cgroup_sock(sock_create)]
pub fn sock_create(ctx: SockContext) -> i32 {
    let identity = context::identity();
    let cgroup_id = identity.cgroup_id;
    // SAFETY: the context is valid for the program's run.
    let (family, kind, protocol) = unsafe { ((*ctx.sock).family, (*ctx.sock).type_, (*ctx.sock).protocol) };
    // Under bypass any socket is made: what it sends is recorded by the gate.
    if cgroup_id != 0
        && (socket_permitted(family, kind, protocol, kinds(cgroup_id))
            || facts::bypass_epoch(cgroup_id, facts::now()) != 0)
    {
        return match context::sock_or_new(ctx.sock, identity) {
            Some(sock) => {
                context::note_caller(sock);
                1
            }
            None => 0,
        };
    }
    refuse(&ctx, cgroup_id, [family, kind, protocol]);
    0
}

/// Kinds of socket that the container's rules name.
#[inline(always)]
fn kinds(cgroup_id: u64) -> u32 {
    match CONTAINERS.get_ptr(cgroup_id) {
        // SAFETY: a live map value.
        Some(container) => unsafe { (*container).kinds },
        None => 0,
    }
}

/// Records a socket outside the allow-list.
#[inline(always)]
fn refuse(ctx: &SockContext, cgroup_id: u64, [family, kind, protocol]: [u32; 3]) {
    let reason = if cgroup_id == 0 { Reason::NotEnrolled } else { Reason::SocketKind };
    let flow = Flow {
        comm: bpf_get_current_comm().unwrap_or([0; abi::COMM_LEN]),
        pid: (bpf_get_current_pid_tgid() >> 32) as u32,
        uid: bpf_get_current_uid_gid() as u32,
        socket_family: family as u16,
        // Protocols above 255 (MPTCP, 262) do not fit the IP header's byte either; the socket's own
        // family and type tell them apart.
        l4_proto: protocol as u8,
        verdict: Verdict::Denied as u8,
        reason: reason as u8,
        socket_type: kind as u8,
        ..flow::attempt(Hook::SockCreate, facts::now(), cgroup_id, context::cookie(ctx.as_ptr()))
    };
    deny(&flow);
}
