//! Connections that a peer opened and the container accepted: flows too, so that its answers pass the
//! gate and are recorded.

use core::ffi::c_void;

use abi::{Direction, FlowKey, Hook, Reason, TCP, Verdict, sock_flag};
use aya_ebpf::bindings::{bpf_sock, bpf_sock_ops};
use policy::is_loopback;

use crate::{
    admit::{deny, open},
    context, facts, flow,
    maps::CONTAINERS,
    sock_ops,
};

/// A connection stands. Nobody can be refused here any more: one that finds no room in the flow table is
/// denied by the gate, which finds no flow of it.
#[inline(always)]
pub fn accepted(ctx: *mut c_void, ops: *const bpf_sock_ops, sk: *mut bpf_sock) {
    let identity = context::identity();
    let cgroup_id = identity.cgroup_id;
    // SAFETY: the caller's context.
    let peer = unsafe { sock_ops::remote(ops) };
    if is_loopback(&peer) {
        return;
    }
    let Some(sock) = context::sock_or_new(sk, identity) else { return };
    // Its close is still to come when it is released. Of its SYN, nothing was counted.
    // SAFETY: non-null socket storage.
    unsafe { (*sock).flags |= sock_flag::STARTED };
    let now = facts::now();
    let bypass_epoch = facts::bypass_epoch(cgroup_id, now);
    let cookie = context::cookie(ctx);
    // SAFETY: the caller's context. The peer's port is in network order, in the upper half of the word on
    // little-endian machines.
    let port = unsafe { u32::from_be((*ops).remote_port) as u16 };
    // SAFETY: non-null socket storage.
    let generation = unsafe { (*sock).generation };
    let key = FlowKey { cookie, remote: peer, generation, port, l4_proto: TCP, pad: 0 };
    let mut flow = flow::attempt(Hook::SockOps, now, cgroup_id, cookie);
    flow.bypass_epoch = bypass_epoch;
    (flow.dst, flow.actual_dst) = (peer, peer);
    (flow.dst_port, flow.actual_dst_port) = (port, port);
    flow.generation = generation;
    flow.l4_proto = TCP;
    flow.verdict = if bypass_epoch == 0 { Verdict::Allowed } else { Verdict::Bypassed } as u8;
    flow.reason = if bypass_epoch == 0 { Reason::Inbound } else { Reason::Bypass } as u8;
    flow.direction = Direction::Inbound as u8;
    // SAFETY: the caller's context and a flow of ours.
    unsafe { sock_ops::local(ops, &raw mut flow) };
    if cgroup_id == 0 || !open(&key, &flow, sock, facts::flow_quota(CONTAINERS.get_ptr(cgroup_id))) {
        flow.verdict = Verdict::Denied as u8;
        flow.reason = if cgroup_id == 0 { Reason::NotEnrolled } else { Reason::FlowTableFull } as u8;
        flow.bypass_epoch = 0;
        deny(&flow);
        // SAFETY: non-null socket storage. Its packets are denied too, and that is no other attempt.
        unsafe {
            (*sock).denied = peer;
            (*sock).denied_port = port;
        }
    }
}
