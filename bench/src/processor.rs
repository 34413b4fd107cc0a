//! Which processor does what, where it matters: an entry of a map that one processor frees is the next that it takes,
//! and is still in its caches.

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// This thread stays on one processor until this is dropped.
pub struct Held {
    before: CpuSet,
    first: usize,
    last: usize,
}

impl Held {
    /// Holds this thread.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn here() -> nix::Result<Self> {
        let this = Pid::from_raw(0);
        let before = sched_getaffinity(this)?;
        let allowed = || (0..CpuSet::count()).filter(|&processor| before.is_set(processor) == Ok(true));
        let (first, last) = (allowed().next().unwrap_or(0), allowed().next_back().unwrap_or(0));
        sched_setaffinity(this, &only(first)?)?;
        Ok(Self { before, first, last })
    }

    /// Holds the main thread of a process on the same processor.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn beside(&self, process: Pid) -> nix::Result<()> {
        sched_setaffinity(process, &only(self.first)?)
    }

    /// Holds it on another processor, if there is one.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn apart(&self, process: Pid) -> nix::Result<()> {
        sched_setaffinity(process, &only(self.last)?)
    }

    /// Lets it run where it ran before.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn free(&self, process: Pid) -> nix::Result<()> {
        sched_setaffinity(process, &self.before)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = sched_setaffinity(Pid::from_raw(0), &self.before);
    }
}

fn only(processor: usize) -> nix::Result<CpuSet> {
    let mut set = CpuSet::new();
    set.set(processor)?;
    Ok(set)
}
