//! The kernel's counters: those in the maps, and those that left them for files.

use std::collections::{BTreeSet, HashMap, HashSet};

use abi::{FoldKey, Hook, spool::counts::OTHERS};

use super::{Reading, Readings};
use crate::{
    Manager,
    error::{Error, Result},
    pins::found,
    sweep::MOST_SEEN,
};

/// What the maps say of what was folded.
#[derive(Default)]
pub(super) struct Folds(Vec<Entry>);

struct Entry {
    key: FoldKey,
    count: u64,
    first_ns: u64,
    documented: u64,
}

impl Folds {
    /// Counts what no record tells of, given those that the spool holds. A reader that was killed has stored one that
    /// it could not note any more.
    pub fn add_undocumented(&self, stored: &HashMap<FoldKey, (u64, u64)>, counts: &mut Readings) {
        for entry in &self.0 {
            let stored = stored.get(&entry.key).filter(|(_, last_ns)| *last_ns >= entry.first_ns);
            let documented = stored.map_or(entry.documented, |(count, _)| entry.documented.max(*count));
            let row = counts.entry(entry.key.cgroup_id).or_default();
            row.undocumented = row.undocumented.saturating_add(entry.count.saturating_sub(documented));
        }
    }
}

impl Manager {
    pub(super) fn read_kernel(&self, reading: &mut Reading) -> Result<Folds> {
        let ledgers = self.pins.ledger()?;
        let mut ids: BTreeSet<u64> = self.with_a_past()?.into_iter().collect();
        ids.extend(self.enrolments()?.iter().map(|enrolment| enrolment.cgroup_id));
        for cgroup_id in ledgers.keys() {
            ids.insert(cgroup_id.map_err(Error::map("ledger"))?);
        }
        let readings = self.pins.fold_readings()?;
        let mut folds = Vec::new();
        let documented = |key: &FoldKey, first_ns: u64| {
            Ok(found("fold_readings", readings.get(key, 0))?.unwrap_or_default().of(first_ns))
        };
        for cgroup_id in ids {
            let totals = match self.totals(cgroup_id) {
                Ok(totals) => totals,
                // It is being enrolled, or has been forgotten since.
                Err(Error::NotEnrolled(_)) => continue,
                Err(error) => return Err(error),
            };
            reading.known.insert(cgroup_id);
            let row = reading.counts.entry(cgroup_id).or_default();
            row.add_totals(totals);
            let Some(live) = found("ledger", ledgers.get(&cgroup_id, 0))? else { continue };
            row.folded_in_maps = live.folded;
            for (hook, count) in Hook::ALL.iter().zip(live.overflow).filter(|(_, count)| *count > 0) {
                row.in_folds = row.in_folds.saturating_add(count);
                let key = FoldKey::various(cgroup_id, *hook);
                folds.push(Entry {
                    key,
                    count,
                    first_ns: live.since_ns,
                    documented: documented(&key, live.since_ns)?,
                });
            }
        }
        let gone = self.gone()?.totals;
        reading.counts.entry(OTHERS).or_default().add_totals(gone);
        let mut seen = HashSet::new();
        for pair in self.pins.folds()?.iter().take(MOST_SEEN) {
            let (key, fold) = pair.map_err(Error::map("folds"))?;
            if !seen.insert(key) {
                continue;
            }
            let row = reading.counts.entry(key.cgroup_id).or_default();
            row.in_folds = row.in_folds.saturating_add(fold.count);
            let documented = documented(&key, fold.first_ns)?;
            folds.push(Entry { key, count: fold.count, first_ns: fold.first_ns, documented });
        }
        Ok(Folds(folds))
    }

    /// Counts the flows in the table.
    pub(super) fn read_flows(&self, counts: &mut Readings) -> Result<()> {
        // A key that ends under the iteration starts it over, so some are met again.
        let mut seen = HashSet::new();
        for pair in self.pins.flows()?.iter().take(MOST_SEEN) {
            let (key, flow) = pair.map_err(Error::map("flows"))?;
            if seen.insert(key) {
                let row = counts.entry(flow.cgroup_id).or_default();
                row.open = row.open.saturating_add(1);
            }
        }
        Ok(())
    }
}
