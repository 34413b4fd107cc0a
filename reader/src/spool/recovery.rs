//! Opening a spool: what a reader that is gone left is found, counted, and gone on with.

use std::{
    collections::{HashMap, VecDeque},
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::AtomicU64},
};

use abi::{
    FoldKey, LossPoint, flow_flag,
    spool::{
        INTAKE, Identity, OUTCOME,
        table::{MAGIC, SELF},
    },
};

use super::{
    Content, Intake, Outcome, Ring, Spool,
    counts::UNKNOWN,
    format::{self, HEADER, Header},
    segment::{self, Piece, Writable},
    table::Table,
    tail::Tail,
    writer::Writer,
};
use crate::{clock::boot_ns, drain::StoredFold};

/// Rows of a table: containers, before the rest is counted as one.
const ROWS: usize = 16_384;

/// The spool cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the spool {path}: {cause}; is there room, and may this process write there?")]
pub struct OpenError {
    path: PathBuf,
    cause: io::Error,
}

/// What was found in a spool, and is of use to who fills it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The ring of the last segment.
    pub ring: Ring,
    /// Everything below this position of it is stored.
    pub accounted: u64,
    /// Folded attempts that the last segment tells of, since ever.
    pub folds: HashMap<FoldKey, StoredFold>,
    /// Every container's counts.
    pub intakes: HashMap<u64, Intake>,
    /// What became of them.
    pub outcomes: HashMap<u64, Outcome>,
}

impl Spool {
    /// Opens the spool in `dir`, making it where it is not, for at most `bound` records that are not acknowledged.
    /// Only one process may have it open.
    ///
    /// # Errors
    /// Where the folder or its files cannot be made, read or mapped. Files that are not what they should be are set
    /// aside, and what was in them is counted.
    pub fn open(dir: &Path, bound: u64) -> Result<(Self, Recovered), OpenError> {
        open(dir, bound).map_err(|cause| OpenError { path: dir.to_owned(), cause })
    }
}

fn open(dir: &Path, bound: u64) -> io::Result<(Spool, Recovered)> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "tmp") {
            fs::remove_file(path)?;
        }
    }
    let boot = boot_id()?;
    let now_ns = boot_ns()?;
    let (intake_path, outcome_path) = (dir.join(INTAKE), dir.join(OUTCOME));
    let (mut intake_table, mut intake_rows) = Table::open(&intake_path, ROWS)?;
    let (mut outcome_table, mut outcome_rows) = Table::open(&outcome_path, ROWS)?;
    let identity = intake_rows.remove(&SELF).and_then(|own| Identity::of(&own).ok());
    let mut own = outcome_rows.remove(&SELF);
    let damaged = identity.is_none() && !(intake_rows.is_empty() && outcome_rows.is_empty() && own.is_none());
    if damaged {
        // Not the tables of a spool of this format, or not any more: the counts are gone, the records are not.
        drop((intake_table, outcome_table));
        for path in [&intake_path, &outcome_path] {
            segment::set_aside(path, "its own row cannot be read, or is of another format")?;
        }
        (intake_table, intake_rows) = Table::open(&intake_path, ROWS)?;
        (outcome_table, outcome_rows) = Table::open(&outcome_path, ROWS)?;
        own = None;
    }
    let rebooted = identity.is_some_and(|identity| identity.boot != boot);
    let nonce = identity.map_or_else(|| fastrand::u64(1..), |identity| identity.nonce);
    intake_table.store(SELF, &Identity { nonce, boot }.values());
    let segments = segments(dir)?;

    let mut head = own.unwrap_or_default();
    let [magic, _, _, _, _, cursor, ..] = &mut head;
    *magic = MAGIC;
    if own.is_none() {
        // How far the endpoint has answered is not known, so all that is there is sent, some of it again.
        *cursor = segments.front().map_or(0, |piece| piece.header.first);
    }
    let cursor = *cursor;
    outcome_table.store(SELF, &head);
    let mut recovered = Recovered {
        outcomes: outcome_rows.iter().map(|(key, values)| (*key, Outcome::of(values))).collect(),
        ..Recovered::default()
    };
    let mut writer = Writer {
        dir: dir.to_owned(),
        nonce,
        bound,
        table: intake_table,
        intakes: intake_rows.iter().map(|(key, values)| (*key, Intake::of(values))).collect(),
        dirty: Default::default(),
        segment: None,
        next: 0,
        ring: Ring { boot, id: 0 },
        accounted: 0,
        wall: 0,
    };
    if rebooted {
        // Positions are of rings that are no more.
        for intake in writer.intakes.values_mut() {
            (intake.ring, intake.accounted) = (0, 0);
        }
    }
    let counted = writer.intakes.values().map(|intake| intake.through).max().unwrap_or(0);
    if damaged {
        writer.lose(UNKNOWN, LossPoint::SpoolDamaged, 1, now_ns);
        for piece in segments.iter().rev().skip(1).rev() {
            replay(piece, &mut writer, &mut recovered)?;
        }
    }
    if let Some(last) = segments.back() {
        let used = replay(last, &mut writer, &mut recovered)?;
        writer.next = last.header.first.saturating_add(used);
        // Slots that were counted, and cannot be read any more, keep their numbers: those were given away.
        if counted <= writer.next {
            writer.segment = Some(Writable::open(last, u32::try_from(used).unwrap_or(u32::MAX))?);
        }
    }
    writer.next = writer.next.max(counted).max(cursor);
    writer.flush();
    if rebooted {
        // How much was on its way is not known.
        writer.lose(UNKNOWN, LossPoint::Reboot, 1, now_ns);
    }
    recovered.intakes = writer.intakes.clone();
    let spool = Spool {
        next: AtomicU64::new(writer.next),
        acknowledged: AtomicU64::new(cursor),
        backend: Mutex::default(),
        segments: Mutex::new(segments),
        tail: Mutex::new(Tail { table: outcome_table, outcomes: recovered.outcomes.clone(), head }),
        writer: Mutex::new(writer),
        closed: Default::default(),
        changed: Default::default(),
        nonce,
        bound,
        boot,
    };
    spool.publish_losses(&super::lock(&spool.tail));
    Ok((spool, recovered))
}

/// The segments in order; those that cannot be read are set aside.
fn segments(dir: &Path) -> io::Result<VecDeque<Piece>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let Some(first) = entry.file_name().to_str().and_then(format::first_of) else { continue };
        let path = entry.path();
        if path.is_dir() {
            segment::set_aside(&path, "it is a folder")?;
            continue;
        }
        // Written to by position only, through a mapping: never truncated.
        let file = fs::OpenOptions::new().read(true).write(true).open(&path)?;
        let len = file.metadata()?.len();
        let mut header = [0; HEADER];
        let read = std::os::unix::fs::FileExt::read_at(&file, &mut header, 0)?;
        match format::header(header.get(..read).unwrap_or_default(), len) {
            Ok(header) if header.first == first => {
                found.push(Piece { header, path, file: Arc::new(file) });
            }
            Ok(_) => segment::set_aside(&path, "it has the name of another")?,
            Err(damage) => segment::set_aside(&path, &damage.to_string())?,
        }
    }
    found.sort_by_key(|piece| piece.header.first);
    Ok(found.into())
}

/// Counts what the rows do not count yet, and returns how many slots are used. Only the last segment can have such, if
/// the rows are whole: before another is made, all rows are written.
fn replay(piece: &Piece, writer: &mut Writer, recovered: &mut Recovered) -> io::Result<u64> {
    let header: &Header = &piece.header;
    recovered.ring = header.ring;
    recovered.accounted = header.accounted;
    let bytes = piece.read(header.first, header.slots.into())?;
    let mut used = 0;
    for (sequence, slot) in format::slots(&bytes, header.seed(), header.first) {
        let Some(slot) = slot else { continue };
        used = sequence.saturating_add(1).saturating_sub(header.first);
        recovered.accounted = recovered.accounted.max(slot.accounted);
        writer.recount(&slot);
        if let Content::Record(record) = &slot.content
            && record.flow.flags & flow_flag::FOLDED != 0
        {
            // In order: a later one of the same entry says more, and one of another entry takes its place.
            let stored = StoredFold { count: record.flow.cookie, last_ns: record.end_ns };
            recovered.folds.insert(FoldKey::of(&record.flow), stored);
        }
    }
    writer.next = header.first.saturating_add(used);
    Ok(used)
}

fn boot_id() -> io::Result<u128> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    u128::from_str_radix(&text.trim().replace('-', ""), 16).map_err(io::Error::other)
}

/// Makes the spool in `dir` one that was left by an earlier boot.
#[cfg(test)]
pub(super) fn pretend_another_boot(dir: &Path) {
    use std::os::unix::fs::FileExt as _;

    let (mut table, rows) = Table::open(&dir.join("intake"), ROWS).unwrap();
    let identity = Identity::of(&rows[&SELF]).unwrap();
    table.store(SELF, &Identity { boot: 1, ..identity }.values());
    for piece in segments(dir).unwrap() {
        let mut header = piece.header;
        header.ring.boot = 1;
        piece.file.write_all_at(&header.encode(), 0).unwrap();
    }
}
