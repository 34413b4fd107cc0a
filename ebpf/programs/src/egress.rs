//! `cgroup_skb/egress`: the gate. A packet leaves only as part of a flow that was decided, to where it
//! was decided to go; what no socket hook saw is decided here. Counts datagrams, and sees our FIN.

use abi::{Flow, Hook, ICMP, ICMPV6, Identity, Sock, TCP, sock_flag};
use aya_ebpf::{bindings::bpf_sock, macros::cgroup_skb, programs::SkBuffContext};
use policy::is_loopback;

use crate::{
    admit::{Admission, Asked, Attempt, admit},
    atomic::add,
    context, facts, flow, kernel,
    maps::FLOWS,
    packet::{Packet, SOCK_RAW, Way, is_tcp, read, socket},
    sock_ops::state,
};

#[cgroup_skb]
pub fn egress(ctx: SkBuffContext) -> i32 {
    let Some(sk) = socket(&ctx) else { return 1 };
    let mut packet = Packet::default();
    if !read(&ctx, Way::Out, &mut packet) {
        return 0;
    }
    // SAFETY: `sk` is a full socket.
    let (tcp, raw, at) = unsafe { (is_tcp(sk), (*sk).type_ == SOCK_RAW, (*sk).state) };
    let identity = context::identity();
    let known = context::sock(sk).filter(|sock| context::owned(*sock, identity));
    if packet.l4_proto == TCP && tcp {
        if let Some(sock) = known
            && !packet.astray()
            && connected_to(sock, &packet)
        {
            // A FIN leaves in no other state; what is sent before needs no look at its header.
            if matches!(at, state::FIN_WAIT1 | state::LAST_ACK | state::CLOSING) {
                packet.note_flags(&ctx, sock, Way::Out);
            }
            return i32::from(!flow::bypass_over(sock));
        }
        // The handshake of a connection that a peer opens; once it stands, `sock_ops` makes it a flow.
        if at == state::LISTEN || is_loopback(&packet.remote) && !packet.astray() {
            return 1;
        }
    }
    // No process has one that `sock_create` was not asked for, but from before the enrolment.
    if raw && known.is_none() && !packet.astray() && kernel::speaks(&ctx, &packet, identity.cgroup_id) != 0 {
        return 1;
    }
    gate(&ctx, sk, known, identity, &packet, raw)
}

/// Whether that is where the socket's connection was decided to go.
#[inline(always)]
fn connected_to(sock: *const Sock, packet: &Packet) -> bool {
    // SAFETY: non-null socket storage.
    unsafe { (*sock).actual_port == packet.port && packet.port != 0 && (*sock).actual == packet.remote }
}

/// A packet leaves as part of a flow in the table. A socket whose flow is over, by idling or with a
/// bypass, or that never had one, asks here, because no socket hook will see its next send.
#[inline(always)]
fn gate(
    ctx: &SkBuffContext,
    sk: *mut bpf_sock,
    known: Option<*mut Sock>,
    identity: Identity,
    packet: &Packet,
    raw: bool,
) -> i32 {
    let cgroup_id = identity.cgroup_id;
    let sock = match known {
        Some(sock) => sock,
        None => {
            let Some(sock) = context::sock_or_new(sk, identity) else { return 0 };
            // An unconnected ping socket asks nobody before its packets come here, whenever it was made.
            if !matches!(packet.l4_proto, ICMP | ICMPV6) {
                // SAFETY: non-null socket storage.
                unsafe { (*sock).flags |= sock_flag::PRE_ENROLMENT };
            }
            sock
        }
    };
    let key = packet.flow_key(ctx, sock);
    let found = match FLOWS.get_ptr_mut(&key) {
        Some(flow) if !packet.astray() && !flow::over(flow) => Some(flow),
        _ => {
            let tcp = packet.l4_proto == TCP;
            // TCP sends again what was denied, and that is not another attempt.
            if tcp && denied_before(sock, packet, cgroup_id) {
                return 0;
            }
            let asked = asked(sock, packet, raw);
            let attempt = Attempt { cgroup_id, now: facts::now(), hook: Hook::Egress, asked };
            let admission = admit(&key, sock, &attempt);
            if admission == Admission::Deny as u64 {
                if tcp {
                    // SAFETY: non-null socket storage.
                    unsafe {
                        (*sock).denied = packet.remote;
                        (*sock).denied_port = packet.port;
                    }
                }
                return 0;
            }
            FLOWS.get_ptr_mut(&key)
        }
    };
    if let Some(flow) = found {
        count(ctx, packet, flow);
    }
    1
}

/// What is asked of the matrix about a packet without a flow.
#[inline(always)]
fn asked(sock: *const Sock, packet: &Packet, raw: bool) -> Asked {
    // SAFETY: non-null socket storage.
    let pre_enrolment = unsafe { (*sock).flags } & sock_flag::PRE_ENROLMENT != 0;
    if pre_enrolment && !packet.astray() {
        Asked::PreEnrolment
    } else if raw {
        Asked::Raw
    } else if packet.astray() || packet.l4_proto == TCP {
        Asked::Astray
    } else {
        Asked::Packet
    }
}

/// Whether a segment that goes there was denied before, and bypass is still off.
#[inline(always)]
fn denied_before(sock: *const Sock, packet: &Packet, cgroup_id: u64) -> bool {
    // SAFETY: non-null socket storage.
    let same = unsafe { (*sock).denied_port == packet.port && (*sock).denied == packet.remote };
    same && facts::bypass_epoch(cgroup_id, facts::now()) == 0
}

/// Counts a packet in its flow. A call of its own, for the stack it takes.
#[inline(never)]
fn count(ctx: &SkBuffContext, packet: &Packet, flow: *mut Flow) -> u64 {
    if flow.is_null() {
        return 0;
    }
    let (bytes, datagrams) = packet.payload(ctx);
    // SAFETY: a live map value; counted with plain atomic adds, as several threads may send.
    unsafe {
        add(&raw mut (*flow).bytes_out, bytes);
        add(&raw mut (*flow).packets_out, datagrams);
        (*flow).last_ns = facts::now();
        (*flow).src = packet.source(ctx);
        (*flow).src_port = packet.local_port;
    }
    0
}
