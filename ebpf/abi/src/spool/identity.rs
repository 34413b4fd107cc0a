//! Whose a table of counters is: its own row, [`SELF`](super::table::SELF).

use super::{
    format::VERSION,
    table::{MAGIC, Values},
};

/// Of which spool, and of which boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Part of the identity of each of its events.
    pub nonce: u64,
    /// The boot that its ring positions are of, as the kernel numbers them.
    pub boot: u128,
}

/// Why a row is none that can be read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOurs {
    /// It does not begin as one does.
    #[error("it is no table of counters")]
    Foreign,
    /// Of another format.
    #[error("it is of format {0}, not {VERSION}")]
    Version(u64),
}

impl Identity {
    /// The row.
    pub fn values(self) -> Values {
        let (high, low) = ((self.boot >> 64) as u64, self.boot as u64);
        let words = [MAGIC, u64::from(VERSION), self.nonce, high, low];
        std::array::from_fn(|at| words.get(at).copied().unwrap_or(0))
    }

    /// What a row says.
    ///
    /// # Errors
    /// If it is another file's, or of another format.
    pub fn of(values: &Values) -> Result<Self, NotOurs> {
        let [MAGIC, version, nonce, high, low, ..] = *values else { return Err(NotOurs::Foreign) };
        if version != u64::from(VERSION) {
            return Err(NotOurs::Version(version));
        }
        Ok(Self { nonce, boot: u128::from(high) << 64 | u128::from(low) })
    }
}
