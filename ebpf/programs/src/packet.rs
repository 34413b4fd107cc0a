//! Reading packets: network and transport headers of what a socket sends or receives.

use abi::{Address, FlowKey, ICMP, ICMPV6, SCTP, Sock, TCP, UDP, UDPLITE, sock_flag, v4_mapped};
use aya_ebpf::{
    EbpfContext as _, bindings::bpf_sock, helpers::generated::bpf_sk_fullsock, programs::SkBuffContext,
};

use crate::context;

const ETH_P_IP: u32 = 0x0800;
const ETH_P_IPV6: u32 = 0x86dd;
/// IPv6 next headers that are not the transport: hop by hop, routing, destination options.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION_OPTIONS: u8 = 60;
/// Most of them that are read past; Linux sends at most one of each, and destination options twice.
const MOST_EXTENSIONS: usize = 4;
/// Fragment offset in the third word of an IPv4 header.
const FRAGMENT_OFFSET: u16 = 0x1fff;
/// TCP header flags.
const FIN: u8 = 1;
const RST: u8 = 1 << 2;
const SYN: u8 = 1 << 1;

/// What is read of a packet's headers.
#[derive(Default)]
pub struct Packet {
    /// The peer's address.
    pub remote: Address,
    /// The peer's port, host order; 0 if the transport has none.
    pub port: u16,
    /// The container's port.
    pub local_port: u16,
    /// Offset of the transport header.
    transport: u32,
    pub l4_proto: u8,
    v4: bool,
    /// It has an IPv6 routing header: where it goes in the end is not what the socket hooks were told.
    pub routed: bool,
    /// Only the rest of a datagram, which has no transport header: a raw socket's own fragment.
    fragment: bool,
}

/// Whose packet.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Way {
    /// The peer's.
    In = 0,
    /// Ours.
    Out = 1,
}

/// The socket, if it is one of the container's. `None`: the kernel's own answer.
#[inline(always)]
pub fn socket(ctx: &SkBuffContext) -> Option<*mut bpf_sock> {
    // SAFETY: the context is valid for the program's run; `sk` is checked against null.
    let sk = unsafe { (*ctx.skb.skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return None;
    }
    // SAFETY: non-null; the helper returns null for a request or time-wait socket.
    let full = unsafe { bpf_sk_fullsock(sk) };
    (!full.is_null()).then_some(full)
}

/// Reads the headers; false if it is not an IP packet with whole ones. A call of its own: its stack is
/// given back before a decision is asked for, which has need of it.
#[inline(never)]
pub fn read(ctx: &SkBuffContext, way: Way, packet: &mut Packet) -> bool {
    // SAFETY: the context is valid for the program's run.
    let protocol = u32::from(u16::from_be(unsafe { (*ctx.skb.skb).protocol } as u16));
    let network = match protocol {
        ETH_P_IP => packet.v4(ctx, way),
        ETH_P_IPV6 => packet.v6(ctx, way),
        _ => None,
    };
    network.and_then(|()| packet.ports(ctx, way)).is_some()
}

impl Packet {
    #[inline(always)]
    fn v4(&mut self, ctx: &SkBuffContext, way: Way) -> Option<()> {
        let header: [u8; 20] = ctx.load(0).ok()?;
        self.v4 = true;
        self.transport = u32::from(header[0] & 0xf) * 4;
        self.fragment = u16::from_be_bytes([header[6], header[7]]) & FRAGMENT_OFFSET != 0;
        self.l4_proto = header[9];
        let remote = match way {
            Way::In => [header[12], header[13], header[14], header[15]],
            Way::Out => [header[16], header[17], header[18], header[19]],
        };
        self.remote = v4_mapped(remote);
        Some(())
    }

    /// Reads past IPv6 extension headers. An unprivileged socket option puts them there.
    #[inline(always)]
    fn v6(&mut self, ctx: &SkBuffContext, way: Way) -> Option<()> {
        self.l4_proto = ctx.load(6).ok()?;
        self.remote = ctx.load(if way == Way::In { 8 } else { 24 }).ok()?;
        self.transport = 40;
        for _ in 0..MOST_EXTENSIONS {
            if !matches!(self.l4_proto, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS) {
                break;
            }
            self.routed |= self.l4_proto == ROUTING;
            let [next, length]: [u8; 2] = ctx.load(self.transport as usize).ok()?;
            self.l4_proto = next;
            self.transport += (u32::from(length) + 1) * 8;
        }
        Some(())
    }

    #[inline(always)]
    fn ports(&mut self, ctx: &SkBuffContext, way: Way) -> Option<()> {
        if !self.fragment && matches!(self.l4_proto, TCP | UDP | UDPLITE | SCTP) {
            let [a, b, c, d]: [u8; 4] = ctx.load(self.transport as usize).ok()?;
            let (source, destination) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            (self.local_port, self.port) =
                if way == Way::In { (destination, source) } else { (source, destination) };
        }
        Some(())
    }

    /// The container's address in a packet of its own; all zero if the header is cut short.
    #[inline(always)]
    pub fn source(&self, ctx: &SkBuffContext) -> Address {
        if self.v4 { v4_mapped(ctx.load(12).unwrap_or([0; 4])) } else { ctx.load(8).unwrap_or([0; 16]) }
    }

    /// The key of the flow it belongs to, by what the container asked for.
    #[inline(always)]
    pub fn flow_key(&self, ctx: &SkBuffContext, sock: *const Sock) -> FlowKey {
        let mut key = FlowKey {
            cookie: context::cookie(ctx.as_ptr()),
            remote: self.remote,
            // SAFETY: non-null socket storage.
            generation: unsafe { (*sock).generation },
            port: self.port,
            l4_proto: self.l4_proto,
            pad: 0,
        };
        context::restore(sock, &mut key.remote, &mut key.port);
        key
    }

    /// Payload and datagrams of one buffer: with segmentation offload it carries several.
    #[inline(always)]
    pub fn payload(&self, ctx: &SkBuffContext) -> (u64, u64) {
        // SAFETY: the context is valid for the program's run.
        let (len, segments) = unsafe { ((*ctx.skb.skb).len, (*ctx.skb.skb).gso_segs) };
        let header = match self.l4_proto {
            _ if self.fragment => 0,
            UDP | UDPLITE | ICMP | ICMPV6 => 8,
            SCTP => 12,
            TCP => u32::from(ctx.load::<u8>(self.transport as usize + 12).unwrap_or(0) >> 4) * 4,
            _ => 0,
        };
        let payload = len.saturating_sub(self.transport + header);
        (u64::from(payload), if segments > 1 { u64::from(segments) } else { 1 })
    }

    /// Remembers a FIN, and the peer's RST, which tell how the connection ended and what its bytes are.
    #[inline(always)]
    pub fn note_flags(&self, ctx: &SkBuffContext, sock: *mut Sock, way: Way) {
        let Ok(header) = ctx.load::<[u8; 14]>(self.transport as usize) else { return };
        let flags = header[13];
        if flags & (FIN | RST) == 0 {
            return;
        }
        // SAFETY: non-null socket storage.
        unsafe {
            if flags & RST != 0 && way == Way::In {
                (*sock).flags |= sock_flag::RST_IN;
            }
            if flags & FIN != 0 {
                let sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
                let headers = self.transport + u32::from(header[12] >> 4) * 4;
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
}
