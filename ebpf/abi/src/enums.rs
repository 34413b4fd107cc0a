//! Closed sets, stored as one byte in the kernel and as a lower- or upper-case word in documents.

/// A byte that names no member of its set: a newer kernel side, or corruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown(pub u8);

macro_rules! closed_set {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $value:literal => $text:literal,)+ }) => {
        $(#[$meta])*
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vmeta])* $variant = $value,)+ }

        impl $name {
            /// Every member, in numeric order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word used in documents, scenarios and command output.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl TryFrom<u8> for $name {
            type Error = Unknown;
            fn try_from(byte: u8) -> Result<Self, Unknown> {
                match byte { $($value => Ok(Self::$variant),)+ other => Err(Unknown(other)) }
            }
        }

        #[cfg(feature = "user")]
        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

closed_set! {
    /// What was decided for an attempt.
    Verdict {
        /// A rule, or the matrix itself, lets it pass.
        Allowed = 0 => "ALLOWED",
        /// The call failed with `EPERM`, or the packet was dropped.
        Denied = 1 => "DENIED",
        /// It passed because enforcement was switched off for this container at that time.
        Bypassed = 2 => "BYPASSED",
    }
}

closed_set! {
    /// The first row of the decision matrix that matched.
    Reason {
        /// Bypass is on.
        Bypass = 0 => "bypass",
        /// DNS, redirected to the container's resolver view.
        Dns = 1 => "dns",
        /// Loopback; passed, and never recorded.
        Loopback = 2 => "loopback",
        /// A rule for a domain; the flow goes straight there.
        DomainRule = 3 => "domain_rule",
        /// A rule for an address range; the flow goes straight there.
        AddressRule = 4 => "address_rule",
        /// No row permits it.
        NoRule = 5 => "no_rule",
        /// The hook found no identity for its attach point.
        NotEnrolled = 6 => "not_enrolled",
        /// A socket kind outside the allow-list of `sock_create`.
        SocketKind = 7 => "socket_kind",
        /// The flow table, or this container's quota of it, is full.
        FlowTableFull = 8 => "flow_table_full",
        /// Handed to the proxy: by a rule with a listener, or, for TCP that no rule knows, to the catch-all.
        Redirected = 9 => "redirected",
        /// An address and port in the container's own network that it was given: proxy, resolver and the like.
        Infrastructure = 10 => "infrastructure",
        /// The bridge's gateway, which is the host.
        Gateway = 11 => "gateway",
        /// Another address of the container's own network.
        OwnSubnet = 12 => "own_subnet",
        /// A peer connected, and the container accepted.
        Inbound = 13 => "inbound",
        /// A packet of a kind that no rule can permit and no socket hook decides, such as raw IP.
        NoFlow = 14 => "no_flow",
        /// A packet of a socket that was connected before the container was enrolled.
        PreEnrolment = 15 => "pre_enrolment",
        /// A packet that does not go where its socket's flow was decided to go, or whose answer would not.
        DestinationMismatch = 16 => "destination_mismatch",
        /// Folded attempts beyond what is told apart: several destinations, and whatever denied each.
        Various = 17 => "various",
    }
}

closed_set! {
    /// The hook that decided.
    Hook {
        /// `cgroup/connect4` and `cgroup/connect6`.
        Connect = 0 => "connect",
        /// `cgroup/sendmsg4` and `cgroup/sendmsg6`.
        Sendmsg = 1 => "sendmsg",
        /// `cgroup/sock_create`.
        SockCreate = 2 => "sock_create",
        /// `cgroup_skb/egress`.
        Egress = 3 => "egress",
        /// `sock_ops`: an accepted connection.
        SockOps = 4 => "sock_ops",
    }
}

closed_set! {
    /// How a flow ended.
    CloseReason {
        /// It did not: denied before it began.
        None = 0 => "none",
        /// Both sides finished; for UDP, the socket was closed.
        Closed = 1 => "closed",
        /// The peer answered the handshake with a reset.
        Refused = 2 => "refused",
        /// No answer within the kernel's retries.
        Timeout = 3 => "timeout",
        /// The peer reset an established connection.
        Reset = 4 => "reset",
        /// This side gave up: reset by us, closed while connecting, killed with data unread.
        Aborted = 5 => "aborted",
        /// No datagram for the container's idle time.
        Idle = 6 => "idle",
        /// Bypass ended while the flow was open, and the flow was cut.
        BypassEnded = 7 => "bypass_ended",
    }
}

closed_set! {
    /// What an address is to a container, besides what its rules say.
    Zone {
        /// Somewhere else.
        Elsewhere = 0 => "elsewhere",
        /// In its own network.
        OwnSubnet = 1 => "own_subnet",
        /// Its network's gateway.
        Gateway = 2 => "gateway",
    }
}

closed_set! {
    /// Who opened the flow.
    Direction {
        /// The container did.
        Outbound = 0 => "outbound",
        /// A peer did, and the container accepted.
        Inbound = 1 => "inbound",
    }
}

closed_set! {
    /// Where a record can be lost. Each point has one owner that counts it, once. The kernel has none: what the
    /// ring has no room for is folded (a denial) or waits in the flow table (the end of a flow).
    LossPoint {
        /// Reader: bytes from the ring that are not a record.
        Decode = 0 => "decode",
        /// Reader: the spool was at its bound.
        SpoolFull = 1 => "spool_full",
        /// Reader: what the spool stored is not there any more, or is not what was stored.
        SpoolDamaged = 2 => "spool_damaged",
        /// Backend: it answered, and refused the record for good.
        BackendRejected = 3 => "backend_rejected",
        /// The machine restarted; what was in memory is unknown.
        Reboot = 4 => "reboot",
    }
}

/// Named faults, as bits of the programs' `FAULTS` constant. Zero in production, where the verifier
/// removes the branches; the harness sets one to prove that a scenario catches it.
pub mod fault {
    /// ALLOWED is recorded and enforced as DENIED, and the reverse.
    pub const VERDICT_FLIPPED: u32 = 1;
    /// Destination ports are recorded in the wrong byte order.
    pub const PORT_BYTE_ORDER: u32 = 1 << 1;
    /// IPv6 addresses are read with the bytes of each word reversed.
    pub const V6_BYTE_ORDER: u32 = 1 << 2;
    /// Every socket has the same cookie.
    pub const COOKIE_CONFUSED: u32 = 1 << 3;
    /// ICMP passes without a record.
    pub const ICMP_UNRECORDED: u32 = 1 << 4;
    /// A redirected flow is recorded as if it had been meant for where it was sent.
    pub const INTENDED_LOST: u32 = 1 << 5;
}
