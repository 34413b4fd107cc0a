//! A table of counters (`abi::spool::table` has its layout), and its one writer.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use abi::spool::{
    counts::OTHERS,
    table::{CELL, ROW, Values, WORD, live, seal},
};
use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::posix_fallocate;

/// A table, mapped.
#[derive(Debug)]
pub(super) struct Table {
    map: MmapRaw,
    places: HashMap<u64, Place>,
    used: usize,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    row: usize,
    generation: u64,
}

impl Table {
    /// Opens a table with room for `rows`, making it where it is not, and hands its rows over.
    ///
    /// # Errors
    /// Where the file cannot be made, allocated or mapped.
    pub fn open(path: &Path, rows: usize) -> io::Result<(Self, HashMap<u64, Values>)> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let len = rows.saturating_mul(ROW).max(usize::try_from(file.metadata()?.len()).unwrap_or(0));
        // Every block, so that a store to the mapping cannot fail.
        posix_fallocate(&file, 0, i64::try_from(len).map_err(io::Error::other)?)?;
        Self::map(&file, len)
    }

    fn map(file: &File, len: usize) -> io::Result<(Self, HashMap<u64, Values>)> {
        let map = MmapOptions::new().len(len).map_raw(file)?;
        let mut table = Self { map, places: HashMap::new(), used: 0 };
        let mut values = HashMap::new();
        let rows = words(&table.map);
        for (row, cells) in rows.chunks_exact(2 * CELL).enumerate() {
            let Some(live) = live(cells) else { continue };
            table.used = row.saturating_add(1);
            // The first row of a key is its own, should there be two.
            if let std::collections::hash_map::Entry::Vacant(place) = table.places.entry(live.key) {
                place.insert(Place { row, generation: live.generation });
                values.insert(live.key, live.values);
            }
        }
        Ok((table, values))
    }

    /// Whether the key has a row, or there is room for one. One row is kept for [`OTHERS`].
    pub fn has_room(&self, key: u64) -> bool {
        let kept = usize::from(key != OTHERS && !self.places.contains_key(&OTHERS));
        self.places.contains_key(&key) || self.used.saturating_add(kept) < self.map.len() / ROW
    }

    /// Writes a row. False: there is no room.
    pub fn store(&mut self, key: u64, values: &Values) -> bool {
        if !self.has_room(key) {
            return false;
        }
        let next = self.used;
        let place = self.places.entry(key).or_insert(Place { row: next, generation: 0 });
        if place.row == next {
            self.used = next.saturating_add(1);
        }
        place.generation = place.generation.saturating_add(1);
        let Place { row, generation } = *place;
        let odd = usize::from(!generation.is_multiple_of(2));
        let at = row.saturating_mul(2).saturating_add(odd).saturating_mul(CELL);
        let Some(cell) = words(&self.map).get(at..).and_then(|rest| rest.first_chunk::<CELL>()) else {
            return false;
        };
        let sealed = seal(generation, key, values);
        for (word, value) in cell.iter().zip(sealed) {
            // In order: the checksum is last.
            word.store(value, Ordering::Release);
        }
        true
    }
}

fn words(map: &MmapRaw) -> &[AtomicU64] {
    // SAFETY: the mapping is page-aligned and lives as long as the reference; all of its words are only ever
    // accessed as atomics, by this process, and every bit pattern is a valid one.
    unsafe { std::slice::from_raw_parts(map.as_ptr().cast(), map.len() / WORD) }
}

#[cfg(test)]
mod tests {
    use abi::spool::table::rows;

    use super::*;

    fn values(first: u64) -> Values {
        std::array::from_fn(|at| first + at as u64)
    }

    #[test]
    fn a_table_is_what_was_stored_last() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table");
        let (mut table, rows_before) = Table::open(&path, 4).unwrap();
        assert!(rows_before.is_empty());
        for round in 0..5 {
            assert!(table.store(7, &values(round)));
            assert!(table.store(9, &values(round + 100)));
        }
        assert!(table.store(1, &values(1)));
        assert!(!table.has_room(2) && !table.store(2, &values(2)), "the last row is that of the others");
        assert!(table.has_room(OTHERS) && table.store(OTHERS, &values(8)));
        let expected = HashMap::from([(7, values(4)), (9, values(104)), (1, values(1)), (OTHERS, values(8))]);
        assert_eq!(rows(&std::fs::read(&path).unwrap()), expected);
        drop(table);
        let (mut again, found) = Table::open(&path, 4).unwrap();
        assert_eq!(found, expected);
        assert!(again.store(9, &values(5)));
        assert_eq!(rows(&std::fs::read(&path).unwrap())[&9], values(5));
    }

    /// Whatever of a store has reached the file when its writer dies, the row is the old one or the new one.
    #[test]
    fn a_store_that_stops_anywhere_leaves_the_old_or_the_new() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table");
        let (mut table, _) = Table::open(&path, 2).unwrap();
        assert!(table.store(7, &values(1)) && table.store(7, &values(2)));
        let before = std::fs::read(&path).unwrap();
        assert!(table.store(7, &values(3)));
        let after = std::fs::read(&path).unwrap();
        for stop in (0..=ROW).step_by(8) {
            let mut torn = after[..stop].to_vec();
            torn.extend_from_slice(&before[stop..]);
            let row = rows(&torn)[&7];
            assert!(row == values(2) || row == values(3), "stopped after {stop} bytes");
        }
    }
}
