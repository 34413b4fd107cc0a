//! A file of counters, one row a key, that is right whenever its writer is killed.
//!
//! # Layout
//! The file is rows of 512 bytes, each of two cells, each of 32 words:
//! ```text
//! word 0   generation; the valid cell of the higher generation is the row
//!      1   key; row 0 is the file's own and has the key `SELF`
//!   2…30   the values
//!     31   CRC-32C of the words before
//! ```
//! A new value is written over the older cell, the checksum last: a writer that is killed on the way leaves a cell
//! that does not count, and the other one that does. Only absolute values are written. Rows are never given back.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

/// Bytes of a word.
pub const WORD: usize = size_of::<u64>();
/// Words of a cell.
pub const CELL: usize = 32;
/// Bytes of a row.
pub const ROW: usize = 2 * CELL * WORD;
/// Words of a value.
pub const VALUES: usize = CELL - 3;
/// Key of row 0.
pub const SELF: u64 = u64::MAX - 1;
/// First value of a table's own row.
pub const MAGIC: u64 = u64::from_ne_bytes(*b"clwtable");

/// The values of a row.
pub type Values = [u64; VALUES];

/// The rows of a table that somebody else may be writing, from its bytes. A pure function of any bytes whatever.
pub fn rows(bytes: &[u8]) -> HashMap<u64, Values> {
    let mut found = HashMap::new();
    let (rows, _) = bytes.as_chunks::<ROW>();
    for row in rows {
        let (row, _) = row.as_chunks::<8>();
        let cells: Vec<AtomicU64> =
            row.iter().map(|word| AtomicU64::new(u64::from_ne_bytes(*word))).collect();
        if let Some(live) = live(&cells) {
            found.entry(live.key).or_insert(live.values);
        }
    }
    found
}

/// What a row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    /// Rises with every store.
    pub generation: u64,
    /// Whose.
    pub key: u64,
    /// The counts.
    pub values: Values,
}

/// The row that two cells say.
pub fn live(cells: &[AtomicU64]) -> Option<Live> {
    let cell = |words: &[AtomicU64]| {
        // Most of a file was never written.
        if words.first()?.load(Ordering::Acquire) == 0 {
            return None;
        }
        let words: [u64; CELL] =
            std::array::from_fn(|at| words.get(at).map_or(0, |word| word.load(Ordering::Acquire)));
        let [generation, key, ..] = words;
        let values: Values = std::array::from_fn(|at| words.get(at.saturating_add(2)).copied().unwrap_or(0));
        (seal(generation, key, &values) == words).then_some(Live { generation, key, values })
    };
    let (first, second) = cells.split_at_checked(CELL)?;
    [cell(first), cell(second)].into_iter().flatten().max_by_key(|live| live.generation)
}

/// A cell's words, checksum and all.
pub fn seal(generation: u64, key: u64, values: &Values) -> [u64; CELL] {
    let mut crc = crc32c::crc32c(&generation.to_ne_bytes());
    crc = crc32c::crc32c_append(crc, &key.to_ne_bytes());
    for value in values {
        crc = crc32c::crc32c_append(crc, &value.to_ne_bytes());
    }
    let head = [generation, key];
    let mut words = head.into_iter().chain(*values).chain([u64::from(crc)]);
    std::array::from_fn(|_| words.next().unwrap_or(0))
}
