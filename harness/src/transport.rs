//! Every transport that an agent could try: one closed list, and how a step's action is one of them.

use std::{fmt, net::SocketAddr};

use abi::Verdict;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use strum::IntoEnumIterator;

use crate::{
    actor::Action,
    scenario::types::{ConnectVia, DatagramProto, Family, Flood, FloodProto, Socket, Step},
};

/// What a socket speaks. Not what its packets say: a raw socket may send what looks like TCP.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumIter,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Transport {
    /// TCP, whatever call opens it.
    Tcp,
    /// Multipath TCP.
    Mptcp,
    /// UDP, and what lives on it.
    Udp,
    /// UDP-Lite.
    Udplite,
    /// SCTP.
    Sctp,
    /// DCCP.
    Dccp,
    /// ICMP and ICMPv6 from ping sockets.
    Icmp,
    /// Raw IP sockets, whatever protocol.
    Raw,
    /// Reports of multicast membership, which the kernel sends for a socket.
    Igmp,
    /// `AF_PACKET`: frames past the IP layer.
    Packet,
    /// `AF_VSOCK`: to the hypervisor.
    Vsock,
}

impl Transport {
    /// What the action's socket speaks; `None` where only its documents can tell, as of a program.
    #[must_use]
    pub fn of(action: &Action) -> Option<Self> {
        match action {
            Action::Connect(connect) if connect.via == ConnectVia::Mptcp => Some(Self::Mptcp),
            Action::Connect(_) => Some(Self::Tcp),
            Action::Send(send) => Some(match send.proto {
                DatagramProto::Udp => Self::Udp,
                DatagramProto::Udplite => Self::Udplite,
                DatagramProto::Sctp => Self::Sctp,
                DatagramProto::Dccp => Self::Dccp,
            }),
            Action::Ping(_) => Some(Self::Icmp),
            Action::Join(_) => Some(Self::Igmp),
            Action::Accept(accept) => Some(if accept.tcp.is_some() { Self::Tcp } else { Self::Udp }),
            Action::Resolve(_) | Action::Quic(_) | Action::Http3(_) | Action::Stun(_) => Some(Self::Udp),
            Action::Ask(ask) => Some(if ask.tcp { Self::Tcp } else { Self::Udp }),
            Action::Grpc(_) | Action::Websocket(_) | Action::Telemetry(_) | Action::Deliver(_) => {
                Some(Self::Tcp)
            }
            Action::Socket(socket) => of_socket(socket),
            Action::Flood(Flood { proto: FloodProto::Udp, .. }) => Some(Self::Udp),
            Action::Flood(Flood { proto: FloodProto::Tcp, .. }) => Some(Self::Tcp),
            Action::Exec(_) => None,
        }
    }

    /// Whether a document with this `l4_proto` may be of such a socket.
    #[must_use]
    pub fn speaks(self, l4_proto: &str) -> bool {
        match self {
            // A byte holds the protocol: of multipath TCP's 262, it is TCP's 6.
            Self::Tcp | Self::Mptcp => l4_proto == "tcp",
            Self::Udp => l4_proto == "udp",
            Self::Udplite => l4_proto == "udplite",
            Self::Sctp => l4_proto == "sctp",
            Self::Dccp => l4_proto == "33",
            Self::Icmp => matches!(l4_proto, "icmp" | "icmpv6"),
            Self::Raw => true,
            Self::Igmp | Self::Packet | Self::Vsock => false,
        }
    }

    /// Whether the wire may see packets of this protocol from such a socket.
    #[must_use]
    pub fn carries(self, protocol: &str) -> bool {
        match self {
            Self::Igmp => matches!(protocol, "igmp" | "icmp"),
            Self::Dccp => protocol == "dccp",
            // What is in a frame, or behind a header of its own, is the agent's choice.
            Self::Packet | Self::Vsock | Self::Raw => true,
            other => other.speaks(protocol),
        }
    }

    /// The transport of a document whose socket is not known.
    #[must_use]
    pub fn named(l4_proto: &str) -> Option<Self> {
        let own = [Self::Tcp, Self::Udp, Self::Udplite, Self::Sctp, Self::Dccp, Self::Icmp];
        own.into_iter().find(|transport| transport.speaks(l4_proto))
    }
}

/// By name or number, as the YAML has them.
fn of_socket(socket: &Socket) -> Option<Transport> {
    match (socket.family.as_str(), socket.kind.as_str(), socket.protocol.as_deref().unwrap_or("0")) {
        ("packet" | "17", ..) => Some(Transport::Packet),
        ("vsock" | "40", ..) => Some(Transport::Vsock),
        (family, ..) if IpFamily::of_socket(family).is_none() => None,
        (_, "raw" | "3", _) => Some(Transport::Raw),
        (_, "stream" | "1", "0" | "6" | "tcp") => Some(Transport::Tcp),
        (_, "dgram" | "2", "0" | "17" | "udp") => Some(Transport::Udp),
        (.., "262" | "mptcp") => Some(Transport::Mptcp),
        (.., "136" | "udplite") => Some(Transport::Udplite),
        (.., "132" | "sctp") => Some(Transport::Sctp),
        (.., "33" | "dccp") => Some(Transport::Dccp),
        (_, "dgram" | "2", "1" | "58" | "icmp" | "icmpv6") => Some(Transport::Icmp),
        _ => None,
    }
}

/// How an address is reached.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumIter,
)]
pub enum IpFamily {
    /// IPv4, from an IPv4 socket.
    #[serde(rename = "v4")]
    #[strum(serialize = "v4")]
    V4,
    /// IPv6.
    #[serde(rename = "v6")]
    #[strum(serialize = "v6")]
    V6,
    /// IPv4, from an IPv6 socket to `::ffff:a.b.c.d`.
    #[serde(rename = "v4-mapped")]
    #[strum(serialize = "v4-mapped")]
    Mapped,
}

impl IpFamily {
    /// Of the address that a socket was given.
    #[must_use]
    pub fn of(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(_) => Self::V4,
            SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => Self::Mapped,
            SocketAddr::V6(_) => Self::V6,
        }
    }

    /// What a socket of this family, by name or number, can reach. Without the IPv6 socket there is
    /// no way to a mapped address either.
    #[must_use]
    pub fn of_socket(family: &str) -> Option<&'static [Self]> {
        match family {
            "inet" | "2" => Some(&[Self::V4]),
            "inet6" | "10" => Some(&[Self::V6, Self::Mapped]),
            _ => None,
        }
    }
}

/// One place of the coverage table: what was tried, over what, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The row.
    pub transport: Transport,
    /// The group of columns.
    pub family: IpFamily,
    /// The column.
    pub verdict: Verdict,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.transport, self.family, self.verdict)
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::all()
            .find(|position| position.to_string() == text)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is not a place such as udp/v6/DENIED")))
    }
}

impl Position {
    /// Every place, row by row.
    pub fn all() -> impl Iterator<Item = Self> {
        Transport::iter().flat_map(|transport| {
            IpFamily::iter().flat_map(move |family| {
                Verdict::ALL.iter().map(move |&verdict| Self { transport, family, verdict })
            })
        })
    }
}

/// What a step's own text says of where it goes, before anything ran: literal addresses, `family`, and
/// kinds of socket. What comes from the far side goes nowhere.
#[must_use]
pub fn written_families(step: &Step) -> Vec<IpFamily> {
    let Some(action) = Action::of(step) else { return Vec::new() };
    let to = |to: &str, family: Family| {
        let own = to.parse().map_or(IpFamily::from(family), IpFamily::of);
        vec![if family == Family::Mapped { IpFamily::Mapped } else { own }]
    };
    match &action {
        Action::Connect(connect) => to(&connect.to, connect.family.unwrap_or_default()),
        Action::Send(send) => to(&send.to, send.family),
        Action::Flood(flood) => to(&flood.to, flood.family),
        Action::Quic(quic) => to(&quic.to, quic.family),
        Action::Http3(http3) => to(&http3.to, http3.family),
        Action::Grpc(grpc) => to(&grpc.to, grpc.family),
        Action::Websocket(websocket) => to(&websocket.to, websocket.family),
        Action::Stun(stun) => to(&stun.to, stun.family),
        Action::Ping(ping) => {
            let own = ping.to.parse().map(|ip| SocketAddr::new(ip, 0));
            vec![own.map_or(ping.family.into(), IpFamily::of)]
        }
        Action::Socket(socket) => match socket.to.as_deref().and_then(|to| to.parse().ok()) {
            Some(address) => vec![IpFamily::of(address)],
            None => IpFamily::of_socket(&socket.family).unwrap_or_default().to_vec(),
        },
        // Where telemetry goes is no rule's.
        Action::Telemetry(_) | Action::Deliver(_) => Vec::new(),
        Action::Accept(_) | Action::Join(_) | Action::Resolve(_) | Action::Ask(_) | Action::Exec(_) => {
            Vec::new()
        }
    }
}

impl From<Family> for IpFamily {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::V4,
            Family::V6 => Self::V6,
            Family::Mapped => Self::Mapped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_known_by_name_and_by_number() {
        let of = |family: &str, kind: &str, protocol: Option<&str>| {
            let (family, kind) = (family.to_owned(), kind.to_owned());
            let socket: Socket = serde_json::from_value(
                serde_json::json!({"family": family, "kind": kind, "protocol": protocol}),
            )
            .expect("a socket");
            of_socket(&socket)
        };
        assert_eq!(of("inet", "stream", None), Some(Transport::Tcp));
        assert_eq!(of("10", "1", Some("262")), Some(Transport::Mptcp));
        assert_eq!(of("inet6", "raw", Some("udp")), Some(Transport::Raw));
        assert_eq!(of("inet", "dgram", Some("udplite")), Some(Transport::Udplite));
        assert_eq!(of("inet", "dgram", Some("icmp")), Some(Transport::Icmp));
        assert_eq!(of("packet", "raw", None), Some(Transport::Packet));
        assert_eq!(of("unix", "stream", None), None);
        assert_eq!(of("inet", "stream", Some("99")), None);
    }

    #[test]
    fn an_address_tells_its_family() {
        let of = |text: &str| IpFamily::of(text.parse().expect("an address"));
        assert_eq!(of("198.51.100.7:9"), IpFamily::V4);
        assert_eq!(of("[2001:db8::7]:9"), IpFamily::V6);
        assert_eq!(of("[::ffff:198.51.100.7]:9"), IpFamily::Mapped);
    }
}
