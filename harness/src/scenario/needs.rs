//! What a scenario asks of the machine it runs on. Where it is missing, the cell is skipped, and says so.

use std::{fmt, str::FromStr};

use strum::IntoEnumIterator as _;

use super::types::{Connect, ConnectVia, DatagramProto, Send, SendVia, Step};

/// Something that kernels have or have not, whatever their version. How each is looked for is `lab`'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display, strum::EnumIter, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum Feature {
    /// Sockets of DCCP.
    Dccp,
    /// io_uring, and that it is not switched off.
    IoUring,
    /// Sockets of multipath TCP.
    Mptcp,
    /// Sockets of SCTP.
    Sctp,
    /// Sockets of UDP-Lite.
    Udplite,
    /// Sockets of AF_VSOCK.
    Vsock,
}

/// One entry of a scenario's `needs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// A feature of the kernel.
    Feature(Feature),
    /// `kernel>=6.1`: that version or a later one.
    Since(KernelVersion),
    /// `kernel<6.1`: an earlier one.
    Before(KernelVersion),
    /// `program: nmap`: a program in the harness's `PATH`.
    Program(String),
}

/// The first two numbers of a kernel's release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// 6 of 6.1.
    pub major: u32,
    /// 1 of 6.1.
    pub minor: u32,
}

/// A text that asks for nothing known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is nothing that a scenario can need")]
pub struct UnknownRequirement(pub String);

impl FromStr for Requirement {
    type Err = UnknownRequirement;

    fn from_str(text: &str) -> Result<Self, UnknownRequirement> {
        let version = if let Some(version) = text.strip_prefix("kernel>=") {
            version.parse().ok().map(Self::Since)
        } else {
            text.strip_prefix("kernel<").and_then(|version| version.parse().ok()).map(Self::Before)
        };
        let feature = || text.parse().ok().map(Self::Feature);
        version.or_else(feature).ok_or_else(|| UnknownRequirement(text.to_owned()))
    }
}

impl Requirement {
    /// What the calls of a step need, which no author has to say.
    pub(crate) fn of(step: &Step) -> Vec<Self> {
        let since = |major, minor| Self::Since(KernelVersion { major, minor });
        let connects = step.connect.as_ref().and_then(|Connect { via, .. }| match via {
            ConnectVia::Mptcp => Some(Self::Feature(Feature::Mptcp)),
            ConnectVia::IoUring => Some(Self::Feature(Feature::IoUring)),
            ConnectVia::IoUringSqpoll => Some(since(5, 11)),
            ConnectVia::IoUringSocket => Some(since(5, 19)),
            _ => None,
        });
        let sends = step.send.as_ref().and_then(|Send { via, .. }| match via {
            SendVia::IoUring => Some(Self::Feature(Feature::IoUring)),
            SendVia::IoUringSqpoll => Some(since(5, 11)),
            SendVia::IoUringZerocopy => Some(since(6, 0)),
            _ => None,
        });
        let carries = step.send.as_ref().and_then(|Send { proto, .. }| match proto {
            DatagramProto::Udp => None,
            DatagramProto::Udplite => Some(Self::Feature(Feature::Udplite)),
            DatagramProto::Sctp => Some(Self::Feature(Feature::Sctp)),
            DatagramProto::Dccp => Some(Self::Feature(Feature::Dccp)),
        });
        let together = step.together.iter().flatten().flat_map(Self::of);
        connects.into_iter().chain(sends).chain(carries).chain(together).collect()
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Feature(feature) => feature.fmt(f),
            Self::Since(KernelVersion { major, minor }) => write!(f, "kernel>={major}.{minor}"),
            Self::Before(KernelVersion { major, minor }) => write!(f, "kernel<{major}.{minor}"),
            Self::Program(program) => write!(f, "program: {program}"),
        }
    }
}

impl FromStr for KernelVersion {
    type Err = std::num::ParseIntError;

    /// Reads `6.1`; a version without its second number is none.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (major, minor) = text.split_once('.').unwrap_or((text, ""));
        Ok(Self { major: major.parse()?, minor: minor.parse()? })
    }
}

/// The words of `needs` as they are written, for messages.
pub(crate) fn words() -> impl Iterator<Item = String> {
    Feature::iter()
        .map(|feature| feature.to_string())
        .chain(["kernel>=6.1".to_owned(), "kernel<6.1".to_owned()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_and_written_back() {
        for text in words().chain(["kernel>=5.10".to_owned()]) {
            assert_eq!(text.parse::<Requirement>().unwrap().to_string(), text);
        }
        for text in
            ["", "MPTCP", "kernel", "kernel>=", "kernel>=6", "kernel>=6.x", "kernel>=6.1.2", "kernel<=6.1"]
        {
            assert!(text.parse::<Requirement>().is_err(), "{text}");
        }
    }

    #[test]
    fn versions_are_ordered_as_numbers() {
        let version = |text: &str| text.parse::<KernelVersion>().unwrap();
        assert!(version("5.10") > version("5.9"));
        assert!(version("6.1") > version("5.10"));
    }
}
