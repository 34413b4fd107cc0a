//! Ports that a rule permits.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use serde::{Deserialize, Serialize};

/// `443` or `8000-8100`: both ends included, the first at least 1 and not above the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Ports {
    first: u16,
    last: u16,
}

/// As it stands in a file. A port between quotes is a port all the same.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    One(u16),
    Text(String),
}

impl Ports {
    /// Every port; also what stands for the ports of a transport that has none.
    pub const ALL: Self = Self { first: 0, last: u16::MAX };

    /// One port, at least 1.
    pub(crate) const fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// The first of them.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The last of them.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }

    /// The port, if there is one alone.
    #[must_use]
    pub fn single(self) -> Option<u16> {
        (self.first == self.last).then_some(self.first)
    }

    /// From the first to the last.
    #[must_use]
    pub const fn range(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }

    fn new(first: u16, last: u16) -> Result<Self, String> {
        if first == 0 || first > last {
            return Err(format!("ports {first}-{last}: the first must be at least 1 and not above the last"));
        }
        Ok(Self { first, last })
    }
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |part: &str| {
            part.trim()
                .parse::<u16>()
                .map_err(|_| format!("`{text}` is not a port or a range such as 8000-8100"))
        };
        Self::new(number(first)?, number(last)?)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.single() {
            Some(port) => write!(f, "{port}"),
            None => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl TryFrom<Written> for Ports {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::One(port) => Self::new(port, port),
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<Ports> for Written {
    fn from(ports: Ports) -> Self {
        ports.single().map_or_else(|| Self::Text(ports.to_string()), Self::One)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused() {
        for text in ["0", "9-8", "65536", "", "-", "1-", "a", "0-9"] {
            assert!(text.parse::<Ports>().is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Ports>("0").is_err());
    }

    #[test]
    fn quoted_or_not_it_is_a_port() {
        for text in ["443", "\"443\"", "\"443-443\"", "\" 443 - 443\""] {
            let ports: Ports = serde_json::from_str(text).expect(text);
            assert_eq!(
                (ports, serde_json::to_string(&ports).expect("text").as_str()),
                (Ports::one(443), "443")
            );
        }
    }
}
