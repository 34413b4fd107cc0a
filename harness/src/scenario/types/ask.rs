//! A DNS question, byte for byte.

use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One DNS question, whatever bytes its name has. It is done with any answer; `NXDOMAIN` where that is the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// In presentation form: `\\.` is a dot in a label, `\\010` the byte of that number in decimal. In YAML, in single
    /// quotes.
    pub name: String,
    /// Type by name or number. Default `A`.
    #[serde(default = "address", rename = "type")]
    pub kind: String,
    /// Class by name or number. Default `IN`.
    #[serde(default = "internet")]
    pub class: String,
    /// Over TCP. Default false.
    #[serde(default)]
    pub tcp: bool,
    /// The name server. Default: the agent's own.
    #[serde(default)]
    pub at: Option<IpAddr>,
    /// EDNS client subnet (RFC 7871).
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub subnet: Option<IpNet>,
}

fn address() -> String {
    "A".to_owned()
}

fn internet() -> String {
    "IN".to_owned()
}

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoName {
    /// Of a label.
    #[error("each part between dots has 1 to 63 bytes")]
    Label,
    /// Of all labels, each with its length, and the end.
    #[error("it is longer than 255 bytes")]
    Length,
    /// Of an escape.
    #[error("`\\` is followed by three digits of a byte, or by a character that stands for itself")]
    Escape,
}

impl Ask {
    /// The labels of the name.
    ///
    /// # Errors
    /// If it is none.
    pub fn labels(&self) -> Result<Vec<Vec<u8>>, NoName> {
        let mut labels = vec![Vec::new()];
        let mut rest =
            self.name.strip_suffix('.').filter(|name| !name.ends_with('\\')).unwrap_or(&self.name).bytes();
        while let Some(byte) = rest.next() {
            let byte = match byte {
                b'.' => {
                    labels.push(Vec::new());
                    continue;
                }
                b'\\' => escaped(&mut rest).ok_or(NoName::Escape)?,
                plain => plain,
            };
            labels.last_mut().ok_or(NoName::Label)?.push(byte);
        }
        if labels.iter().any(|label| label.is_empty() || label.len() > 63) {
            return Err(NoName::Label);
        }
        let length: usize = labels.iter().map(|label| label.len() + 1).sum();
        if length + 1 > 255 { Err(NoName::Length) } else { Ok(labels) }
    }
}

/// The byte that an escape stands for, `\` being read.
fn escaped(rest: &mut impl Iterator<Item = u8>) -> Option<u8> {
    let first = rest.next()?;
    if !first.is_ascii_digit() {
        return Some(first);
    }
    let digits = [first, rest.next()?, rest.next()?];
    std::str::from_utf8(&digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(name: &str) -> Result<Vec<Vec<u8>>, NoName> {
        let ask: Ask = serde_json::from_value(serde_json::json!({"name": name})).unwrap();
        ask.labels()
    }

    #[test]
    fn a_name_has_the_bytes_that_it_says() {
        let expected = vec![b"a b\n\xff.\\".to_vec(), b"test".to_vec()];
        assert_eq!(labels(r"a b\010\255\.\\.test"), Ok(expected.clone()));
        assert_eq!(labels(r"a\ b\010\255\046\092.test."), Ok(expected));
        assert_eq!(labels("ä."), Ok(vec!["ä".as_bytes().to_vec()]));
    }

    #[test]
    fn what_is_no_name_is_told() {
        for (name, why) in [
            ("", NoName::Label),
            ("a..test", NoName::Label),
            (r"a\256.test", NoName::Escape),
            (r"a\25", NoName::Escape),
            (r"a\", NoName::Escape),
        ] {
            assert_eq!(labels(name), Err(why), "{name}");
        }
        let label = "x".repeat(63);
        let most = format!("{label}.{label}.{label}.{}", "x".repeat(61));
        assert!(labels(&most).is_ok());
        assert_eq!(labels(&format!("{most}x")), Err(NoName::Length));
        assert_eq!(labels(&format!("{label}x.test")), Err(NoName::Label));
    }
}
