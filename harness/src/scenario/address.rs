//! Addresses and names that a scenario may use, and how a destination is written.
//!
//! Only documentation ranges: an attempt that leaves its world by mistake must reach nobody.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
};

use ipnet::IpNet;

/// Ranges that hosts and destinations may be in.
const RANGES: [&str; 4] = ["198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15", "2001:db8::/32"];
/// Groups for documentation (RFC 6676), of global scope.
const GROUPS: [&str; 4] = ["233.252.0.0/24", "ff0e::db8:0:0/96", "ff3e::db8:0:0/96", "ff3e:20:2001:db8::/64"];
/// Where kernels send reports of membership (RFC 3376, RFC 3810): of this link, and never chosen by a case.
const REPORTS: [&str; 2] = ["224.0.0.22", "ff02::16"];
/// The world's own side: agents and gateways.
const WORLD: [&str; 2] = ["192.0.2.0/24", "2001:db8:ffff::/48"];
/// Single addresses that the world keeps for itself.
const RESERVED: [Ipv4Addr; 3] =
    [Ipv4Addr::new(203, 0, 113, 53), Ipv4Addr::new(203, 0, 113, 80), Ipv4Addr::new(203, 0, 113, 254)];

/// The authoritative DNS server of every world.
pub(crate) const AUTHORITY: Ipv4Addr = RESERVED[0];

/// Why an address may not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It belongs to the world.
    #[error("the world keeps {0} for itself")]
    Reserved(IpAddr),
    /// It is in no documentation range; it may be somebody's.
    #[error("{0} is not an address of a documentation range")]
    Real(IpAddr),
}

/// Whether a host may have this address, or an agent may try it. A v4-mapped address is judged as
/// the IPv4 address that it stands for.
pub fn permitted(address: IpAddr) -> Result<(), Refused> {
    let canonical = address.to_canonical();
    let within = |range: &str| range.parse::<IpNet>().is_ok_and(|range| range.contains(&canonical));
    if WORLD.iter().any(|range| within(range)) || RESERVED.iter().any(|reserved| canonical == *reserved) {
        return Err(Refused::Reserved(address));
    }
    if RANGES.iter().any(|range| within(range)) { Ok(()) } else { Err(Refused::Real(address)) }
}

/// Whether the name server may answer with this address, though no host has it: those that lead no further than whoever is told,
/// and its link, are nobody's.
pub fn permitted_in_answers(address: IpAddr) -> Result<(), Refused> {
    let is_near = match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified(),
    };
    if is_near { Ok(()) } else { permitted(address) }
}

/// Network of the plane of a stack that was told of no other: cases may name addresses in it, as a hostile name server does.
pub(crate) fn plane() -> Option<IpNet> {
    "198.18.1.0/24".parse().ok()
}

/// Networks of the world's own side.
pub(crate) fn of_the_world() -> impl Iterator<Item = IpNet> {
    WORLD.iter().filter_map(|range| range.parse().ok())
}

/// Whether this is the far end of an agent's link: where the proxy takes its telemetry.
pub fn is_far_end(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[..3] == [192, 0, 2] && v4.octets()[3] % 4 == 1,
        IpAddr::V6(v6) => {
            let segments = v6.segments();
            segments[..3] == [0x2001, 0xdb8, 0xffff] && segments[4..] == [0, 0, 0, 1]
        }
    }
}

/// Whether this is a group that an agent may send to or join.
pub fn is_group(address: IpAddr) -> bool {
    GROUPS.iter().any(|range| range.parse::<IpNet>().is_ok_and(|range| range.contains(&address)))
}

/// Whether an agent may send datagrams there: to a host, to a group, or to everybody on its link.
pub fn permitted_to_many(address: IpAddr) -> Result<(), Refused> {
    let to_link = match address {
        // The last of four addresses of a link's network, and the limited broadcast.
        IpAddr::V4(v4) => {
            v4 == Ipv4Addr::BROADCAST || v4.octets()[..3] == [192, 0, 2] && v4.octets()[3] % 4 == 3
        }
        IpAddr::V6(_) => false,
    };
    if to_link || is_group(address) { Ok(()) } else { permitted(address) }
}

/// Whether something may be expected to arrive at this address.
pub fn permitted_on_wire(address: IpAddr) -> Result<(), Refused> {
    if REPORTS.iter().any(|report| report.parse() == Ok(address)) {
        return Ok(());
    }
    permitted_to_many(address)
}

/// The ranges, for messages.
pub(crate) fn ranges() -> String {
    RANGES.join(", ")
}

/// The groups, for messages.
pub(crate) fn groups() -> String {
    GROUPS.join(", ")
}

/// Where to: `ntp.test:123`, `198.51.100.7:123`, `[2001:db8::7]:123`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A host of the scenario; it is resolved by the agent.
    Name(String, u16),
    /// An address, without look-up.
    Address(SocketAddr),
}

impl Target {
    /// The port.
    pub const fn port(&self) -> u16 {
        match self {
            Self::Name(_, port) => *port,
            Self::Address(address) => address.port(),
        }
    }
}

/// A text that is no destination; says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadTarget(String);

impl FromStr for Target {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let shown = crate::scenario::cell::printable(text);
        if text.parse::<IpAddr>().is_ok() {
            let form = if text.contains(':') { format!("[{text}]:443") } else { format!("{text}:443") };
            return Err(BadTarget(format!("`{shown}` has no port; write `{form}`")));
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self::Address(address));
        }
        let Some((name, port)) = text.rsplit_once(':') else {
            return Err(BadTarget(format!("`{shown}` has no port; write `name:port` or `address:port`")));
        };
        let port = port
            .parse()
            .map_err(|_| BadTarget(format!("`{shown}` does not end in a port from 0 to 65535")))?;
        domain(name).map_err(|why| BadTarget(format!("`{shown}` does not begin with a host name: {why}")))?;
        Ok(Self::Name(name.to_owned(), port))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name, port) => write!(f, "{name}:{port}"),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// Whether `name` is a domain name without wildcard or final dot, or why not.
pub fn domain(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("it is empty");
    }
    if name.len() > 253 {
        return Err("it is longer than 253 bytes");
    }
    if name.ends_with('.') {
        return Err("it ends in a dot; leave it out");
    }
    let labels = || name.split('.');
    if labels().any(|label| label.is_empty() || label.len() > 63) {
        return Err("each part between dots has 1 to 63 bytes");
    }
    if labels().any(|label| label.contains('*')) {
        return Err("`*` is only possible as a whole first part, as in `*.example.test`");
    }
    if !labels().all(|label| label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')) {
        return Err("a name has letters, digits, `-`, `_` and dots");
    }
    if labels().any(|label| label.starts_with('-') || label.ends_with('-')) {
        return Err("no part begins or ends with `-`");
    }
    if labels().next_back().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
        return Err("its last part is a number, so it looks like an address that is none");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_documentation_ranges_are_permitted() {
        for address in ["198.51.100.7", "203.0.113.1", "198.19.255.255", "2001:db8::1", "::ffff:198.51.100.7"]
        {
            assert_eq!(permitted(address.parse().unwrap()), Ok(()), "{address}");
        }
        for address in ["192.0.2.1", "203.0.113.53", "203.0.113.254", "::ffff:192.0.2.9", "2001:db8:ffff::1"]
        {
            assert!(matches!(permitted(address.parse().unwrap()), Err(Refused::Reserved(_))), "{address}");
        }
        for address in ["8.8.8.8", "127.0.0.1", "10.0.0.1", "198.20.0.0", "2001:db9::1", "::1"] {
            assert!(matches!(permitted(address.parse().unwrap()), Err(Refused::Real(_))), "{address}");
        }
    }

    #[test]
    fn what_reaches_many_stays_on_the_link_or_in_documentation_groups() {
        for address in
            ["233.252.0.9", "ff0e::db8:0:9", "ff3e::db8:0:9", "ff3e:20:2001:db8::9", "255.255.255.255"]
        {
            assert_eq!(permitted_to_many(address.parse().unwrap()), Ok(()), "{address}");
            assert!(permitted(address.parse().unwrap()).is_err(), "{address}");
        }
        assert_eq!(permitted_to_many("192.0.2.7".parse().unwrap()), Ok(()));
        for address in [
            "224.0.0.1",
            "224.0.0.22",
            "239.1.1.1",
            "233.252.1.1",
            "192.0.2.1",
            "ff02::1",
            "ff0e::1",
            "ff0e::db9:0:9",
        ] {
            assert!(permitted_to_many(address.parse().unwrap()).is_err(), "{address}");
        }
        assert_eq!(permitted_on_wire("224.0.0.22".parse().unwrap()), Ok(()));
        assert_eq!(permitted_on_wire("ff02::16".parse().unwrap()), Ok(()));
        assert!(permitted_on_wire("ff02::1".parse().unwrap()).is_err());
    }

    #[test]
    fn targets_are_read_and_written_back() {
        for text in ["ntp.test:123", "198.51.100.7:0", "[2001:db8::7]:65535"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for text in [
            "ntp.test",
            "ntp.test:",
            "ntp.test:65536",
            "2001:db8::7",
            "198.51.100.7",
            ":1",
            "300.1.1.1:1",
            "a b:1",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn domain_names_follow_dns() {
        for name in ["a", "api.test", "_srv.x-1.test", &format!("{}.test", "a".repeat(63))] {
            assert_eq!(domain(name), Ok(()), "{name}");
        }
        for name in [
            "",
            ".",
            "a..b",
            "a.",
            "*.a",
            "a.*.b",
            "-a.test",
            "a-.test",
            "ä.test",
            "1.2.3.4",
            &"a.".repeat(127),
        ] {
            assert!(domain(name).is_err(), "{name}");
        }
    }
}
