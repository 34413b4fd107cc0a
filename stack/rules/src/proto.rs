//! What a rule permits to speak.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Ports;

/// A transport, or a protocol that fixes one and its usual port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// Any protocol over TCP: its bytes are not looked into.
    Tcp,
    /// Any protocol over UDP.
    Udp,
    /// ICMP and ICMPv6.
    Icmp,
    /// HTTP over TLS, port 443. The proxy reads it, where there is one.
    Https,
    /// HTTP, port 80. The proxy reads it, where there is one.
    Http,
    /// SSH, port 22: not looked into.
    Ssh,
    /// Multipath TCP, whose sockets are not made unless a rule permits it.
    Mptcp,
    /// SCTP, likewise.
    Sctp,
    /// UDP-Lite, likewise.
    Udplite,
}

/// What carries a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// TCP; Multipath TCP too, whose subflows are TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and ICMPv6, which have no ports.
    Icmp,
    /// SCTP.
    Sctp,
    /// UDP-Lite.
    Udplite,
}

impl Proto {
    /// What carries it.
    #[must_use]
    pub const fn transport(self) -> Transport {
        match self {
            Self::Tcp | Self::Https | Self::Http | Self::Ssh | Self::Mptcp => Transport::Tcp,
            Self::Udp => Transport::Udp,
            Self::Icmp => Transport::Icmp,
            Self::Sctp => Transport::Sctp,
            Self::Udplite => Transport::Udplite,
        }
    }

    /// Its ports where a rule names none.
    #[must_use]
    pub const fn usual_ports(self) -> Option<Ports> {
        match self {
            Self::Https => Some(Ports::one(443)),
            Self::Http => Some(Ports::one(80)),
            Self::Ssh => Some(Ports::one(22)),
            Self::Icmp => Some(Ports::ALL),
            Self::Tcp | Self::Udp | Self::Mptcp | Self::Sctp | Self::Udplite => None,
        }
    }

    /// Whether the proxy reads its requests, and so their paths.
    #[must_use]
    pub const fn has_requests(self) -> bool {
        matches!(self, Self::Https | Self::Http)
    }

    /// Its name in a rule.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Https => "https",
            Self::Http => "http",
            Self::Ssh => "ssh",
            Self::Mptcp => "mptcp",
            Self::Sctp => "sctp",
            Self::Udplite => "udplite",
        }
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
