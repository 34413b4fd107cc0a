//! A lane's file: its records in the order in which they came, and its ledger, which changes with them or not at all.
//!
//! `accepted = delivered + rejected + pending`, whenever the process ends. `pending` is counted, not kept.

mod open;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use redb::{
    AccessGuard, Database, ReadableDatabase as _, ReadableTable, ReadableTableMetadata as _, Table,
    TableDefinition,
};

use crate::record;
pub use open::OpenError;

/// Records by sequence number: each a `ResourceLogs` of one record.
const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");
/// The ledger, and what identities are made of.
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
/// Bytes that a record costs besides its own.
const AROUND: u64 = 64;

/// A lane's file. Opened again after whatever was wrong with it.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    node: String,
    room: u64,
    numbered: bool,
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    database: Database,
    /// Drawn when the file was made: what a file that is gone has named is not named again.
    nonce: u64,
}

/// A lane's ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sequence number of the next record.
    next: u64,
    /// Records that are, or were, kept.
    pub accepted: u64,
    /// Of them: the endpoint took them.
    pub delivered: u64,
    /// Of them: the endpoint refused them for good.
    pub rejected: u64,
    /// Of them: kept still.
    pub pending: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Records that had no room. Their senders were told.
    pub refused: u64,
    /// Records that were too large to be kept. Their senders were told.
    pub oversized: u64,
}

/// What is to be done to a lane's file.
#[derive(Debug)]
pub enum Work {
    /// Keep these.
    Keep(ExportLogsServiceRequest),
    /// These were answered for; some of them, in number, were refused for good.
    Settle {
        /// The records.
        sequences: Vec<u64>,
        /// How many were refused.
        rejected: u64,
    },
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// Records are kept, but for those that are too large.
    Kept {
        /// Too large.
        oversized: u64,
    },
    /// There is no room for a request at this time.
    Full,
    /// There is no room for this request at any time.
    TooLarge,
    /// Records were removed.
    Settled,
}

/// A record that is kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its place.
    pub sequence: u64,
    /// A `ResourceLogs` of one record.
    pub record: Bytes,
}

impl Store {
    /// Opens the file, or makes it. One that is damaged is set aside. Records that are `numbered` keep the `event_id` that
    /// they come with.
    ///
    /// # Errors
    /// If another process has it, or it cannot be read or written.
    pub fn open(path: PathBuf, node: String, room: u64, numbered: bool) -> Result<Self, OpenError> {
        let open = open::open(&path)?;
        Ok(Self { path, node, room, numbered, open: Mutex::new(Some(open)) })
    }

    /// Most bytes that are kept.
    pub const fn room(&self) -> u64 {
        self.room
    }

    /// Does all of it or nothing; when it returns, it is on the disk.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn commit(&self, work: Vec<Work>) -> Result<Vec<Done>, OpenError> {
        self.with(|open| {
            let transaction = open.database.begin_write()?;
            let mut all = Vec::with_capacity(work.len());
            {
                let mut records = transaction.open_table(RECORDS)?;
                let mut numbers = transaction.open_table(NUMBERS)?;
                let mut counts = Counts::read(&numbers)?;
                for work in work {
                    all.push(match work {
                        Work::Keep(request) => self.keep(request, open.nonce, &mut records, &mut counts)?,
                        Work::Settle { sequences, rejected } => {
                            settle(&sequences, rejected, &mut records, &mut counts)?
                        }
                    });
                }
                counts.write(&mut numbers)?;
            }
            transaction.commit()?;
            Ok(all)
        })
    }

    fn keep(
        &self,
        request: ExportLogsServiceRequest,
        nonce: u64,
        records: &mut Table<'_, u64, &[u8]>,
        counts: &mut Counts,
    ) -> Result<Done, redb::Error> {
        let came = record::count(&request);
        let first = counts.next;
        let id = |place: u64| format!("{}-{nonce:016x}-{}", self.node, first.saturating_add(place));
        let Some(encoded) = record::encode(request, self.room, self.numbered, id) else {
            counts.oversized = counts.oversized.saturating_add(came);
            return Ok(Done::TooLarge);
        };
        let number = encoded.records.len() as u64;
        let bytes = encoded.bytes.saturating_add(AROUND.saturating_mul(number));
        if counts.bytes.saturating_add(bytes) > self.room {
            counts.refused = counts.refused.saturating_add(came);
            return Ok(if bytes > self.room { Done::TooLarge } else { Done::Full });
        }
        for record in encoded.records {
            records.insert(counts.next, record.as_slice())?;
            counts.next = counts.next.saturating_add(1);
        }
        counts.bytes = counts.bytes.saturating_add(bytes);
        counts.accepted = counts.accepted.saturating_add(number);
        counts.oversized = counts.oversized.saturating_add(encoded.oversized);
        Ok(Done::Kept { oversized: encoded.oversized })
    }

    /// The oldest records, at most so many and so many bytes, but one in any case.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn oldest(&self, number: usize, bytes: usize) -> Result<Vec<Kept>, OpenError> {
        self.with(|open| {
            let records = open.database.begin_read()?.open_table(RECORDS)?;
            let (mut kept, mut sum) = (Vec::new(), 0_usize);
            for entry in records.range::<u64>(..)?.take(number) {
                let one = Kept::of(&entry?);
                sum = sum.saturating_add(one.record.len());
                if sum > bytes && !kept.is_empty() {
                    break;
                }
                kept.push(one);
            }
            Ok(kept)
        })
    }

    /// The newest records, at most so many.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn newest(&self, number: usize) -> Result<Vec<Kept>, OpenError> {
        self.with(|open| {
            let records = open.database.begin_read()?.open_table(RECORDS)?;
            records.range::<u64>(..)?.rev().take(number).map(|entry| Ok(Kept::of(&entry?))).collect()
        })
    }

    /// The ledger.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn counts(&self) -> Result<Counts, OpenError> {
        self.with(|open| {
            let transaction = open.database.begin_read()?;
            let mut counts = Counts::read(&transaction.open_table(NUMBERS)?)?;
            counts.pending = transaction.open_table(RECORDS)?.len()?;
            Ok(counts)
        })
    }

    /// How many files of this lane were damaged, and are beside it.
    pub fn set_aside(&self) -> u64 {
        open::set_aside(&self.path)
    }

    /// One at a time. After an error the file is closed, and opened by whoever comes next.
    fn with<T>(&self, act: impl FnOnce(&Open) -> Result<T, redb::Error>) -> Result<T, OpenError> {
        // Taken out while it is used: valid even if a holder panicked.
        let mut place = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = match place.take() {
            Some(open) => open,
            None => open::open(&self.path)?,
        };
        // What it does not expect of a file it may answer with a panic.
        match catch_unwind(AssertUnwindSafe(|| act(&open))) {
            Ok(Ok(result)) => {
                *place = Some(open);
                Ok(result)
            }
            Ok(Err(cause)) => Err(OpenError::new(&self.path, cause)),
            Err(_) => Err(OpenError::Panicked { path: self.path.clone() }),
        }
    }
}

impl Kept {
    fn of((sequence, record): &(AccessGuard<'_, u64>, AccessGuard<'_, &[u8]>)) -> Self {
        Self { sequence: sequence.value(), record: Bytes::copy_from_slice(record.value()) }
    }
}

fn settle(
    sequences: &[u64],
    rejected: u64,
    records: &mut Table<'_, u64, &[u8]>,
    counts: &mut Counts,
) -> Result<Done, redb::Error> {
    let mut removed = 0_u64;
    for sequence in sequences {
        if let Some(record) = records.remove(sequence)? {
            removed = removed.saturating_add(1);
            let bytes = AROUND.saturating_add(record.value().len() as u64);
            counts.bytes = counts.bytes.saturating_sub(bytes);
        }
    }
    let rejected = rejected.min(removed);
    counts.rejected = counts.rejected.saturating_add(rejected);
    counts.delivered = counts.delivered.saturating_add(removed.saturating_sub(rejected));
    Ok(Done::Settled)
}

impl Counts {
    fn read(numbers: &impl ReadableTable<&'static str, u64>) -> Result<Self, redb::Error> {
        let number = |name: &str| Ok::<_, redb::Error>(numbers.get(name)?.map_or(0, |number| number.value()));
        Ok(Self {
            next: number("next")?,
            accepted: number("accepted")?,
            delivered: number("delivered")?,
            rejected: number("rejected")?,
            pending: 0,
            bytes: number("bytes")?,
            refused: number("refused")?,
            oversized: number("oversized")?,
        })
    }

    fn write(&self, numbers: &mut Table<'_, &str, u64>) -> Result<(), redb::Error> {
        for (name, number) in [
            ("next", self.next),
            ("accepted", self.accepted),
            ("delivered", self.delivered),
            ("rejected", self.rejected),
            ("bytes", self.bytes),
            ("refused", self.refused),
            ("oversized", self.oversized),
        ] {
            numbers.insert(name, number)?;
        }
        Ok(())
    }
}

/// A lane's file.
pub fn file(folder: &Path, lane: &str) -> PathBuf {
    folder.join(format!("{lane}.redb"))
}

#[cfg(test)]
mod tests;
