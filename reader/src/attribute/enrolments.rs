//! The static source of identities: the manager's enrolment files, `<folder>/<cgroup id>.json`.
//!
//! A cgroup id is an inode number and is reused. So each id has a history of holders, and a flow
//! belongs to the one that was enrolled when it *started*; if there is none, to nobody. What was read
//! once stays known after its file is gone, for the flows that end later.
//!
//! How a flow is attributed follows from times of one clock alone: when it started and ended, as the
//! kernel wrote it, and when its container was enrolled and retired, as the manager wrote it. When
//! this process came to read either is of no matter ([`Attribution`] has the definitions).

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use abi::Enrolment;

use super::holders::{History, Holder};
use crate::{
    clock::Offset,
    document::{Attribution, Owner},
    observe::Counters,
};

/// Longest enrolment file; a longer one is none of the manager's.
const FILE_BYTES: u64 = Enrolment::MOST_FILE as u64;
/// Every enrolment read so far.
#[derive(Debug)]
pub struct Enrolments {
    folder: PathBuf,
    counters: Arc<Counters>,
    ids: HashMap<u64, Known>,
    /// Modification time of the folder when it was listed.
    listed: Option<SystemTime>,
    /// Files looked at since the last refresh.
    checked: HashSet<u64>,
}

/// Who held one cgroup id, and the state of the file that says so.
#[derive(Debug, Default)]
struct Known {
    history: History,
    stamp: Option<Stamp>,
}

impl From<Enrolment> for Holder {
    fn from(enrolment: Enrolment) -> Self {
        Self {
            from_ns: enrolment.enrolled_ns,
            until_ns: enrolment.retired_ns,
            agent: enrolment.agent.into(),
            project: enrolment.project.into(),
            container_id: enrolment.container_id.into(),
        }
    }
}

/// What changes when a file's content does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self { inode: file.ino(), size: file.len(), modified: file.modified().ok() }
    }
}

impl Enrolments {
    /// Enrolments below `state_dir`. Nothing is read before the first [`refresh`](Self::refresh).
    pub fn new(state_dir: &Path, counters: Arc<Counters>) -> Self {
        Self {
            folder: state_dir.join(Enrolment::FOLDER),
            counters,
            ids: HashMap::new(),
            listed: None,
            checked: HashSet::new(),
        }
    }

    /// Reads what changed. A folder that is not there holds nothing.
    ///
    /// # Errors
    /// Why the folder cannot be read.
    pub fn refresh(&mut self, clock: Offset) -> Result<(), String> {
        self.checked.clear();
        let failed = |error: io::Error, folder: &Path| {
            format!("cannot read {}: {error}; does the reader's user have access?", folder.display())
        };
        let modified = match fs::metadata(&self.folder).and_then(|folder| folder.modified()) {
            Ok(modified) => modified,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error, &self.folder)),
        };
        if self.listed == Some(modified) {
            return Ok(());
        }
        let mut present = HashSet::new();
        for entry in fs::read_dir(&self.folder).map_err(|error| failed(error, &self.folder))? {
            let name = entry.map_err(|error| failed(error, &self.folder))?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".json")?.parse::<u64>().ok());
            if let Some(id) = id {
                present.insert(id);
                self.check(id, clock);
            }
        }
        let now = clock.now_boot_ns();
        self.ids.retain(|id, known| present.contains(id) || known.history.is_remembered(now));
        self.listed = Some(modified);
        Ok(())
    }

    /// Who held `cgroup_id` when a flow started at `start_ns` that ended at `end_ns` (both since boot).
    pub fn owner(&mut self, cgroup_id: u64, start_ns: u64, end_ns: u64, clock: Offset) -> Owner {
        if cgroup_id == 0 {
            return Owner::nobody(Attribution::Unknown);
        }
        self.check(cgroup_id, clock);
        self.ids.get(&cgroup_id).map_or_else(
            || Owner::nobody(Attribution::Unknown),
            |known| known.history.owner(start_ns, end_ns),
        )
    }

    /// Whether another container was enrolled with this id between a start and an end: what lies between belongs to
    /// neither for sure.
    pub fn changed_hands(&mut self, cgroup_id: u64, start_ns: u64, end_ns: u64, clock: Offset) -> bool {
        self.check(cgroup_id, clock);
        self.ids.get(&cgroup_id).is_some_and(|known| known.history.changed_hands(start_ns, end_ns))
    }

    /// Looks at one file, once between two refreshes, and reads it if it changed.
    fn check(&mut self, id: u64, clock: Offset) {
        if !self.checked.insert(id) {
            return;
        }
        let path = self.folder.join(format!("{id}.json"));
        let known = self.ids.get(&id).and_then(|known| known.stamp);
        match read(&path, id, known) {
            Ok(None) => {}
            Ok(Some((stamp, enrolment))) => {
                let known = self.ids.entry(id).or_default();
                known.stamp = Some(stamp);
                let mut enrolment = enrolment;
                for holder in std::mem::take(&mut enrolment.earlier) {
                    known.history.add(holder.into());
                }
                known.history.add(enrolment.into());
            }
            Err(Unread::Absent) => {
                if let Some(known) = self.ids.get_mut(&id) {
                    known.stamp = None;
                    known.history.retire(clock.now_boot_ns());
                }
            }
            Err(Unread::Bad { stamp, cause }) => {
                self.counters.enrolment_unreadable();
                tracing::warn!(
                    event = "enrolment_unreadable",
                    path = %path.display(),
                    cause,
                    "flows of this cgroup stay unattributed until the manager writes it anew",
                );
                if let Some(stamp) = stamp {
                    self.ids.entry(id).or_default().stamp = Some(stamp);
                }
            }
        }
    }
}

enum Unread {
    Absent,
    Bad { stamp: Option<Stamp>, cause: String },
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Absent,
            _ => Self::Bad { stamp: None, cause: error.to_string() },
        }
    }
}

/// The enrolment in `path`; `None` if the file still is what `known` says.
fn read(path: &Path, id: u64, known: Option<Stamp>) -> Result<Option<(Stamp, Enrolment)>, Unread> {
    if known.is_some() && fs::metadata(path).map(|file| Stamp::of(&file)).ok() == known {
        return Ok(None);
    }
    let file = File::open(path)?;
    let stamp = Stamp::of(&file.metadata()?);
    let bad = |cause| Unread::Bad { stamp: Some(stamp), cause };
    let mut text = Vec::new();
    file.take(FILE_BYTES.saturating_add(1)).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_BYTES {
        return Err(bad(format!("longer than {FILE_BYTES} bytes")));
    }
    let enrolment: Enrolment = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
    if enrolment.cgroup_id != id {
        return Err(bad(format!("it is about cgroup {}", enrolment.cgroup_id)));
    }
    Ok(Some((stamp, enrolment)))
}

#[cfg(test)]
mod tests;
