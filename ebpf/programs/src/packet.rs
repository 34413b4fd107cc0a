//! Reading packets: network and transport headers of what a socket sends or receives.

use abi::{Address, FlowKey, ICMP, ICMPV6, SCTP, Sock, TCP, UDP, UDPLITE, sock_flag, v4_mapped};
use aya_ebpf::{
    EbpfContext as _, bindings::bpf_sock, helpers::generated::bpf_sk_fullsock, programs::SkBuffContext,
};

use policy::is_loopback;

use crate::context;

/// `SOCK_RAW`.
pub const SOCK_RAW: u32 = 3;
const ETH_P_IP: u32 = 0x0800;
const ETH_P_IPV6: u32 = 0x86dd;
/// IPv6 next headers that are not the transport: hop by hop, routing, destination options.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION_OPTIONS: u8 = 60;
const NO_NEXT_HEADER: u8 = 59;
/// Most of them that are read past; Linux sends at most one of each, and destination options twice.
const MOST_EXTENSIONS: usize = 4;
/// Fragment offset in the third word of an IPv4 header.
const FRAGMENT_OFFSET: u16 = 0x1fff;
/// TCP header flags.
const FIN: u8 = 1;
pub const RST: u8 = 1 << 2;
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
    /// Bits: [`V4`], [`ASTRAY`], [`FRAGMENT`].
    shape: u8,
}

/// An IPv4 packet.
const V4: u8 = 1;
/// Its destination does not say where it leads: see [`Packet::v6`].
const ASTRAY: u8 = 1 << 1;
/// Only the rest of a datagram, which has no transport header: a raw socket's own fragment.
const FRAGMENT: u8 = 1 << 2;

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

/// Reads the headers; false if it is not an IP packet. A call of its own: its stack is given back before a
/// decision is asked for, which has need of it.
#[inline(never)]
pub fn read(ctx: &SkBuffContext, way: Way, packet: &mut Packet) -> bool {
    // SAFETY: the context is valid for the program's run.
    let protocol = u32::from(u16::from_be(unsafe { (*ctx.skb.skb).protocol } as u16));
    let network = match protocol {
        ETH_P_IP => packet.v4(ctx, way),
        ETH_P_IPV6 => packet.v6(ctx, way),
        _ => None,
    };
    packet.ports(ctx, way);
    packet.forget(ctx);
    network.is_some()
}

/// The same value, of which the verifier no longer knows anything, as it does not know `any`.
#[inline(always)]
fn forget(mut value: u64, any: u64) -> u64 {
    // SAFETY: touches its operands only.
    unsafe {
        core::arch::asm!("{value} ^= {any}", "{value} ^= {any}", value = inout(reg) value, any = in(reg) any, options(pure, nomem, nostack));
    }
    value
}

/// Whether it is a TCP connection's, or a listening socket. A raw socket of that protocol has neither.
///
/// # Safety
/// `sk` is a full socket.
#[inline(always)]
pub unsafe fn is_tcp(sk: *const bpf_sock) -> bool {
    // SAFETY: the caller's promise.
    unsafe { (*sk).protocol == u32::from(TCP) && (*sk).type_ != SOCK_RAW }
}

impl Packet {
    #[inline(always)]
    fn v4(&mut self, ctx: &SkBuffContext, way: Way) -> Option<()> {
        let header: [u8; 20] = ctx.load(0).ok()?;
        self.shape = V4;
        self.transport = u32::from(header[0] & 0xf) * 4;
        if u16::from_be_bytes([header[6], header[7]]) & FRAGMENT_OFFSET != 0 {
            self.shape |= FRAGMENT;
        }
        self.l4_proto = header[9];
        let remote = match way {
            Way::In => [header[12], header[13], header[14], header[15]],
            Way::Out => [header[16], header[17], header[18], header[19]],
        };
        self.remote = v4_mapped(remote);
        Some(())
    }

    /// Reads past IPv6 extension headers. An unprivileged socket option puts them there, and a capability or a
    /// setting of the namespace (`ip_nonlocal_bind`) any source address. So a packet leads elsewhere than the socket hooks were told by a
    /// routing header, and to loopback from an address that is none: the kernel's own answer, which no hook
    /// sees, would carry what was sent to that address. IPv4 has neither without a capability.
    #[inline(always)]
    fn v6(&mut self, ctx: &SkBuffContext, way: Way) -> Option<()> {
        self.l4_proto = ctx.load(6).ok()?;
        self.remote = ctx.load(if way == Way::In { 8 } else { 24 }).ok()?;
        self.transport = 40;
        if way == Way::Out && is_loopback(&self.remote) && !is_loopback(&ctx.load(8).ok()?) {
            self.shape |= ASTRAY;
        }
        for _ in 0..MOST_EXTENSIONS {
            if !matches!(self.l4_proto, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS) {
                break;
            }
            if self.l4_proto == ROUTING {
                self.shape |= ASTRAY;
            }
            // Cut short: a raw socket's.
            let [next, length] = ctx.load(self.transport as usize).unwrap_or([NO_NEXT_HEADER, 0]);
            self.l4_proto = next;
            self.transport += (u32::from(length) + 1) * 8;
        }
        Some(())
    }

    /// Makes packets of every shape look the same to the verifier, which would check all that follows once for
    /// each way through the headers: half a million instructions of the million that it has patience for.
    #[inline(always)]
    fn forget(&mut self, ctx: &SkBuffContext) {
        // SAFETY: the context is valid for the program's run, and an address is two words.
        unsafe {
            let any = u64::from(core::ptr::read_volatile(&raw const (*ctx.skb.skb).len));
            let [head, tail] = core::mem::transmute::<Address, [u64; 2]>(self.remote);
            self.remote = core::mem::transmute::<[u64; 2], Address>([forget(head, any), forget(tail, any)]);
            self.port = forget(self.port.into(), any) as u16;
            self.local_port = forget(self.local_port.into(), any) as u16;
            self.transport = forget(self.transport.into(), any) as u32;
            self.l4_proto = forget(self.l4_proto.into(), any) as u8;
            self.shape = forget(self.shape.into(), any) as u8;
        }
    }

    /// Whether its destination does not say where it leads.
    #[inline(always)]
    pub const fn astray(&self) -> bool {
        self.has(ASTRAY)
    }

    #[inline(always)]
    const fn has(&self, shape: u8) -> bool {
        self.shape & shape != 0
    }

    /// A raw socket's packet may be shorter than them. It has none then, and is judged all the same.
    #[inline(always)]
    fn ports(&mut self, ctx: &SkBuffContext, way: Way) {
        if !self.has(FRAGMENT) && matches!(self.l4_proto, TCP | UDP | UDPLITE | SCTP) {
            let [a, b, c, d]: [u8; 4] = ctx.load(self.transport as usize).unwrap_or_default();
            let (source, destination) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            (self.local_port, self.port) =
                if way == Way::In { (destination, source) } else { (source, destination) };
        }
    }

    /// The container's address in a packet of its own; all zero if the header is cut short.
    #[inline(always)]
    pub fn source(&self, ctx: &SkBuffContext) -> Address {
        if self.has(V4) { v4_mapped(ctx.load(12).unwrap_or([0; 4])) } else { ctx.load(8).unwrap_or([0; 16]) }
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

    /// A byte of the transport header; 0 where it is cut short.
    #[inline(always)]
    pub fn byte(&self, ctx: &SkBuffContext, offset: usize) -> u8 {
        ctx.load(self.transport as usize + offset).unwrap_or(0)
    }

    /// Payload and datagrams of one buffer: with segmentation offload it carries several.
    #[inline(always)]
    pub fn payload(&self, ctx: &SkBuffContext) -> (u64, u64) {
        // SAFETY: the context is valid for the program's run.
        let (len, segments) = unsafe { ((*ctx.skb.skb).len, (*ctx.skb.skb).gso_segs) };
        let header = match self.l4_proto {
            _ if self.has(FRAGMENT) => 0,
            UDP | UDPLITE | ICMP | ICMPV6 => 8,
            SCTP => 12,
            // At least 20: a raw socket may have written anything here.
            TCP => (u32::from(ctx.load::<u8>(self.transport as usize + 12).unwrap_or(0) >> 4) * 4).max(20),
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
