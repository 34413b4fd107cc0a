//! The data streams, and who may write to each.

/// A lane into the collector: the receiver that a record came by says which stream it is for, whatever it claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// The reader: what the kernel decided.
    Egress,
    /// The proxy's access log.
    Envoy,
    /// The resolver's log.
    Coredns,
    /// What agents tell of themselves: claims.
    Claude,
    /// Logs of our own programs.
    Cp,
    /// What our own programs did: rules, bypass, enrolment.
    Overseer,
}

impl Lane {
    /// Every lane.
    pub const ALL: [Self; 6] =
        [Self::Egress, Self::Envoy, Self::Coredns, Self::Claude, Self::Cp, Self::Overseer];

    /// Its name: of certificates, receivers and pipelines.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Envoy => "envoy",
            Self::Coredns => "coredns",
            Self::Claude => "claude",
            Self::Cp => "cp",
            Self::Overseer => "overseer",
        }
    }

    /// The data stream.
    #[must_use]
    pub fn stream(self) -> String {
        format!("clawker-{}", self.word())
    }

    /// Port of its receiver; the resolver's log is a file.
    #[must_use]
    pub const fn port(self) -> Option<u16> {
        match self {
            Self::Egress => Some(4317),
            Self::Envoy => Some(4319),
            Self::Coredns => None,
            Self::Claude => Some(4318),
            Self::Cp => Some(4321),
            Self::Overseer => Some(4322),
        }
    }

    /// Whether its senders give each record its `event_id`; of the others' the relay does.
    #[must_use]
    pub const fn is_numbered(self) -> bool {
        matches!(self, Self::Egress | Self::Cp | Self::Overseer)
    }

    /// Port of the receiver that the relay sends to what it kept. The reader keeps its records itself.
    #[must_use]
    pub const fn kept_port(self) -> Option<u16> {
        match self {
            Self::Egress => None,
            Self::Claude => Some(4328),
            Self::Envoy => Some(4329),
            Self::Coredns => Some(4330),
            Self::Cp => Some(4331),
            Self::Overseer => Some(4332),
        }
    }

    /// Port of its receiver for OTLP over HTTP, which agents may speak, and nobody else has to.
    #[must_use]
    pub const fn http_port(self) -> Option<u16> {
        match self {
            Self::Claude => Some(4320),
            _ => None,
        }
    }

    /// Whether its senders are ours. Others may only claim.
    #[must_use]
    pub const fn is_trusted(self) -> bool {
        !matches!(self, Self::Claude)
    }
}
