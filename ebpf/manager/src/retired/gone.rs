//! What stays of containers that were retired long ago: one sum of them all. Their own files are removed.

use abi::Enrolment;
use serde::{Deserialize, Serialize};

use super::Totals;
use crate::{
    Manager,
    clock::boot_ns,
    error::Result,
    state::{read_json, remove_file, write_json},
};

/// The file of those that are not told apart any more.
const GONE: &str = "gone.json";
/// How long a retired container keeps its files, for records of it that are still to be attributed: a day.
const KEPT_NS: u64 = 86_400_000_000_000;
/// Most retired containers that keep their files.
const MOST_KEPT: usize = 16_384;

/// `ledgers/gone.json`: containers whose own files are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// How many.
    pub containers: u64,
    /// Their sum.
    pub totals: Totals,
    /// The last one's cgroup id, and when it was enrolled, in nanoseconds of the boot clock: its files may still be
    /// there if the manager was killed.
    pub last: Option<(u64, u64)>,
}

impl Manager {
    /// Removes the files of containers that were retired long ago, of which only the sum is kept; returns of how many.
    ///
    /// # Errors
    /// If a state file refuses.
    pub fn forget_gone(&self) -> Result<usize> {
        let now = boot_ns();
        let mut retired: Vec<(u64, u64)> = self
            .enrolments()?
            .iter()
            .filter_map(|enrolment| Some((enrolment.retired_ns?, enrolment.cgroup_id)))
            .collect();
        retired.sort_unstable();
        let surplus = retired.len().saturating_sub(MOST_KEPT);
        let mut forgotten = 0_usize;
        for (at, (retired_ns, cgroup_id)) in retired.into_iter().enumerate() {
            if (at < surplus || now.saturating_sub(retired_ns) > KEPT_NS) && self.forget_one(cgroup_id)? {
                forgotten = forgotten.saturating_add(1);
            }
        }
        Ok(forgotten)
    }

    fn forget_one(&self, cgroup_id: u64) -> Result<bool> {
        let _lock = self.lock_changes()?;
        let path = self.enrolment_path(cgroup_id);
        let enrolment: Option<Enrolment> = read_json(&path)?;
        let Some(enrolment) = enrolment.filter(|enrolment| enrolment.retired_ns.is_some()) else {
            return Ok(false);
        };
        if !self.is_cleared(cgroup_id)? {
            return Ok(false);
        }
        let mut gone = self.gone()?;
        let last = Some((cgroup_id, enrolment.enrolled_ns));
        if gone.last != last {
            gone.containers = gone.containers.saturating_add(1);
            gone.totals.add(self.past(cgroup_id)?.unwrap_or_default().totals);
            gone.last = last;
            write_json(&self.ledgers().join(GONE), &gone)?;
        }
        remove_file(&self.ledger_path(cgroup_id))?;
        remove_file(&path)?;
        Ok(true)
    }

    /// The sum of containers whose own files are gone.
    pub(crate) fn gone(&self) -> Result<Gone> {
        Ok(read_json(&self.ledgers().join(GONE))?.unwrap_or_default())
    }
}
