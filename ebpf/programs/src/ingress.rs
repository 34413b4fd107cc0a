//! `cgroup_skb/ingress`: counts datagrams, and sees the peer's FIN and RST. What a bypass permitted is cut
//! when it is over.

use abi::{Sock, TCP};
use aya_ebpf::{macros::cgroup_skb, programs::SkBuffContext};

use crate::{
    atomic::add,
    context, facts, flow,
    maps::FLOWS,
    packet::{Packet, Way, is_tcp, read, socket},
};

#[cgroup_skb]
pub fn ingress(ctx: SkBuffContext) -> i32 {
    let Some(sk) = socket(&ctx) else { return 1 };
    let Some(sock) = context::sock(sk) else { return 1 };
    let mut packet = Packet::default();
    if !read(&ctx, Way::In, &mut packet) {
        return 1;
    }
    // SAFETY: `sk` is a full socket.
    if packet.l4_proto == TCP && unsafe { is_tcp(sk) } {
        packet.note_flags(&ctx, sock, Way::In);
        return i32::from(!flow::bypass_over(sock));
    }
    count(&ctx, sock, &packet)
}

#[inline(always)]
fn count(ctx: &SkBuffContext, sock: *const Sock, packet: &Packet) -> i32 {
    let key = packet.flow_key(ctx, sock);
    let Some(flow) = FLOWS.get_ptr_mut(&key) else { return 1 };
    if flow::of_bypass_over(flow) {
        return 0;
    }
    let (bytes, datagrams) = packet.payload(ctx);
    // SAFETY: a live map value; counted with plain atomic adds, as several CPUs may receive.
    unsafe {
        add(&raw mut (*flow).bytes_in, bytes);
        add(&raw mut (*flow).packets_in, datagrams);
        (*flow).last_ns = facts::now();
    }
    1
}
