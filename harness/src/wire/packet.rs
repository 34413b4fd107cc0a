//! One captured frame, reduced to what is counted. Agents write these frames: nothing is trusted.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    IpNumber, LaxNetSlice, LaxSlicedPacket, TcpSlice, TransportSlice, UdpHeaderSlice, ip_number,
};

/// Protocols with ports at the same place as UDP.
pub const UDPLITE: u8 = 136;
pub const SCTP: u8 = 132;
pub const DCCP: u8 = 33;

/// An IP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub l4: L4,
}

/// What it carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum L4 {
    Tcp(Segment),
    Udp {
        src_port: u16,
        dst_port: u16,
        bytes: u64,
    },
    /// `kind` is the ICMP type. `quoted` is the UDP flow that an error message is about.
    Icmp {
        kind: u8,
        bytes: u64,
        quoted: Option<(SocketAddr, SocketAddr)>,
    },
    /// A fragment of the datagram `id`; only the first knows its ports.
    Fragment {
        protocol: u8,
        id: u32,
        ports: Option<(u16, u16)>,
        bytes: u64,
    },
    /// `dst_port` where the protocol has ports.
    Other {
        protocol: u8,
        dst_port: Option<u16>,
        bytes: u64,
    },
}

/// A TCP segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub src_port: u16,
    pub dst_port: u16,
    pub sequence: u32,
    pub syn: bool,
    pub ack: bool,
    /// Valid if `ack`.
    pub acknowledged: u32,
    pub rst: bool,
    pub bytes: u64,
}

impl Segment {
    /// A kernel's own word about a segment that no socket wants.
    pub fn is_bare_reset(&self) -> bool {
        self.rst && self.bytes == 0
    }
}

/// `None` for what is not IP, ARP among it, for neighbour discovery, and for reports of multicast
/// listeners about groups of the link alone, which kernels join by themselves.
pub fn parse(frame: &[u8]) -> Option<Packet> {
    let sliced = LaxSlicedPacket::from_ethernet(frame).ok()?;
    reduce(&sliced)
}

fn reduce(sliced: &LaxSlicedPacket<'_>) -> Option<Packet> {
    let (src, dst, payload, fragment) = match sliced.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            let fragment = (u32::from(header.identification()), header.fragments_offset().value() == 0);
            (header.source_addr().into(), header.destination_addr().into(), ip.payload(), fragment)
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            (header.source_addr().into(), header.destination_addr().into(), ip.payload(), v6_fragment(ip))
        }
        LaxNetSlice::Arp(_) => return None,
    };
    let protocol = payload.ip_number.0;
    let bytes = payload.payload.len() as u64;
    let l4 = if payload.fragmented {
        let (id, first) = fragment;
        let udp = (first && payload.ip_number == ip_number::UDP)
            .then(|| UdpHeaderSlice::from_slice(payload.payload).ok())
            .flatten();
        match udp {
            Some(udp) => L4::Fragment {
                protocol,
                id,
                ports: Some((udp.source_port(), udp.destination_port())),
                bytes: bytes.saturating_sub(8),
            },
            None => L4::Fragment { protocol, id, ports: None, bytes },
        }
    } else {
        match &sliced.transport {
            Some(TransportSlice::Tcp(tcp)) => L4::Tcp(segment(tcp)),
            Some(TransportSlice::Udp(udp)) => L4::Udp {
                src_port: udp.source_port(),
                dst_port: udp.destination_port(),
                bytes: udp.payload().len() as u64,
            },
            Some(TransportSlice::Icmpv4(icmp)) => L4::Icmp {
                kind: icmp.type_u8(),
                bytes: icmp.payload().len() as u64,
                // Destination unreachable.
                quoted: (icmp.type_u8() == 3).then(|| quoted(icmp.payload())).flatten(),
            },
            Some(TransportSlice::Icmpv6(icmp)) => {
                // Queries of listeners, and ND 133 to 137.
                if matches!(icmp.type_u8(), 130 | 133..=137) || is_own_report(icmp.slice()) {
                    return None;
                }
                let quoted = (icmp.type_u8() == 1).then(|| quoted(icmp.payload())).flatten();
                L4::Icmp { kind: icmp.type_u8(), bytes: icmp.payload().len() as u64, quoted }
            }
            None => other(protocol, payload.payload),
        }
    };
    Some(Packet { src, dst, l4 })
}

/// A protocol that is not taken apart further than its ports and the end of its fixed header.
fn other(protocol: u8, packet: &[u8]) -> L4 {
    let header = match protocol {
        UDPLITE => 8,
        SCTP | DCCP => 12,
        _ => return L4::Other { protocol, dst_port: None, bytes: packet.len() as u64 },
    };
    let dst_port = packet.get(2..4).map(|port| u16::from_be_bytes([port[0], port[1]]));
    L4::Other { protocol, dst_port, bytes: packet.len().saturating_sub(header) as u64 }
}

/// Whether a report of multicast listeners (RFC 3810) names no group beyond the link: those of a
/// host's own addresses, which no process has chosen.
fn is_own_report(icmp: &[u8]) -> bool {
    let beyond = |group: &[u8]| group.first() == Some(&0xff) && group.get(1).is_some_and(|b| b & 0xf > 2);
    match icmp.first() {
        // Version 1: one group after the header.
        Some(131 | 132) => !icmp.get(8..24).is_some_and(beyond),
        // Version 2: records of 4 bytes, a group, sources and auxiliary data in words of 4 bytes.
        Some(143) => {
            let mut rest = icmp.get(8..).unwrap_or_default();
            while let (Some(head), Some(group)) = (rest.get(..4), rest.get(4..20)) {
                if beyond(group) {
                    return false;
                }
                let sources = usize::from(u16::from_be_bytes([head[2], head[3]]));
                let len = 20 + 16 * sources + 4 * usize::from(head[1]);
                rest = rest.get(len..).unwrap_or_default();
            }
            true
        }
        _ => false,
    }
}

/// Identification, and whether it is the first fragment, from the fragment extension header.
fn v6_fragment(ip: &etherparse::LaxIpv6Slice<'_>) -> (u32, bool) {
    ip.extensions()
        .clone()
        .into_iter()
        .find_map(|extension| match extension {
            etherparse::Ipv6ExtensionSlice::Fragment(fragment) => {
                Some((fragment.identification(), fragment.fragment_offset().value() == 0))
            }
            _ => None,
        })
        .unwrap_or((0, false))
}

/// The UDP flow, source and destination, of a packet quoted in an ICMP error.
fn quoted(packet: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let sliced = LaxSlicedPacket::from_ip(packet).ok()?;
    let (src, dst) = match sliced.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        LaxNetSlice::Ipv6(ip) => {
            (IpAddr::from(ip.header().source_addr()), ip.header().destination_addr().into())
        }
        LaxNetSlice::Arp(_) => return None,
    };
    let payload = sliced.ip_payload()?;
    if payload.ip_number != IpNumber::UDP {
        return None;
    }
    let udp = UdpHeaderSlice::from_slice(payload.payload).ok()?;
    Some((SocketAddr::new(src, udp.source_port()), SocketAddr::new(dst, udp.destination_port())))
}

fn segment(tcp: &TcpSlice<'_>) -> Segment {
    Segment {
        src_port: tcp.source_port(),
        dst_port: tcp.destination_port(),
        sequence: tcp.sequence_number(),
        syn: tcp.syn(),
        ack: tcp.ack(),
        acknowledged: tcp.acknowledgment_number(),
        rst: tcp.rst(),
        bytes: tcp.payload().len() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{Icmpv6Type, PacketBuilder, icmpv6};
    use proptest::prelude::*;

    #[test]
    fn neighbour_discovery_and_arp_are_nothing() {
        let six = || PacketBuilder::ethernet2([1; 6], [2; 6]).ipv6([1; 16], [2; 16], 255);
        let mut solicitation = Vec::new();
        six().icmpv6_raw(135, 0, [0; 4]).write(&mut solicitation, &[0; 16]).unwrap();
        assert_eq!(parse(&solicitation), None);
        let mut listener_report = Vec::new();
        six().icmpv6_raw(143, 0, [0; 4]).write(&mut listener_report, &[]).unwrap();
        assert_eq!(parse(&listener_report), None);
        let mut arp = vec![0; 60];
        arp[12..22].copy_from_slice(&[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!(parse(&arp), None);
        let echo = Icmpv6Type::EchoRequest(etherparse::IcmpEchoHeader { id: 1, seq: 1 });
        assert_eq!(echo.type_u8(), icmpv6::TYPE_ECHO_REQUEST);
        let mut ping = Vec::new();
        six().icmpv6(echo).write(&mut ping, b"12345678").unwrap();
        assert_eq!(parse(&ping).unwrap().l4, L4::Icmp { kind: 128, bytes: 8, quoted: None });
    }

    #[test]
    fn a_report_of_a_group_beyond_the_link_is_the_agent_s_doing() {
        let report = |kind: u8, groups: &[[u8; 16]]| {
            let mut frame = Vec::new();
            let mut body = Vec::new();
            for group in groups {
                if kind == 143 {
                    body.extend([4, 0, 0, 0]);
                }
                body.extend(group);
            }
            let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv6([1; 16], [2; 16], 1);
            builder.icmpv6_raw(kind, 0, [0, 0, 0, groups.len() as u8]).write(&mut frame, &body).unwrap();
            parse(&frame)
        };
        let mut own = [0; 16];
        own[..2].copy_from_slice(&[0xff, 0x02]);
        let mut chosen = own;
        chosen[1] = 0x0e;
        for kind in [131, 132, 143] {
            assert_eq!(report(kind, &[own]), None, "{kind}");
            assert!(report(kind, &[chosen]).is_some(), "{kind}");
        }
        assert_eq!(report(143, &[own, own]), None);
        assert!(report(143, &[own, chosen]).is_some());
    }

    #[test]
    fn protocols_with_ports_have_them() {
        for (protocol, bytes) in [(UDPLITE, 12), (SCTP, 8), (DCCP, 8), (253, 20)] {
            let mut frame = vec![0; 12];
            frame.extend([0x08, 0x00]);
            frame.extend([0x45, 0, 0, 40, 0, 5, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 2, 198, 51, 100, 7]);
            frame.extend([0, 9, 0, 80]);
            frame.extend([0; 16]);
            let dst_port = (protocol != 253).then_some(80);
            assert_eq!(parse(&frame).unwrap().l4, L4::Other { protocol, dst_port, bytes });
        }
    }

    #[test]
    fn a_routing_header_hides_nothing() {
        let mut frame = vec![0; 12];
        frame.extend([0x86, 0xdd]);
        frame.extend([0x60, 0, 0, 0, 0, 36, 43, 64]);
        frame.extend([1; 16]);
        frame.extend([2; 16]);
        // A segment routing header of one segment, and a datagram behind it.
        frame.extend([17, 2, 4, 1, 0, 0, 0, 0]);
        frame.extend([3; 16]);
        frame.extend([0, 7, 0, 9, 0, 12, 0, 0, b'l', b'e', b'a', b'k']);
        let packet = parse(&frame).unwrap();
        assert_eq!(
            (packet.dst, packet.l4),
            (IpAddr::from([2; 16]), L4::Udp { src_port: 7, dst_port: 9, bytes: 4 })
        );
    }

    #[test]
    fn later_fragments_have_no_ports() {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00]);
        // 20 bytes of header, 8 of payload, identification 5, more fragments clear, offset 8 bytes.
        frame.extend([0x45, 0, 0, 28, 0, 5, 0, 1, 64, 17, 0, 0, 192, 0, 2, 2, 198, 51, 100, 7]);
        frame.extend([7; 8]);
        let fragment = L4::Fragment { protocol: 17, id: 5, ports: None, bytes: 8 };
        assert_eq!(parse(&frame).unwrap().l4, fragment);
    }

    proptest! {
        #[test]
        fn no_frame_makes_it_panic(
            kind in prop_oneof![Just([0x08, 0x00]), Just([0x86, 0xdd]), any::<[u8; 2]>()],
            first in prop_oneof![Just(0x45_u8), Just(0x60), any::<u8>()],
            rest in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let frame: Vec<u8> = [0; 12].into_iter().chain(kind).chain([first]).chain(rest).collect();
            let _ = parse(&frame);
        }
    }
}
