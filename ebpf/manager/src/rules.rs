//! Egress rules: the list a person writes, and what each one means.

use std::{collections::HashMap, fs, net::IpAddr, path::Path, str::FromStr};

use abi::{ICMP, PortRange, SCTP, TCP, UDP, UDPLITE, socket_kind};
use ipnet::IpNet;
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};

use crate::error::{Error, Result};

/// One rule as written: `{dst: api.test, proto: https}`, `{dst: 198.51.100.0/24, proto: udp, port: 8000-8100}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// A domain, a wildcard (`*.test`: any subdomain, not `test` itself), an address or a prefix.
    pub dst: String,
    /// `tcp`, `udp`, `icmp`, a name that fixes transport and default port (`https`, `http`, `ssh`), or a
    /// transport whose sockets are not made unless a rule names it: `mptcp`, `sctp`, `udplite`.
    pub proto: String,
    /// One port or an inclusive range. Required where the proto has no default; `icmp` has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
    /// Port of the proxy's listener that its flows are handed to; absent: they go straight there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<u16>,
}

/// `443` or `8000-8100`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Port {
    /// One port.
    One(u16),
    /// `first-last`, inclusive.
    Range(String),
}

/// What a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// This name.
    Domain(String),
    /// Every name below this one.
    Below(String),
    /// These addresses.
    Prefix(IpNet),
}

/// A rule that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Permit {
    /// What for.
    pub(crate) target: Target,
    /// Which transport and ports.
    pub(crate) range: PortRange,
    /// Bits of [`abi::socket_kind`]: a kind of socket that may be made for it.
    pub(crate) kinds: u32,
}

impl Target {
    /// Whether `name` (lower case, no final dot) is meant.
    pub(crate) fn names(&self, name: &str) -> bool {
        match self {
            Self::Domain(domain) => domain == name,
            Self::Below(parent) => {
                name.strip_suffix(parent.as_str()).is_some_and(|head| head.len() > 1 && head.ends_with('.'))
            }
            Self::Prefix(_) => false,
        }
    }
}

impl Rule {
    fn permit(&self) -> std::result::Result<Permit, String> {
        let (l4_proto, default, kinds) = match self.proto.as_str() {
            "tcp" => (TCP, None, 0),
            "udp" => (UDP, None, 0),
            "icmp" => (ICMP, Some((0, u16::MAX)), 0),
            "https" => (TCP, Some((443, 443)), 0),
            "http" => (TCP, Some((80, 80)), 0),
            "ssh" => (TCP, Some((22, 22)), 0),
            "mptcp" => (TCP, None, socket_kind::MPTCP),
            "sctp" => (SCTP, None, socket_kind::SCTP),
            "udplite" => (UDPLITE, None, socket_kind::UDPLITE),
            other => {
                return Err(format!(
                    "`{other}` is not a proto; use tcp, udp, icmp, https, http, ssh, mptcp, sctp or udplite"
                ));
            }
        };
        if l4_proto == ICMP && self.port.is_some() {
            return Err("proto icmp has no port".to_owned());
        }
        let listener = match self.listener {
            None => 0,
            Some(port) if port > 0 && matches!(l4_proto, TCP | UDP) => port,
            Some(0) => return Err("listener: 0 is not a port".to_owned()),
            Some(_) => return Err(format!("proto {} cannot be handed to a proxy", self.proto)),
        };
        let (first, last) = match (&self.port, default) {
            (Some(port), _) => port.bounds()?,
            (None, Some(ports)) => ports,
            (None, None) => {
                return Err(format!(
                    "proto {} needs a port, such as `port: 443` or `port: 8000-8100`",
                    self.proto
                ));
            }
        };
        let range = PortRange { first, last, listener, l4_proto, pad: 0 };
        Ok(Permit { target: self.target()?, range, kinds })
    }

    fn target(&self) -> std::result::Result<Target, String> {
        let dst = self.dst.as_str();
        if let Ok(address) = IpAddr::from_str(dst) {
            return Ok(Target::Prefix(IpNet::from(address.to_canonical())));
        }
        if dst.contains('/') {
            let prefix = IpNet::from_str(dst)
                .map_err(|_| format!("`{dst}` is not a prefix such as 198.51.100.0/24"))?;
            return Ok(Target::Prefix(canonical(prefix.trunc())));
        }
        let name = dst.trim_end_matches('.').to_ascii_lowercase();
        match name.strip_prefix("*.") {
            Some(parent) => domain(parent).map(Target::Below),
            None => domain(&name).map(Target::Domain),
        }
    }
}

impl Port {
    fn bounds(&self) -> std::result::Result<(u16, u16), String> {
        let (first, last) = match self {
            Self::One(port) => (*port, *port),
            Self::Range(text) => {
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                let number = |part: &str| {
                    part.trim()
                        .parse::<u16>()
                        .map_err(|_| format!("`{text}` is not a port or a range such as 8000-8100"))
                };
                (number(first)?, number(last)?)
            }
        };
        if first == 0 || first > last {
            return Err(format!("ports {first}-{last}: the first must be at least 1 and not above the last"));
        }
        Ok((first, last))
    }
}

/// A prefix of v4-mapped addresses is the IPv4 case.
fn canonical(prefix: IpNet) -> IpNet {
    if let IpNet::V6(v6) = prefix
        && let (Some(v4), Some(bits)) = (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96))
        && let Ok(mapped) = ipnet::Ipv4Net::new(v4, bits)
    {
        return IpNet::V4(mapped);
    }
    prefix
}

/// Checks a name: labels of letters, digits, `-` and `_`, each 1 to 63 long, 253 in all.
fn domain(name: &str) -> std::result::Result<String, String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if name.len() <= 253 && name.split('.').all(label) {
        Ok(name.to_owned())
    } else {
        Err(format!(
            "`{name}` is not a domain name, a wildcard such as *.example.test, an address or a prefix"
        ))
    }
}

/// Understands a list of rules, or names the first one that cannot be by its number.
pub(crate) fn permits(rules: &[Rule]) -> Result<Vec<Permit>> {
    rules
        .iter()
        .zip(1usize..)
        .map(|(rule, number)| rule.permit().map_err(|problem| Error::Rule { number, problem }))
        .collect()
}

/// Reads a rules file: a YAML list, or a mapping with a `rules` list.
///
/// # Errors
/// If it cannot be read, is not such a list, or holds a rule that cannot be.
pub fn read(path: &Path) -> Result<Vec<Rule>> {
    #[derive(Deserialize)]
    struct Mapping {
        rules: Vec<Rule>,
    }
    let text = fs::read_to_string(path).map_err(Error::file(path))?;
    // Which of the two is meant is asked first: the error is then that of what the person wrote.
    let is_mapping = parse::<HashMap<String, IgnoredAny>>(&text).is_ok();
    let rules = if is_mapping { parse(&text).map(|Mapping { rules }| rules) } else { parse(&text) };
    let told = |problem| Error::RulesFile { path: path.to_owned(), problem };
    let rules = rules.map_err(|error| told(error.to_string()))?;
    permits(&rules).map_err(|error| told(error.to_string()))?;
    Ok(rules)
}

/// The message has line and column; a snippet would repeat it.
fn parse<T: DeserializeOwned>(text: &str) -> std::result::Result<T, serde_saphyr::Error> {
    serde_saphyr::from_str_with_options(text, serde_saphyr::options! { with_snippet: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Rule>> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(file.path(), text).expect("it is written");
        read(file.path())
    }

    #[test]
    fn a_list_and_a_mapping_are_the_same_file() {
        let list = "- {dst: a.test, proto: tcp, port: 1-2}\n";
        let rules = read_text(list).expect("a list");
        assert_eq!(read_text(&format!("rules:\n  {list}")).expect("a mapping"), rules);
    }

    #[test]
    fn a_slip_is_told_for_the_form_that_was_written() {
        for text in ["- {dst: a.test, prot: tcp}", "rules: [{dst: a.test, prot: tcp}]"] {
            let error = read_text(text).expect_err("`prot` is no field").to_string();
            assert!(error.contains("line 1"), "{error}");
            assert_eq!(error.matches("`prot`").count(), 1, "told once: {error}");
        }
    }

    #[test]
    fn a_rule_that_cannot_be_is_told_with_its_file_and_number() {
        let error = read_text("[{dst: a.test, proto: https}, {dst: b.test, proto: tcp}]")
            .expect_err("tcp needs a port")
            .to_string();
        assert!(error.starts_with('/') && error.contains(": rule 2: proto tcp needs a port"), "{error}");
    }
}
