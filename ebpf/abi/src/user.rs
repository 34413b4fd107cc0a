//! What user space shares: pinned paths, and the enrolment file that the reader attributes from.

use serde::{Deserialize, Serialize};

use crate::{
    Budget, Bypass, Container, DnsEntry, DnsKey, DomainName, Flow, FlowKey, Fold, FoldKey, Identity, Ledger,
    MetricKey, Noted, Prefix, PrefixKey, Record, Routes, Sock,
};

macro_rules! pod {
    ($($shape:ty),+ $(,)?) => {
        $(
            // SAFETY: `repr(C)`, made of integers and byte arrays only, without padding (checked by
            // the `no_padding` test), so every bit pattern is valid.
            unsafe impl aya::Pod for $shape {}
        )+

        #[cfg(test)]
        pub(crate) const SHAPES: &[(&str, usize)] = &[$((stringify!($shape), size_of::<$shape>())),+];
    };
}

pod!(
    Budget, Bypass, Container, DnsEntry, DnsKey, DomainName, Flow, FlowKey, Fold, FoldKey, Identity, Ledger,
    MetricKey, Noted, Prefix, PrefixKey, Record, Routes, Sock,
);

impl Record {
    /// As it lies in the ring or in a file, whatever it says.
    pub fn from_bytes(bytes: &[u8; size_of::<Self>()]) -> Self {
        // SAFETY: the array has its size; it is `aya::Pod`, so every bit pattern is a valid one; `read_unaligned` asks
        // for no alignment.
        unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() }
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; size_of::<Self>()] {
        // SAFETY: no padding (`no_padding`), so each of its bytes is initialised; the array has its size, and lives
        // as long as the reference.
        unsafe { &*core::ptr::from_ref(self).cast() }
    }
}

/// The pins that the reader knows too, below a pin directory; the manager knows them all.
pub mod pin {
    /// Where the maps are pinned unless told otherwise.
    pub const DEFAULT_DIR: &str = "/sys/fs/bpf/clawker";
    /// Array of one `u32`: [`ABI_VERSION`](crate::ABI_VERSION).
    pub const ABI_VERSION: &str = "abi_version";
    /// The ring buffer of [`Record`](crate::Record)s.
    pub const EVENTS: &str = "events_ringbuf";
    /// Hash, [`FoldKey`](crate::FoldKey) → [`Fold`](crate::Fold).
    pub const FOLDS: &str = "folds";
    /// Hash, [`FoldKey`](crate::FoldKey) → [`Noted`](crate::Noted). The reader writes it.
    pub const FOLD_READINGS: &str = "fold_readings";
    /// Hash, cgroup id → [`Ledger`](crate::Ledger).
    pub const LEDGER: &str = "ledger";
    /// Hash, domain identity → [`DomainName`](crate::DomainName).
    pub const DOMAIN_NAMES: &str = "domain_names";
}

/// One enrolled container, as the manager writes it to `<state dir>/containers/<cgroup id>.json`
/// (default state directory `/run/clawker`). Label values are byte for byte those of the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// Inode number of its cgroup.
    pub cgroup_id: u64,
    /// The runtime's identifier.
    pub container_id: String,
    /// Raw label `dev.clawker.agent`.
    pub agent: String,
    /// Raw label `dev.clawker.project`.
    pub project: String,
    /// When it was enrolled, nanoseconds of `CLOCK_BOOTTIME`.
    pub enrolled_ns: u64,
    /// When it was retired, nanoseconds of `CLOCK_BOOTTIME`; absent while it is live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired_ns: Option<u64>,
    /// Who held this cgroup id before, oldest first, at most [`MOST_EARLIER`](Self::MOST_EARLIER), each retired and
    /// without its own: a reader may come to read this file only after several of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Self>,
}

impl Enrolment {
    /// State directory unless told otherwise.
    pub const DEFAULT_STATE_DIR: &str = "/run/clawker";
    /// The container label whose value is [`agent`](Self::agent).
    pub const AGENT_LABEL: &str = "dev.clawker.agent";
    /// The container label whose value is [`project`](Self::project).
    pub const PROJECT_LABEL: &str = "dev.clawker.project";
    /// Folder of enrolment files below the state directory.
    pub const FOLDER: &str = "containers";
    /// Longest label or container identifier, bytes. Longer ones are not enrolled: readers need a bound.
    pub const MOST_LABEL: usize = 4096;
    /// Most earlier holders of the cgroup id that are kept.
    pub const MOST_EARLIER: usize = 7;
    /// Longest enrolment file, bytes: JSON writes a control character in six, and the rest is numbers.
    pub const MOST_FILE: usize = (1 + Self::MOST_EARLIER) * (3 * 6 * Self::MOST_LABEL + 1024);

    /// Everyone it tells of, oldest first, each without its own earlier ones; the latest
    /// [`MOST_EARLIER`](Self::MOST_EARLIER).
    pub fn into_holders(mut self) -> Vec<Self> {
        let mut holders = core::mem::take(&mut self.earlier);
        holders.push(self);
        let surplus = holders.len().saturating_sub(Self::MOST_EARLIER);
        holders.drain(..surplus);
        holders
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shape with padding would leak kernel stack to user space and make keys compare unequal.
    #[test]
    fn no_padding() {
        let expected = [
            ("Budget", 16),
            ("Bypass", 16),
            ("Container", 4 * 16 + 8 + 8 + 3 * 2 + 6 + 4),
            ("DnsEntry", 4 * 16 + 8),
            ("DnsKey", 24),
            ("DomainName", 8 + 4 + 4 + 256),
            ("Flow", 9 * 8 + 4 * 16 + 4 * 4 + 4 * 2 + 8),
            ("FlowKey", 32),
            ("Fold", 3 * 8 + 16 + 3 * 4 + 2 + 2),
            ("FoldKey", 8 + 16 + 2 + 6),
            ("Identity", 16),
            ("Ledger", 6 * 8 + 5 * 8 + 8),
            ("MetricKey", 16),
            ("Noted", 16),
            ("Prefix", 16 * 8 + 8),
            ("PrefixKey", 24),
            ("Record", 16 + 168),
            ("Routes", 16 * 8),
            ("Sock", 16 + 8 + 32 + 4 * 16 + 6 * 4 + 3 * 2 + 6 + 4),
        ];
        assert_eq!(SHAPES, expected);
    }
}
