//! What a rule permits, as the maps have it.

use abi::{ICMP, PortRange, SCTP, TCP, UDP, UDPLITE, socket_kind};
use rules::{Destination, Proto, Rule, Transport};

use crate::error::{Error, Result};

/// Of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Permit {
    /// Where to.
    pub(crate) dst: Destination,
    /// Which transport and ports.
    pub(crate) range: PortRange,
    /// Bits of [`abi::socket_kind`]: a kind of socket that may be made for it.
    pub(crate) kinds: u32,
}

impl Permit {
    fn of(rule: &Rule) -> Self {
        let l4_proto = match rule.proto().transport() {
            Transport::Tcp => TCP,
            Transport::Udp => UDP,
            Transport::Icmp => ICMP,
            Transport::Sctp => SCTP,
            Transport::Udplite => UDPLITE,
        };
        let kinds = match rule.proto() {
            Proto::Mptcp => socket_kind::MPTCP,
            Proto::Sctp => socket_kind::SCTP,
            Proto::Udplite => socket_kind::UDPLITE,
            _ => 0,
        };
        let (first, last) = (rule.ports().first(), rule.ports().last());
        let listener = rule.listener().unwrap_or(0);
        Self { dst: rule.dst().clone(), range: PortRange { first, last, listener, l4_proto, pad: 0 }, kinds }
    }
}

/// What each of these rules permits.
///
/// # Errors
/// If one has path rules and no listener: nobody would enforce them.
pub(crate) fn permits(rules: &[Rule]) -> Result<Vec<Permit>> {
    if let Some(rule) = rules.iter().find(|rule| !rule.path_rules().is_empty() && rule.listener().is_none()) {
        return Err(Error::PathsUnread(rule.dst().to_string()));
    }
    Ok(rules.iter().map(Permit::of).collect())
}
