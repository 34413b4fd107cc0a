//! What goes wrong on the way of the evidence: faults of the chain, as steps.

use std::{fmt, str::FromStr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stack::Lane;

use super::duration_text;
pub use crate::endpoint::Answer;

/// What a supervisor starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Process {
    /// The reader.
    Reader,
    /// CoreDNS, where it is the case's resolver.
    Coredns,
    /// The proxy, where that is Envoy: it ends by SIGKILL, and what it held in its memory with it.
    Envoy,
}

/// What another takes the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Recreated {
    /// The agent's container: its processes end, and another with a cgroup and an enrolment of its own begins.
    Container,
}

/// `reader`, or `reader 20 times in 4s`: SIGKILLs at random instants, each followed by a new start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Kill {
    /// How often.
    pub times: u32,
    /// From the first instant that is possible to the last.
    pub within: Duration,
}

/// `clawker-egress`, or `clawker-egress 5 times in 2s`: the stream goes on in another index, at random instants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rollover {
    /// Whose stream.
    pub lane: Lane,
    /// How often.
    pub times: u32,
    /// From the first instant that is possible to the last.
    pub within: Duration,
}

/// `endpoint for 5s`, `reader for 1s`, in the stack tier `opensearch for 5s`: not there from now on, and back after that,
/// while the steps go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Outage {
    /// What is not there.
    pub part: Stopped,
    /// How long.
    pub length: Duration,
}

/// What can be stopped for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display, strum::EnumIter, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum Stopped {
    /// The endpoint: its listener is closed and its connections are cut. Back on the same port.
    Endpoint,
    /// The reader: it ends by SIGTERM.
    Reader,
    /// The case's CoreDNS: it ends by SIGKILL.
    Coredns,
    /// The case's Envoy: it ends by SIGKILL.
    Envoy,
    /// The collector: it ends by SIGKILL.
    Collector,
    /// The relay: it ends by SIGKILL.
    Relay,
    /// The store: it ends by SIGKILL.
    Opensearch,
    /// Writes to the store, which its operator blocks.
    Writes,
    /// Room on the store's disk: past its last watermark it only deletes.
    Room,
    /// A field in the store's mapping: it refuses every document.
    Field,
}

impl Stopped {
    /// Whether it is a part of the telemetry plane, or of its store.
    #[must_use]
    pub const fn is_of_plane(self) -> bool {
        !matches!(self, Self::Endpoint | Self::Reader | Self::Coredns | Self::Envoy)
    }
}

/// A text that is not in the form of its fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoFault {
    /// Of [`Kill`].
    #[error("`{0}` is nothing that can be killed: `reader`, or `reader 20 times in 4s`")]
    Kill(String),
    /// Of [`Rollover`].
    #[error("`{0}` is no rollover: `clawker-egress`, or `clawker-egress 5 times in 2s`")]
    Rollover(String),
    /// Of [`Outage`].
    #[error(
        "`{0}` is not an outage: `endpoint for 5s`, `reader for 1s`; in the stack tier `envoy`, `coredns`, `opensearch`, `collector`, `relay`, `writes`, `room` or `field`"
    )]
    Outage(String),
}

/// What, how often and within which time: `reader`, `reader 20 times in 4s`.
fn repeated(text: &str) -> Option<(&str, u32, Duration)> {
    match text.split(' ').collect::<Vec<_>>().as_slice() {
        [what] => Some((what, 1, Duration::ZERO)),
        [what, times, "times", "in", length] => {
            Some((what, times.parse().ok()?, duration_text::parse(length).ok()?))
        }
        _ => None,
    }
}

/// The same as text.
fn as_repeated(f: &mut fmt::Formatter<'_>, what: &str, times: u32, within: Duration) -> fmt::Result {
    match times {
        1 if within.is_zero() => f.write_str(what),
        times => write!(f, "{what} {times} times in {}", duration_text::text(&within)),
    }
}

impl FromStr for Kill {
    type Err = NoFault;

    fn from_str(text: &str) -> Result<Self, NoFault> {
        match repeated(text) {
            Some(("reader", times, within)) => Ok(Self { times, within }),
            _ => Err(NoFault::Kill(text.to_owned())),
        }
    }
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        as_repeated(f, "reader", self.times, self.within)
    }
}

impl FromStr for Rollover {
    type Err = NoFault;

    fn from_str(text: &str) -> Result<Self, NoFault> {
        let parsed = repeated(text).and_then(|(name, times, within)| {
            let lane = Lane::ALL.into_iter().find(|lane| lane.stream() == name)?;
            Some(Self { lane, times, within })
        });
        parsed.ok_or_else(|| NoFault::Rollover(text.to_owned()))
    }
}

impl fmt::Display for Rollover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        as_repeated(f, &self.lane.stream(), self.times, self.within)
    }
}

impl FromStr for Outage {
    type Err = NoFault;

    fn from_str(text: &str) -> Result<Self, NoFault> {
        let parsed = text.split_once(" for ").and_then(|(part, length)| {
            Some(Self { part: part.parse().ok()?, length: duration_text::parse(length).ok()? })
        });
        parsed.ok_or_else(|| NoFault::Outage(text.to_owned()))
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.part, duration_text::text(&self.length))
    }
}

/// Serde's way to these texts.
macro_rules! as_text {
    ($($kind:ident),*) => {$(
        impl TryFrom<String> for $kind {
            type Error = NoFault;

            fn try_from(text: String) -> Result<Self, NoFault> {
                text.parse()
            }
        }

        impl From<$kind> for String {
            fn from(fault: $kind) -> Self {
                fault.to_string()
            }
        }
    )*};
}
as_text!(Kill, Rollover, Outage);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_and_written_back() {
        for text in ["reader", "reader 20 times in 4s", "reader 3 times in 250ms"] {
            assert_eq!(text.parse::<Kill>().unwrap().to_string(), text);
        }
        for text in ["", "Reader", "endpoint", "reader twice", "reader 2 times", "reader -1 times in 4s"] {
            assert!(text.parse::<Kill>().is_err(), "{text}");
        }
        for text in ["clawker-egress", "clawker-envoy 5 times in 2s"] {
            assert_eq!(text.parse::<Rollover>().unwrap().to_string(), text);
        }
        for text in ["", "clawker", "clawker-egress for 5s", "clawker-egress 5 times"] {
            assert!(text.parse::<Rollover>().is_err(), "{text}");
        }
        for text in ["endpoint for 5s", "reader for 250ms", "opensearch for 5s", "room for 1s"] {
            assert_eq!(text.parse::<Outage>().unwrap().to_string(), text);
        }
        for text in ["", "endpoint", "endpoint for", "endpoint for ever", "agent for 5s", "endpoint  for 5s"]
        {
            assert!(text.parse::<Outage>().is_err(), "{text}");
        }
    }
}
