//! Counts by destination and by TCP connection.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
};

use indexmap::IndexMap;

use super::{
    TcpConnection,
    packet::{L4, Packet, Segment},
    stream::Coverage,
};
use crate::event::WireCount;

/// IPv4 and IPv6 numbers of ICMP differ; one name serves both.
const ICMP: u8 = 1;
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
    /// UDP flows that the far side sent, source and destination.
    to_agents: HashSet<(SocketAddr, SocketAddr)>,
    /// Ports of datagrams whose first fragment was seen, by source, destination and identification.
    fragmented: IndexMap<(IpAddr, IpAddr, u32), u16>,
}

impl Ledger {
    /// A packet from an agent.
    pub fn count_outbound(&mut self, packet: &Packet) {
        let Packet { src, dst, l4 } = packet;
        let (port, protocol, bytes) = match l4 {
            L4::Tcp(segment) => {
                self.segment_out(
                    SocketAddr::new(*src, segment.src_port),
                    SocketAddr::new(*dst, segment.dst_port),
                    segment,
                );
                if segment.rst && segment.bytes == 0 {
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
            L4::Other { protocol, bytes } => (None, *protocol, *bytes),
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
                let connection = self.connections.entry(key).or_default();
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

    fn segment_out(&mut self, agent: SocketAddr, far: SocketAddr, segment: &Segment) {
        let connection = self.connections.entry((agent, far)).or_default();
        if segment.syn && !segment.ack {
            if connection.initial.is_some_and(|initial| initial != segment.sequence) {
                let before = std::mem::take(connection);
                self.ended.push(before.report(agent, far));
            }
            connection.initial = Some(segment.sequence);
        }
        if segment.ack {
            connection.back.acknowledge(segment.acknowledged);
        }
        connection.out.add(segment.sequence.wrapping_add(u32::from(segment.syn)), segment.bytes);
    }

    /// Counts and connections, each in order of first appearance.
    pub fn summary(&self) -> (Vec<WireCount>, Vec<TcpConnection>) {
        let live = self.connections.iter().map(|((agent, far), connection)| connection.report(*agent, *far));
        let connections: Vec<_> = self.ended.iter().cloned().chain(live).collect();
        let counts = self
            .destinations
            .iter()
            .map(|(destination, count)| {
                let far = destination.port.map(|port| SocketAddr::new(destination.address, port));
                let stream_bytes = |far| connections.iter().filter(|c| c.far == far).map(|c| c.arrived).sum();
                WireCount {
                    dst: far.map_or_else(|| destination.address.to_string(), |far| far.to_string()),
                    l4_proto: protocol_name(destination.protocol),
                    packets: count.packets,
                    bytes: match far {
                        Some(far) if destination.protocol == TCP => stream_bytes(far),
                        _ => count.bytes,
                    },
                }
            })
            .collect();
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

fn protocol_name(protocol: u8) -> String {
    match protocol {
        TCP => "tcp".to_owned(),
        UDP => "udp".to_owned(),
        ICMP => "icmp".to_owned(),
        other => other.to_string(),
    }
}
