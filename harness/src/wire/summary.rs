//! Counts by destination and by TCP connection.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
};

use indexmap::{IndexMap, IndexSet};

use super::{
    TcpConnection,
    packet::{self, L4, Packet, Segment},
    stream::Coverage,
};
use crate::event::WireCount;

/// IPv4 and IPv6 numbers of ICMP differ; one name serves both.
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const IGMP: u8 = 2;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Where packets of one kind went.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Destination {
    address: IpAddr,
    port: Option<u16>,
    protocol: u8,
}

#[derive(Default)]
struct Count {
    packets: u64,
    bytes: u64,
}

#[derive(Default)]
struct Connection {
    /// Sequence number of the agent's SYN; another one on the same ports is another connection.
    initial: Option<u32>,
    out: Coverage,
    back: Coverage,
}

/// Everything counted so far.
#[derive(Default)]
pub struct Ledger {
    destinations: IndexMap<Destination, Count>,
    /// By agent and far end; those that ports were reused for are in `ended`.
    connections: IndexMap<(SocketAddr, SocketAddr), Connection>,
    ended: Vec<TcpConnection>,
    /// UDP flows that agents sent, source and destination.
    from_agents: IndexSet<(SocketAddr, SocketAddr)>,
    /// UDP flows that the far side sent, source and destination.
    to_agents: HashSet<(SocketAddr, SocketAddr)>,
    /// Ports of datagrams whose first fragment was seen, by source, destination and identification.
    fragmented: IndexMap<(IpAddr, IpAddr, u32), u16>,
}

impl Ledger {
    /// A packet from an agent.
    pub fn count_outbound(&mut self, packet: &Packet) {
        let Packet { src, dst, l4 } = packet;
        if let L4::Udp { src_port, dst_port, .. }
        | L4::Fragment { protocol: UDP, ports: Some((src_port, dst_port)), .. } = l4
        {
            self.from_agents.insert((SocketAddr::new(*src, *src_port), SocketAddr::new(*dst, *dst_port)));
        }
        let (port, protocol, bytes) = match l4 {
            L4::Tcp(segment) => {
                self.segment_out(
                    SocketAddr::new(*src, segment.src_port),
                    SocketAddr::new(*dst, segment.dst_port),
                    segment,
                );
                if segment.is_bare_reset() {
                    return;
                }
                // Bytes of TCP are added up from the connections.
                (Some(segment.dst_port), TCP, 0)
            }
            L4::Udp { dst_port, bytes, .. } => (Some(*dst_port), UDP, *bytes),
            // "Nobody listens here any more", about an answer that came too late: the kernel's own
            // words, and no more the agent's doing than a reset is.
            L4::Icmp { quoted: Some(flow), .. } if flow.0.ip() == *dst && self.to_agents.contains(flow) => {
                return;
            }
            L4::Icmp { bytes, .. } => (None, ICMP, *bytes),
            L4::Fragment { protocol, id, ports, bytes } => {
                let key = (*src, *dst, *id);
                if let Some((_, port)) = ports {
                    self.fragmented.insert(key, *port);
                }
                (self.fragmented.get(&key).copied(), *protocol, *bytes)
            }
            L4::Other { protocol, dst_port, bytes } => (*dst_port, *protocol, *bytes),
        };
        let count = self.destinations.entry(Destination { address: *dst, port, protocol }).or_default();
        count.packets += 1;
        count.bytes += bytes;
    }

    /// A packet to an agent.
    pub fn count_inbound(&mut self, packet: &Packet) {
        match &packet.l4 {
            L4::Tcp(segment) => {
                let key = (
                    SocketAddr::new(packet.dst, segment.dst_port),
                    SocketAddr::new(packet.src, segment.src_port),
                );
                let Some(connection) = self.connection(key, segment) else { return };
                if segment.ack {
                    connection.out.acknowledge(segment.acknowledged);
                }
                connection.back.add(segment.sequence.wrapping_add(u32::from(segment.syn)), segment.bytes);
            }
            L4::Udp { src_port, dst_port, .. } | L4::Fragment { ports: Some((src_port, dst_port)), .. } => {
                self.to_agents
                    .insert((SocketAddr::new(packet.src, *src_port), SocketAddr::new(packet.dst, *dst_port)));
            }
            L4::Icmp { .. } | L4::Fragment { .. } | L4::Other { .. } => {}
        }
    }

    /// The connection that `segment` belongs to. A bare reset acknowledges, but begins none.
    fn connection(&mut self, key: (SocketAddr, SocketAddr), segment: &Segment) -> Option<&mut Connection> {
        if segment.is_bare_reset() {
            return self.connections.get_mut(&key);
        }
        Some(self.connections.entry(key).or_default())
    }

    fn segment_out(&mut self, agent: SocketAddr, far: SocketAddr, segment: &Segment) {
        let Some(connection) = self.connection((agent, far), segment) else { return };
        let mut before = None;
        if segment.syn && !segment.ack {
            if connection.initial.is_some_and(|initial| initial != segment.sequence) {
                before = Some(std::mem::take(connection));
            }
            connection.initial = Some(segment.sequence);
        }
        if segment.ack {
            connection.back.acknowledge(segment.acknowledged);
        }
        connection.out.add(segment.sequence.wrapping_add(u32::from(segment.syn)), segment.bytes);
        self.ended.extend(before.map(|before| before.report(agent, far)));
    }

    /// UDP flows that agents sent, source and destination, in order of first appearance.
    pub fn datagrams(&self) -> Vec<(SocketAddr, SocketAddr)> {
        self.from_agents.iter().copied().collect()
    }

    /// Counts and connections, each in order of first appearance.
    pub fn summary(&self) -> (Vec<WireCount>, Vec<TcpConnection>) {
        let live = self.connections.iter().map(|((agent, far), connection)| connection.report(*agent, *far));
        let connections: Vec<_> = self.ended.iter().cloned().chain(live).collect();
        let mut streams: HashMap<SocketAddr, u64> = HashMap::new();
        for connection in &connections {
            *streams.entry(connection.far).or_default() += connection.arrived;
        }
        let report = |(destination, count): (&Destination, &Count)| {
            let far = destination.port.map(|port| SocketAddr::new(destination.address, port));
            let stream = far.filter(|_| destination.protocol == TCP).and_then(|far| streams.get(&far));
            WireCount {
                dst: far.map_or_else(|| destination.address.to_string(), |far| far.to_string()),
                l4_proto: protocol_name(destination.protocol),
                packets: count.packets,
                bytes: stream.copied().unwrap_or(count.bytes),
            }
        };
        let counts = self.destinations.iter().map(report).collect();
        (counts, connections)
    }
}

impl Connection {
    fn report(&self, agent: SocketAddr, far: SocketAddr) -> TcpConnection {
        TcpConnection {
            agent,
            far,
            arrived: self.out.bytes(),
            bytes_out: self.out.acknowledged_bytes(),
            bytes_in: self.back.acknowledged_bytes(),
        }
    }
}

/// Names of protocols; any other is its number.
pub const PROTOCOLS: [(&str, u8); 7] = [
    ("tcp", TCP),
    ("udp", UDP),
    ("icmp", ICMP),
    ("igmp", IGMP),
    ("udplite", packet::UDPLITE),
    ("sctp", packet::SCTP),
    ("dccp", packet::DCCP),
];

fn protocol_name(protocol: u8) -> String {
    let protocol = if protocol == ICMPV6 { ICMP } else { protocol };
    let named = PROTOCOLS.iter().find(|(_, number)| *number == protocol);
    named.map_or_else(|| protocol.to_string(), |(name, _)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::{super::packet::parse, *};
    use etherparse::PacketBuilder;

    const AGENT: [u8; 4] = [192, 0, 2, 2];
    const FAR: [u8; 4] = [198, 51, 100, 7];

    fn tcp(sequence: u32, flags: &str, payload: &[u8]) -> Packet {
        let mut builder =
            PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4(AGENT, FAR, 64).tcp(1024, 80, sequence, 1000);
        for flag in flags.chars() {
            builder = match flag {
                's' => builder.syn(),
                'r' => builder.rst(),
                _ => builder.fin(),
            };
        }
        let mut frame = Vec::new();
        builder.write(&mut frame, payload).unwrap();
        parse(&frame).unwrap()
    }

    fn udp(from: ([u8; 4], u16), to: ([u8; 4], u16)) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4(from.0, to.0, 64).udp(from.1, to.1);
        let mut frame = Vec::new();
        builder.write(&mut frame, b"datagram").unwrap();
        frame
    }

    fn counts(ledger: &Ledger) -> Vec<(String, String, u64, u64)> {
        ledger.summary().0.into_iter().map(|c| (c.dst, c.l4_proto, c.packets, c.bytes)).collect()
    }

    #[test]
    fn retransmissions_count_as_packets_but_not_as_bytes() {
        let mut ledger = Ledger::default();
        for packet in [tcp(9, "s", b""), tcp(10, "", b"hello"), tcp(10, "", b"hello"), tcp(15, "f", b"!")] {
            ledger.count_outbound(&packet);
        }
        ledger.count_outbound(&tcp(16, "r", b""));
        assert_eq!(counts(&ledger), [("198.51.100.7:80".to_owned(), "tcp".to_owned(), 4, 6)]);
        assert_eq!(ledger.summary().1.len(), 1);
    }

    #[test]
    fn used_again_ports_are_another_connection() {
        let mut ledger = Ledger::default();
        for packet in
            [tcp(9, "s", b""), tcp(9, "s", b""), tcp(10, "", b"one"), tcp(90, "s", b""), tcp(91, "", b"two!")]
        {
            ledger.count_outbound(&packet);
        }
        let bytes: Vec<_> = ledger.summary().1.iter().map(|connection| connection.arrived).collect();
        assert_eq!(bytes, [3, 4]);
        assert_eq!(counts(&ledger)[0].3, 7);
    }

    #[test]
    fn a_bare_reset_is_nothing_and_one_with_payload_is_not() {
        let mut ledger = Ledger::default();
        ledger.count_outbound(&tcp(9, "r", b""));
        assert_eq!(ledger.summary(), (Vec::new(), Vec::new()));
        ledger.count_outbound(&tcp(9, "r", b"secret"));
        assert_eq!(counts(&ledger)[0].3, 6);
    }

    #[test]
    fn an_error_about_what_the_far_side_sent_is_nothing_and_any_other_is_not() {
        let mut ledger = Ledger::default();
        let answer = udp((FAR, 7), (AGENT, 1024));
        let unreachable = |quoted: &[u8]| {
            let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4(AGENT, FAR, 64);
            let mut frame = Vec::new();
            // Destination unreachable, port unreachable.
            builder.icmpv4_raw(3, 3, [0; 4]).write(&mut frame, quoted).unwrap();
            parse(&frame).unwrap()
        };
        // Without the Ethernet header, as ICMP quotes.
        ledger.count_outbound(&unreachable(&answer[14..]));
        assert_eq!(counts(&ledger).len(), 1, "nothing was sent that it could be about");
        ledger.count_inbound(&parse(&answer).unwrap());
        ledger.count_outbound(&unreachable(&answer[14..]));
        ledger.count_outbound(&unreachable(b"secret"));
        let expected = ("198.51.100.7".to_owned(), "icmp".to_owned(), 2, answer.len() as u64 - 14 + 6);
        assert_eq!(counts(&ledger), [expected]);
    }
}
