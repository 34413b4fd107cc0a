//! What stays of a container that is retired: its counters, in a file, once nothing of it is under way.
//!
//! Its entries of `ledger`, `folds` and `fold_readings` make room for others only when they say all that
//! they ever will: its flows have ended, each record is in the ring or beyond, and every fold is documented. Then
//! their sum is written to `ledgers/<cgroup id>.json` and they are removed, in this order: a manager that is killed in
//! between finds the life in the file already, and only removes. A cgroup id that is enrolled again goes on from there.

mod gone;

use std::{
    collections::HashMap,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use abi::{Enrolment, FoldKey, Hook, Ledger, Noted, Reason};
pub use gone::Gone;
use serde::{Deserialize, Serialize};

use crate::{
    Manager,
    clock::boot_ns,
    error::{Error, Result},
    pins::found,
    state::{read_json, write_json},
};

/// Folder of retired containers' counters below the state directory.
const FOLDER: &str = "ledgers";
/// A hook that was running when it was detached has ended long before: 10 ms.
const QUIET_NS: u64 = 10_000_000;
/// How long `retire` waits for the folds' records, which a reader stores within 250 ms; and `unload` for all that is
/// under way.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// A container's counters of the ledger, as [`Ledger`] defines them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Attempts that were denied.
    pub denied: u64,
    /// Flows that were let through.
    pub opened: u64,
    /// Flows that ended.
    pub closed: u64,
    /// Records handed to the ring.
    pub submitted: u64,
    /// Denied attempts that were counted instead.
    pub folded: u64,
}

impl From<Ledger> for Totals {
    fn from(ledger: Ledger) -> Self {
        let Ledger { denied, opened, closed, submitted, folded, .. } = ledger;
        Self { denied, opened, closed, submitted, folded }
    }
}

impl Totals {
    /// Adds `more` to each.
    pub(crate) fn add(&mut self, more: Self) {
        self.denied = self.denied.saturating_add(more.denied);
        self.opened = self.opened.saturating_add(more.opened);
        self.closed = self.closed.saturating_add(more.closed);
        self.submitted = self.submitted.saturating_add(more.submitted);
        self.folded = self.folded.saturating_add(more.folded);
    }
}

/// `ledgers/<cgroup id>.json`: lives of a cgroup id that are over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Past {
    /// Which.
    pub cgroup_id: u64,
    /// When the last of them was enrolled.
    pub enrolled_ns: u64,
    /// Their sum.
    pub totals: Totals,
}

/// What the maps say of a retired container's folds.
#[derive(Default)]
struct Folded {
    keys: Vec<FoldKey>,
    /// Of notes, whether or not there still is an entry.
    noted: Vec<FoldKey>,
    count: u64,
    undocumented: u64,
}

impl Folded {
    fn add(&mut self, key: FoldKey, count: u64, first_ns: u64, noted: Option<Noted>) {
        self.keys.push(key);
        self.count = self.count.saturating_add(count);
        let undocumented = count.saturating_sub(noted.unwrap_or_default().of(first_ns));
        self.undocumented = self.undocumented.saturating_add(undocumented);
    }
}

impl Manager {
    /// Moves the counters of retired containers of which nothing is under way from the maps to their files; returns
    /// how many. The others are looked at again at the next call.
    ///
    /// # Errors
    /// If a map or a state file refuses.
    pub fn clear_retired(&self) -> Result<usize> {
        let retired = self.unenrolled()?;
        if retired.is_empty() {
            return Ok(0);
        }
        let mut folds = self.folds_of(&retired)?;
        let mut cleared = 0_usize;
        for cgroup_id in retired {
            let folded = folds.remove(&cgroup_id).unwrap_or_default();
            if self.clear_one(cgroup_id, &folded)? {
                cleared = cleared.saturating_add(1);
            }
        }
        Ok(cleared)
    }

    /// Waits until every fold of a container that was just retired is documented, as its own; or until it is clear that
    /// no reader is there to do so.
    pub(crate) fn await_folds(&self, cgroup_id: u64) -> Result<()> {
        let deadline = Instant::now().checked_add(PATIENCE);
        while deadline.is_some_and(|deadline| Instant::now() < deadline) {
            match self.undocumented(cgroup_id) {
                // The daemon has cleared it meanwhile.
                Ok(0) | Err(Error::NotEnrolled(_)) => return Ok(()),
                Ok(_) => thread::sleep(LOOK),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Moves the counters of an earlier life of a cgroup id out of the way, if nothing of it is under way. If something
    /// is, they go on, and what was folded in both lives is nobody's: the container must not wait for its enrolment.
    pub(crate) fn clear_earlier(&self, cgroup_id: u64) -> Result<()> {
        let enrolled = found("container_map", self.pins.containers()?.get(&cgroup_id, 0))?.is_some();
        if !enrolled && !self.is_cleared(cgroup_id)? {
            let folded = self.folds_of(&[cgroup_id])?.remove(&cgroup_id).unwrap_or_default();
            self.clear_one(cgroup_id, &folded)?;
        }
        Ok(())
    }

    /// Retires every container.
    pub(crate) fn retire_all(&self) -> Result<()> {
        for enrolment in self.enrolments()?.into_iter().filter(|one| one.retired_ns.is_none()) {
            match self.retire_now(enrolment.cgroup_id) {
                // Somebody else was faster.
                Ok(()) | Err(Error::NotEnrolled(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes that every container is retired, where there are no maps to clear.
    pub(crate) fn call_retired(&self) -> Result<()> {
        let _lock = self.lock_changes()?;
        for mut enrolment in self.enrolments()?.into_iter().filter(|one| one.retired_ns.is_none()) {
            enrolment.retired_ns = Some(boot_ns());
            write_json(&self.enrolment_path(enrolment.cgroup_id), &enrolment)?;
        }
        Ok(())
    }

    /// Ends the flows of retired containers and moves their counters to their files; what cannot be within a second,
    /// because the ring is full or no reader documents it, stays.
    pub(crate) fn settle(&self) -> Result<()> {
        let deadline = Instant::now().checked_add(PATIENCE);
        loop {
            self.sweep(None)?;
            self.clear_retired()?;
            if self.unenrolled()?.is_empty() || deadline.is_none_or(|deadline| Instant::now() >= deadline) {
                return Ok(());
            }
            thread::sleep(LOOK);
        }
    }

    /// Writes all counters that are in the kernel to their files: the maps are about to go. What was under way
    /// then, an audit shows as missing. Under the lock.
    pub(crate) fn keep_counters(&self) -> Result<()> {
        // What has no container is last: its file has no life that would tell what is in it already.
        let mut left = self.unenrolled()?;
        left.push(0);
        for cgroup_id in left {
            let totals = self.totals(cgroup_id)?;
            let enrolment: Option<Enrolment> = read_json(&self.enrolment_path(cgroup_id))?;
            let enrolled_ns = enrolment.map_or(0, |enrolment| enrolment.enrolled_ns);
            write_json(&self.ledger_path(cgroup_id), &Past { cgroup_id, enrolled_ns, totals })?;
        }
        Ok(())
    }

    /// Containers that have counters, and are not enrolled.
    fn unenrolled(&self) -> Result<Vec<u64>> {
        let containers = self.pins.containers()?;
        let mut retired = Vec::new();
        for cgroup_id in self.pins.ledger()?.keys() {
            let cgroup_id = cgroup_id.map_err(Error::map("ledger"))?;
            // 0 collects what has no container.
            if cgroup_id != 0 && found("container_map", containers.get(&cgroup_id, 0))?.is_none() {
                retired.push(cgroup_id);
            }
        }
        Ok(retired)
    }

    fn folds_of(&self, retired: &[u64]) -> Result<HashMap<u64, Folded>> {
        let readings = self.pins.fold_readings()?;
        let mut folds: HashMap<u64, Folded> = HashMap::new();
        for pair in self.pins.folds()?.iter() {
            let (key, fold) = pair.map_err(Error::map("folds"))?;
            if retired.contains(&key.cgroup_id) {
                let noted = found("fold_readings", readings.get(&key, 0))?;
                folds.entry(key.cgroup_id).or_default().add(key, fold.count, fold.first_ns, noted);
            }
        }
        for key in readings.keys() {
            let key = key.map_err(Error::map("fold_readings"))?;
            if retired.contains(&key.cgroup_id) {
                folds.entry(key.cgroup_id).or_default().noted.push(key);
            }
        }
        Ok(folds)
    }

    /// What found no room in `folds`.
    fn overflow(&self, cgroup_id: u64, ledger: &Ledger) -> Result<Folded> {
        let readings = self.pins.fold_readings()?;
        let mut folded = Folded::default();
        for (hook, count) in Hook::ALL.iter().zip(ledger.overflow) {
            let key = FoldKey::various(cgroup_id, *hook);
            let noted = found("fold_readings", readings.get(&key, 0))?;
            folded.add(key, count, ledger.since_ns, noted);
        }
        Ok(folded)
    }

    /// Folded attempts of a container that no record tells of yet.
    ///
    /// # Errors
    /// If it has no counters in the kernel, or a map refuses.
    pub fn undocumented(&self, cgroup_id: u64) -> Result<u64> {
        let ledger = self.ledger(cgroup_id)?;
        if ledger.folded == 0 {
            return Ok(0);
        }
        let folded = self.folds_of(&[cgroup_id])?.remove(&cgroup_id).unwrap_or_default();
        Ok(folded.undocumented.saturating_add(self.overflow(cgroup_id, &ledger)?.undocumented))
    }

    fn clear_one(&self, cgroup_id: u64, folded: &Folded) -> Result<bool> {
        let _lock = self.lock_changes()?;
        let enrolment: Option<Enrolment> = read_json(&self.enrolment_path(cgroup_id))?;
        let Some((enrolment, retired_ns)) = enrolment.and_then(|one| Some((one.clone(), one.retired_ns?)))
        else {
            // It is being enrolled, or was enrolled again since.
            return Ok(false);
        };
        let mut ledgers = self.pins.ledger()?;
        let Some(ledger) = found("ledger", ledgers.get(&cgroup_id, 0))? else { return Ok(false) };
        let path = self.ledger_path(cgroup_id);
        let mut past: Past = read_json(&path)?.unwrap_or(Past { cgroup_id, ..Past::default() });
        // Where the manager was killed in between, this life is in the file already, and some of its entries are gone.
        if past.enrolled_ns != enrolment.enrolled_ns {
            if boot_ns().saturating_sub(retired_ns) < QUIET_NS
                || !self.is_at_rest(cgroup_id, &ledger, folded)?
            {
                return Ok(false);
            }
            past.enrolled_ns = enrolment.enrolled_ns;
            past.totals.add(ledger.into());
            write_json(&path, &past)?;
        }
        let (mut folds, mut readings) = (self.pins.folds()?, self.pins.fold_readings()?);
        for key in &folded.keys {
            found("folds", folds.remove(key))?;
        }
        // An entry before the note about it: whoever finds the entry there finds its note as well. And notes before
        // the ledger's entry, which is what is looked for; those about itself say nothing about the next one.
        for key in folded.noted.iter().filter(|key| key.reason != Reason::Various as u8) {
            found("fold_readings", readings.remove(key))?;
        }
        found("ledger", ledgers.remove(&cgroup_id))?;
        for hook in Hook::ALL {
            found("fold_readings", readings.remove(&FoldKey::various(cgroup_id, *hook)))?;
        }
        Ok(true)
    }

    /// Whether all that a container ever did is in the ring or beyond.
    fn is_at_rest(&self, cgroup_id: u64, ledger: &Ledger, folded: &Folded) -> Result<bool> {
        let overflow = self.overflow(cgroup_id, ledger)?;
        let count = folded.count.saturating_add(overflow.count);
        let undocumented = folded.undocumented.saturating_add(overflow.undocumented);
        let handed =
            ledger.denied.saturating_add(ledger.closed) == ledger.submitted.saturating_add(ledger.folded);
        Ok(ledger.opened == ledger.closed && handed && undocumented == 0 && count == ledger.folded)
    }

    /// Counters of a container's lives that are over, the present one's aside.
    pub(crate) fn past(&self, cgroup_id: u64) -> Result<Option<Past>> {
        read_json(&self.ledger_path(cgroup_id))
    }

    /// Whether a container has no counters in the kernel any more.
    pub(crate) fn is_cleared(&self, cgroup_id: u64) -> Result<bool> {
        Ok(found("ledger", self.pins.ledger()?.get(&cgroup_id, 0))?.is_none())
    }

    /// A container's counters, of all of its lives.
    ///
    /// # Errors
    /// If it never was enrolled.
    pub fn totals(&self, cgroup_id: u64) -> Result<Totals> {
        let past = self.past(cgroup_id)?;
        let live = found("ledger", self.pins.ledger()?.get(&cgroup_id, 0))?;
        let mut totals = past.map_or_else(Totals::default, |past| past.totals);
        match (past, live) {
            // Its counters were of another version, and nobody could keep them.
            (None, None) if self.enrolment_path(cgroup_id).exists() => {}
            (None, None) => return Err(Error::NotEnrolled(cgroup_id)),
            (_, None) => {}
            (past, Some(ledger)) => {
                let enrolment: Option<Enrolment> = read_json(&self.enrolment_path(cgroup_id))?;
                // Of a life that is in the file, the entry is only about to be removed.
                if past.is_none_or(|past| Some(past.enrolled_ns) != enrolment.map(|one| one.enrolled_ns)) {
                    totals.add(ledger.into());
                }
            }
        }
        Ok(totals)
    }

    /// Containers of which a life is in a file.
    pub(crate) fn with_a_past(&self) -> Result<Vec<u64>> {
        let dir = self.ledgers();
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::file(dir)(error)),
        };
        let id = |name: &std::path::Path| name.file_stem()?.to_str()?.parse().ok();
        Ok(entries.flatten().filter_map(|entry| id(&entry.path())).collect())
    }

    fn ledgers(&self) -> PathBuf {
        self.state_dir().join(FOLDER)
    }

    fn ledger_path(&self, cgroup_id: u64) -> PathBuf {
        self.ledgers().join(format!("{cgroup_id}.json"))
    }
}
