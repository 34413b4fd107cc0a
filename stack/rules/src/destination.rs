//! Where a rule permits to go.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

/// `api.test`, `*.test`, `198.51.100.7`, `198.51.100.0/24`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Destination {
    /// This name: lower case, no final dot.
    Domain(String),
    /// Every name below this one, at any depth; not the name itself.
    Below(String),
    /// These addresses. One of v4-mapped addresses is the IPv4 one.
    Prefix(IpNet),
}

impl Destination {
    /// Whether `name` (lower case, no final dot) is meant.
    #[must_use]
    pub fn names(&self, name: &str) -> bool {
        match self {
            Self::Domain(domain) => domain == name,
            Self::Below(parent) => {
                name.strip_suffix(parent.as_str()).is_some_and(|head| head.len() > 1 && head.ends_with('.'))
            }
            Self::Prefix(_) => false,
        }
    }
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(dst: &str) -> Result<Self, String> {
        if let Ok(address) = IpAddr::from_str(dst) {
            return Ok(Self::Prefix(IpNet::from(address.to_canonical())));
        }
        if dst.contains('/') {
            let prefix = IpNet::from_str(dst)
                .map_err(|_| format!("`{dst}` is not a prefix such as 198.51.100.0/24"))?;
            return Ok(Self::Prefix(canonical(prefix.trunc())));
        }
        let name = dst.trim_end_matches('.').to_ascii_lowercase();
        match name.strip_prefix("*.") {
            Some(parent) => domain(parent).map(Self::Below),
            None => domain(&name).map(Self::Domain),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(name) => f.write_str(name),
            Self::Below(parent) => write!(f, "*.{parent}"),
            Self::Prefix(prefix) if prefix.prefix_len() == prefix.max_prefix_len() => {
                write!(f, "{}", prefix.addr())
            }
            Self::Prefix(prefix) => write!(f, "{prefix}"),
        }
    }
}

impl TryFrom<String> for Destination {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Destination> for String {
    fn from(destination: Destination) -> Self {
        destination.to_string()
    }
}

/// A prefix of v4-mapped addresses is the IPv4 case.
pub(crate) fn canonical(prefix: IpNet) -> IpNet {
    if let IpNet::V6(v6) = prefix
        && let (Some(v4), Some(bits)) = (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96))
        && let Ok(mapped) = Ipv4Net::new(v4, bits)
    {
        return IpNet::V4(mapped);
    }
    prefix
}

/// Checks a name: labels of letters, digits, `-` and `_`, each 1 to 63 long, 253 in all. The last
/// is no number: there is no such top-level domain, and `198.51.100.300` is a slip in an address.
fn domain(name: &str) -> Result<String, String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    if name.len() <= 253 && name.split('.').all(label) && !name.rsplit('.').take(1).all(number) {
        Ok(name.to_owned())
    } else {
        Err(format!(
            "`{name}` is not a domain name, a wildcard such as *.example.test, an address or a prefix"
        ))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Result<Destination, String> {
        text.parse()
    }

    #[test]
    fn one_destination_has_one_form() {
        for (written, meant) in [
            ("API.test.", "api.test"),
            ("*.CDN.test", "*.cdn.test"),
            ("198.51.100.7/24", "198.51.100.0/24"),
            ("198.51.100.7/32", "198.51.100.7"),
            ("::ffff:198.51.100.7", "198.51.100.7"),
            ("::ffff:198.51.100.0/120", "198.51.100.0/24"),
            ("2001:DB8::7", "2001:db8::7"),
        ] {
            assert_eq!(parsed(written).map(|destination| destination.to_string()), Ok(meant.to_owned()));
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "a b",
            "*.*.test",
            "*",
            "a..test",
            "198.51.100.0/33",
            "-/1",
            "[2001:db8::7]",
            "a/b",
            "198.51.100.300",
            "198.51.100.7.",
            "*.0.0.0.7",
            "7",
        ] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn wildcards_mean_names_below_only() {
        let below = parsed("*.test").expect("a wildcard");
        assert!(below.names("a.test") && below.names("a.b.test"));
        for name in ["test", ".test", "atest", "a.test.evil"] {
            assert!(!below.names(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn what_is_told_is_understood_again(text in "(\\*\\.)?[a-z0-9_.-]{1,20}|[0-9.]{7,15}(/[0-9]{1,2})?|[0-9a-f:]{2,20}(/[0-9]{1,3})?") {
            if let Ok(destination) = parsed(&text) {
                prop_assert_eq!(parsed(&destination.to_string()), Ok(destination));
            }
        }
    }
}
