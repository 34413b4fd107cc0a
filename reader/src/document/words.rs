//! The closed sets of a document: those of a record, decoded, and the reader's own.

use abi::{CloseReason, Direction, Hook, Reason, Record, Unknown, Verdict};

/// A record's one-byte sets, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    /// What was decided.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Where.
    pub hook: Hook,
    /// How it ended.
    pub close_reason: CloseReason,
    /// Who opened it.
    pub direction: Direction,
}

/// A byte of a record that is no member of its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{byte} is not a known {set}")]
pub struct UnknownWord {
    /// Which set.
    pub set: &'static str,
    /// The byte.
    pub byte: u8,
}

impl Words {
    /// Decodes the sets of `record`.
    ///
    /// # Errors
    /// The first byte that is no member of its set.
    pub fn of(record: &Record) -> Result<Self, UnknownWord> {
        let flow = &record.flow;
        Ok(Self {
            verdict: known("verdict", flow.verdict)?,
            reason: known("reason", flow.reason)?,
            hook: known("hook", flow.hook)?,
            close_reason: known("close_reason", flow.close_reason)?,
            direction: known("direction", flow.direction)?,
        })
    }
}

fn known<T: TryFrom<u8, Error = Unknown>>(set: &'static str, byte: u8) -> Result<T, UnknownWord> {
    T::try_from(byte).map_err(|Unknown(byte)| UnknownWord { set, byte })
}

/// How a document's container was found. All times are of the kernel side's clock, so the answer does
/// not depend on when the reader came to read anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attribution {
    /// It was enrolled, or ran, from the flow's start to its end. It is named.
    Known,
    /// It was at the flow's start, and left by the flow's end: the flow outlived it. It is named.
    Late,
    /// The last container with this cgroup id left before the flow started. Nobody is named,
    /// because a reused id must not inherit.
    Gone,
    /// No container with this cgroup id is known to have been there by the flow's start, or two sources name two.
    /// Nobody is named.
    Unknown,
}

impl Attribution {
    /// Every member.
    pub const ALL: &'static [Self] = &[Self::Known, Self::Late, Self::Gone, Self::Unknown];

    /// The word used in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Late => "late",
            Self::Gone => "gone",
            Self::Unknown => "unknown",
        }
    }
}

/// The application protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L7Proto {
    /// The kernel side does not look into payload.
    Unknown,
}

impl L7Proto {
    /// Every member.
    pub const ALL: &'static [Self] = &[Self::Unknown];

    /// The word used in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
        }
    }
}

/// What kind of record a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordType {
    /// A flow that ended, or a denied attempt.
    Flow,
    /// Records that were lost.
    Loss,
}

impl RecordType {
    /// Every member.
    pub const ALL: &'static [Self] = &[Self::Flow, Self::Loss];

    /// The word used in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Flow => "flow",
            Self::Loss => "loss",
        }
    }
}
