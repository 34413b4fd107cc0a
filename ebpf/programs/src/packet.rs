//! `cgroup_skb`: counts datagrams, sees FIN and RST, and drops what has no decided flow.
//!
//! Here UDP is held to its flows, and connections that a bypass permitted are cut when it is over.

use abi::{Address, CloseReason, Flow, FlowKey, Hook, Sock, TCP, UDP, flow_flag, sock_flag, v4_mapped};
use aya_ebpf::{
    EbpfContext as _,
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::{bpf_get_socket_cookie, bpf_sk_fullsock},
    macros::cgroup_skb,
    programs::SkBuffContext,
};

use crate::{
    admit::{Admission, admit},
    atomic::add,
    context, facts,
    maps::FLOWS,
    sock_ops::state,
};

const ETH_P_IP: u32 = 0x0800;
const ETH_P_IPV6: u32 = 0x86dd;
/// IPv6 next headers that are not the transport: hop by hop, routing, destination options.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION_OPTIONS: u8 = 60;
/// Most of them that are read past; Linux sends at most one of each, and destination options twice.
const MOST_EXTENSIONS: usize = 4;
/// TCP header flags.
const FIN: u8 = 1;
const RST: u8 = 1 << 2;
const SYN: u8 = 1 << 1;

/// What is read of a packet's network header.
struct Packet {
    v4: bool,
    l4_proto: u8,
    /// Offset of the transport header.
    transport: u32,
    /// It has an IPv6 routing header: where it goes is not what the socket hooks were told.
    routed: bool,
}

/// Whose packet.
#[derive(Clone, Copy)]
enum Way {
    /// The peer's.
    In,
    /// Ours.
    Out,
}

/// Which address of a packet.
#[derive(Clone, Copy)]
enum End {
    Source,
    Destination,
}

#[cgroup_skb]
pub fn egress(ctx: SkBuffContext) -> i32 {
    let Some((sk, packet)) = read(&ctx) else { return 1 };
    match packet.l4_proto {
        UDP => udp_out(&ctx, sk, &packet),
        TCP if packet.routed => routed_out(&ctx, sk, &packet),
        TCP => match context::sock(sk) {
            Some(sock) => {
                // A FIN leaves in no other state; what is sent before needs no look at its header.
                // SAFETY: `sk` is a full socket.
                if matches!(unsafe { (*sk).state }, state::FIN_WAIT1 | state::LAST_ACK | state::CLOSING) {
                    note_flags(&ctx, sock, &packet, Way::Out);
                }
                i32::from(!bypass_over(sock))
            }
            None => 1,
        },
        // Sockets of these kinds are made under bypass only.
        _ => match context::sock(sk) {
            Some(sock) => i32::from(!bypass_over(sock)),
            None => 1,
        },
    }
}

#[cgroup_skb]
pub fn ingress(ctx: SkBuffContext) -> i32 {
    let Some((sk, packet)) = read(&ctx) else { return 1 };
    let Some(sock) = context::sock(sk) else { return 1 };
    match packet.l4_proto {
        UDP => udp_in(&ctx, sock, &packet),
        TCP => {
            note_flags(&ctx, sock, &packet, Way::In);
            i32::from(!bypass_over(sock))
        }
        _ => 1,
    }
}

/// The socket and the headers. `None`: not a socket of ours, or not IP.
#[inline(always)]
fn read(ctx: &SkBuffContext) -> Option<(*mut bpf_sock, Packet)> {
    let skb: *const __sk_buff = ctx.skb.skb;
    // SAFETY: the context is valid for the program's run; `sk` is checked against null.
    let (sk, protocol) =
        unsafe { ((*skb).__bindgen_anon_2.sk, u32::from(u16::from_be((*skb).protocol as u16))) };
    if sk.is_null() {
        return None;
    }
    // SAFETY: non-null; the helper returns null for a request or time-wait socket.
    let full = unsafe { bpf_sk_fullsock(sk) };
    if full.is_null() {
        return None;
    }
    let packet = match protocol {
        ETH_P_IP => Packet {
            v4: true,
            l4_proto: ctx.load(9).ok()?,
            transport: u32::from(ctx.load::<u8>(0).ok()? & 0xf) * 4,
            routed: false,
        },
        ETH_P_IPV6 => {
            extensions(ctx, Packet { v4: false, l4_proto: ctx.load(6).ok()?, transport: 40, routed: false })?
        }
        _ => return None,
    };
    Some((full, packet))
}

/// Reads past IPv6 extension headers. An unprivileged socket option puts them there.
#[inline(always)]
fn extensions(ctx: &SkBuffContext, mut packet: Packet) -> Option<Packet> {
    for _ in 0..MOST_EXTENSIONS {
        if !matches!(packet.l4_proto, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS) {
            break;
        }
        packet.routed |= packet.l4_proto == ROUTING;
        let [next, length]: [u8; 2] = ctx.load(packet.transport as usize).ok()?;
        packet.l4_proto = next;
        packet.transport += (u32::from(length) + 1) * 8;
    }
    Some(packet)
}

/// An address of the packet; all zero if the header is cut short, which matches no flow.
#[inline(always)]
fn address(ctx: &SkBuffContext, packet: &Packet, end: End) -> Address {
    if packet.v4 {
        let offset = if matches!(end, End::Source) { 12 } else { 16 };
        v4_mapped(ctx.load(offset).unwrap_or([0; 4]))
    } else {
        let offset = if matches!(end, End::Source) { 8 } else { 24 };
        ctx.load(offset).unwrap_or([0; 16])
    }
}

/// Whether this connection was permitted by a bypass that is over.
#[inline(always)]
fn bypass_over(sock: *const Sock) -> bool {
    // SAFETY: non-null socket storage.
    let (epoch, cgroup_id) = unsafe { ((*sock).bypass_epoch, (*sock).cgroup_id) };
    facts::bypass_over(epoch, cgroup_id)
}

/// Remembers a FIN, and the peer's RST, which tell how the connection ended and what its bytes are.
#[inline(always)]
fn note_flags(ctx: &SkBuffContext, sock: *mut Sock, packet: &Packet, way: Way) {
    let Ok(header) = ctx.load::<[u8; 14]>(packet.transport as usize) else { return };
    let flags = header[13];
    if flags & (FIN | RST) == 0 {
        return;
    }
    // SAFETY: non-null socket storage.
    unsafe {
        if flags & RST != 0 && matches!(way, Way::In) {
            (*sock).flags |= sock_flag::RST_IN;
        }
        if flags & FIN != 0 {
            let sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
            let headers = packet.transport + u32::from(header[12] >> 4) * 4;
            let payload = (*ctx.skb.skb).len.wrapping_sub(headers);
            let syn = u32::from(flags & SYN != 0);
            let end = sequence.wrapping_add(payload).wrapping_add(syn).wrapping_add(1);
            match way {
                Way::In => {
                    (*sock).fin_end = end;
                    (*sock).flags |= sock_flag::FIN_IN;
                }
                Way::Out => {
                    (*sock).fin_out_end = end;
                    (*sock).flags |= sock_flag::FIN_OUT;
                }
            }
        }
    }
}

/// The key of the flow a datagram belongs to, by what the container asked for, and whether that is
/// not where the packet goes.
#[inline(always)]
fn flow_key(
    ctx: &SkBuffContext,
    sock: *const Sock,
    packet: &Packet,
    remote: End,
    port: u16,
) -> (FlowKey, bool) {
    let mut key = FlowKey {
        // SAFETY: the helper takes the context of this program type.
        cookie: unsafe { bpf_get_socket_cookie(ctx.as_ptr()) },
        remote: address(ctx, packet, remote),
        // SAFETY: non-null socket storage.
        generation: unsafe { (*sock).generation },
        port,
        l4_proto: UDP,
        pad: 0,
    };
    let redirected = context::restore(sock, &mut key.remote, &mut key.port);
    (key, redirected)
}

/// Payload and datagrams of one buffer: with segmentation offload it carries several.
#[inline(always)]
fn payload(ctx: &SkBuffContext, packet: &Packet) -> (u64, u64) {
    // SAFETY: the context is valid for the program's run.
    let (len, segments) = unsafe { ((*ctx.skb.skb).len, (*ctx.skb.skb).gso_segs) };
    (u64::from(len.saturating_sub(packet.transport + 8)), if segments > 1 { u64::from(segments) } else { 1 })
}

/// A datagram leaves only as part of a decided flow. A connected socket whose flow is over, by idling
/// or with a bypass, asks again here, because no socket hook will see its next send.
#[inline(always)]
fn udp_out(ctx: &SkBuffContext, sk: *mut bpf_sock, packet: &Packet) -> i32 {
    let cgroup_id = context::cgroup_id();
    let Some(sock) = context::sock_or_new(sk, cgroup_id) else { return 0 };
    let Ok(ports) = ctx.load::<[u8; 4]>(packet.transport as usize) else { return 0 };
    let source_port = u16::from_be_bytes([ports[0], ports[1]]);
    let port = u16::from_be_bytes([ports[2], ports[3]]);
    let (key, redirected) = flow_key(ctx, sock, packet, End::Destination, port);
    let found = match FLOWS.get_ptr_mut(&key) {
        Some(flow) if !over(flow) => Some(flow),
        _ => {
            let admission = admit(&key, sock, cgroup_id, Hook::Egress);
            // A packet cannot be sent elsewhere from here: one that should go to the resolver but does
            // not is dropped.
            let astray = admission == Admission::Redirect as u64 && !redirected;
            if admission == Admission::Deny as u64 || astray {
                return 0;
            }
            FLOWS.get_ptr_mut(&key)
        }
    };
    let Some(flow) = found else { return 1 };
    let (bytes, datagrams) = payload(ctx, packet);
    // SAFETY: a live map value; counted with plain atomic adds, as several threads may send.
    unsafe {
        add(&raw mut (*flow).bytes_out, bytes);
        add(&raw mut (*flow).packets_out, datagrams);
        (*flow).last_ns = facts::now();
        (*flow).src = address(ctx, packet, End::Source);
        (*flow).src_port = source_port;
    }
    1
}

/// A segment whose routing header may take it elsewhere than `connect6` was told: it leaves only to
/// where its flow was decided to go. Any other is denied, and recorded by where it would have gone.
#[inline(always)]
fn routed_out(ctx: &SkBuffContext, sk: *mut bpf_sock, packet: &Packet) -> i32 {
    let cgroup_id = context::cgroup_id();
    if facts::bypass_epoch(cgroup_id, facts::now()) != 0 {
        return 1;
    }
    let Some(sock) = context::sock_or_new(sk, cgroup_id) else { return 0 };
    let Ok(port) = ctx.load::<[u8; 2]>(packet.transport as usize + 2) else { return 0 };
    let key = FlowKey {
        // SAFETY: the helper takes the context of this program type.
        cookie: unsafe { bpf_get_socket_cookie(ctx.as_ptr()) },
        remote: address(ctx, packet, End::Destination),
        // SAFETY: non-null socket storage.
        generation: unsafe { (*sock).generation },
        port: u16::from_be_bytes(port),
        l4_proto: TCP,
        pad: 0,
    };
    i32::from(admit(&key, sock, cgroup_id, Hook::Egress) == Admission::Pass as u64)
}

#[inline(always)]
fn udp_in(ctx: &SkBuffContext, sock: *mut Sock, packet: &Packet) -> i32 {
    let Ok(ports) = ctx.load::<[u8; 2]>(packet.transport as usize) else { return 1 };
    let (key, _) = flow_key(ctx, sock, packet, End::Source, u16::from_be_bytes(ports));
    let Some(flow) = FLOWS.get_ptr_mut(&key) else { return 1 };
    if flow_bypass_over(flow) {
        return 0;
    }
    let (bytes, datagrams) = payload(ctx, packet);
    // SAFETY: as in `udp_out`.
    unsafe {
        add(&raw mut (*flow).bytes_in, bytes);
        add(&raw mut (*flow).packets_in, datagrams);
        (*flow).last_ns = facts::now();
    }
    1
}

/// Whether the next datagram of a flow needs a decision of its own: the flow idled out, or was permitted
/// by a bypass that is over. One that its socket has left still takes the datagrams that were on their way.
#[inline(always)]
fn over(flow: *const Flow) -> bool {
    // SAFETY: a live map value.
    let (reason, flags) = unsafe { ((*flow).close_reason, (*flow).flags) };
    flags & flow_flag::ENDED != 0 && reason != CloseReason::Closed as u8 || flow_bypass_over(flow)
}

/// Whether a flow was permitted by a bypass that is over.
#[inline(always)]
fn flow_bypass_over(flow: *const Flow) -> bool {
    // SAFETY: a live map value.
    let (epoch, cgroup_id) = unsafe { ((*flow).bypass_epoch, (*flow).cgroup_id) };
    facts::bypass_over(epoch, cgroup_id)
}
