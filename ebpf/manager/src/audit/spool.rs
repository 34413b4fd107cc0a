//! What the reader's spool says, whether or not a reader runs.
//!
//! A row of its tables says up to which sequence it counts, so what the row does not count yet is counted in the
//! segments: the sum is that of the moment at which the segments were read.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
};

use abi::{
    FoldKey, LossPoint, flow_flag,
    spool::{
        Content, INTAKE, Identity, Intake, OUTCOME, Outcome, Ring,
        counts::OTHERS,
        format,
        table::{SELF, Values, rows},
    },
};

use super::Readings;
use crate::error::{Error, Result};

/// What was read of a spool.
#[derive(Default)]
pub(super) struct Spool {
    /// Part of its events' identities: its own, and those of segments from before its tables were damaged.
    pub nonces: HashSet<u64>,
    /// Containers that have a row of their own; [`OTHERS`] where some have none.
    pub rows: Vec<u64>,
    /// Everything of the ring asked about below this position is in it, or counted.
    pub accounted: u64,
    /// Folded attempts that the last segment tells of: of each entry how many, and up to when.
    pub folds: HashMap<FoldKey, (u64, u64)>,
}

/// Reads the spool in `dir` into `counts`; no folder is an empty spool. `ring` is the one whose position is asked.
pub(super) fn read(dir: &Path, ring: Ring, counts: &mut Readings) -> Result<Spool> {
    let (intake, outcome) = (table(&dir.join(INTAKE))?, table(&dir.join(OUTCOME))?);
    let mut spool = Spool::default();
    let Some(own) = intake.get(&SELF) else {
        return if intake.is_empty() && outcome.is_empty() {
            Ok(spool)
        } else {
            Err(foreign(dir.join(INTAKE), "its own row cannot be read"))
        };
    };
    let own = Identity::of(own).map_err(|problem| foreign(dir.join(INTAKE), &problem.to_string()))?;
    spool.nonces.insert(own.nonce);
    // Until a reader starts, the rows are those of the boot that it ran in.
    let same_boot = own.boot == ring.boot;
    let mut through: HashMap<u64, (u64, u64)> = HashMap::new();
    for (key, values) in intake.iter().filter(|(key, _)| **key != SELF) {
        let mut intake = Intake::of(values);
        let lost = |intake: &mut Intake, point| intake.loss(point).map_or(0, |tally| tally.total);
        let row = counts.entry(*key).or_default();
        row.records = row.records.saturating_add(intake.records);
        row.folds_told = row.folds_told.saturating_add(intake.folded);
        row.spool_full = row.spool_full.saturating_add(lost(&mut intake, LossPoint::SpoolFull));
        row.undecodable = row.undecodable.saturating_add(lost(&mut intake, LossPoint::Decode));
        through.entry(*key).or_default().0 = intake.through;
        spool.rows.push(*key);
        if same_boot && intake.ring == ring.id {
            spool.accounted = spool.accounted.max(intake.accounted);
        }
    }
    for (key, values) in outcome.iter().filter(|(key, _)| **key != SELF) {
        let outcome = Outcome::of(values);
        let row = counts.entry(*key).or_default();
        row.answered = row.answered.saturating_add(outcome.attempts);
        row.rejected = row.rejected.saturating_add(outcome.rejected.total);
        row.damaged = row.damaged.saturating_add(outcome.damaged.total);
        through.entry(*key).or_default().1 = outcome.through;
    }
    segments(dir, ring, &through, counts, &mut spool)?;
    Ok(spool)
}

/// Adds what the rows do not count.
fn segments(
    dir: &Path,
    ring: Ring,
    through: &HashMap<u64, (u64, u64)>,
    counts: &mut Readings,
    spool: &mut Spool,
) -> Result<()> {
    for (first, path) in paths(dir)? {
        // One that is gone was acknowledged to its end: the rows of the next reading count it.
        let Some(bytes) = contents(&path)? else { continue };
        let segment = format::recover(&bytes).map_err(|damage| foreign(path.clone(), &damage.to_string()))?;
        if segment.header.first != first {
            // A copy of another, or its new name. No reader reads it.
            continue;
        }
        spool.nonces.insert(segment.header.nonce);
        // Of the last one alone, as the reader does.
        spool.folds.clear();
        let ours = segment.header.ring == ring;
        if ours {
            spool.accounted = spool.accounted.max(segment.header.accounted);
        }
        for (sequence, slot) in segment.slots() {
            let Some(slot) = slot else { continue };
            if ours {
                spool.accounted = spool.accounted.max(slot.accounted);
            }
            let Content::Record(record) = slot.content else { continue };
            let cgroup_id = record.flow.cgroup_id;
            let key = if through.contains_key(&cgroup_id) || !through.contains_key(&OTHERS) {
                cgroup_id
            } else {
                OTHERS
            };
            let (taken_in, settled) = through.get(&key).copied().unwrap_or_default();
            let folded = record.flow.flags & flow_flag::FOLDED != 0;
            let row = counts.entry(key).or_default();
            if sequence >= taken_in {
                let told = if folded { &mut row.folds_told } else { &mut row.records };
                *told = told.saturating_add(record.event_count);
            }
            if sequence >= settled {
                row.pending = row.pending.saturating_add(record.event_count);
            }
            if folded && ours {
                spool.folds.insert(FoldKey::of(&record.flow), (record.flow.cookie, record.end_ns));
            }
        }
    }
    Ok(())
}

/// First sequences and paths of the segments, in order.
fn paths(dir: &Path) -> Result<BTreeMap<u64, PathBuf>> {
    let mut paths = BTreeMap::new();
    for entry in fs::read_dir(dir).map_err(Error::file(dir))? {
        let entry = entry.map_err(Error::file(dir))?;
        if let Some(first) = entry.file_name().to_str().and_then(format::first_of) {
            paths.insert(first, entry.path());
        }
    }
    Ok(paths)
}

fn table(path: &Path) -> Result<HashMap<u64, Values>> {
    Ok(contents(path)?.map(|bytes| rows(&bytes)).unwrap_or_default())
}

fn contents(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file(path)(error)),
    }
}

fn foreign(path: PathBuf, problem: &str) -> Error {
    Error::Spool { path, problem: problem.to_owned() }
}
