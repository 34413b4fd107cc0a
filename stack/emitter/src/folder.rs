//! Events on their way, a file each, until they are answered for.
//!
//! ```text
//! <state directory>/events/<program>/
//!     <nanoseconds since 1970, 20 digits>-<process>-<number>.json   an event: in the order of their names
//!     *.new        being written, by whoever holds the lock; else what a killed writer left
//!     lost         the event that tells of those for which there was no room; not yet on its way
//!     *.bad        what cannot be read, or what the plane refuses for good: for a person, the first 256
//!     lock         held by whoever writes
//! ```
//!
//! A file is made whole under another name, and is on the disk before it has its own. A line of JSON: `version`, `time`
//! (nanoseconds since 1970) and `event`.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use serde::{Deserialize, Serialize};

use crate::{
    event::{Event, What},
    now_unix_ns,
};

/// Folder below the state directory.
const FOLDER: &str = "events";
/// Of what a file holds.
const VERSION: u32 = 1;
/// Files that are kept for a person; an event that is set aside beyond them is counted alone.
const MOST_BAD: usize = 256;
/// No event is longer: labels, which alone are not cut, are at most so long on any command line.
const LONGEST: u64 = 1 << 20;

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Files.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
}

impl Default for Bound {
    fn default() -> Self {
        Self { files: 4096, bytes: 16 << 20 }
    }
}

/// Where a program's events are kept. Several processes may record at once; one ships.
#[derive(Clone, Debug)]
pub struct Events {
    folder: PathBuf,
    component: Arc<str>,
    node: Arc<str>,
    bound: Bound,
}

/// An event, and its file.
#[derive(Debug)]
pub(crate) struct Kept {
    pub path: PathBuf,
    pub time: u64,
    pub event: Event,
}

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    time: u64,
    event: Event,
}

impl Events {
    /// Those of the program `component`, on the machine `node`, or as the machine calls itself. Nothing is made until
    /// there is an event.
    #[must_use]
    pub fn of(state_dir: &Path, component: &str, node: Option<&str>) -> Self {
        let own = || nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
        Self {
            folder: state_dir.join(FOLDER).join(component),
            component: component.into(),
            node: node.map_or_else(own, str::to_owned).into(),
            bound: Bound::default(),
        }
    }

    /// The same with another bound.
    #[must_use]
    pub const fn bounded(mut self, bound: Bound) -> Self {
        self.bound = bound;
        self
    }

    /// Which program's.
    #[must_use]
    pub fn component(&self) -> &str {
        &self.component
    }

    /// Of which machine.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Keeps an event. It is on the disk when this returns, or counted as lost where too many wait already. That the disk
    /// itself refuses is logged: what was done is done, and its command does not fail because of it.
    pub fn record(&self, event: Event) {
        let what = event.event.as_str();
        if let Err(error) = self.try_record(event) {
            let folder = self.folder.display();
            tracing::error!(event = "event_not_kept", what, folder = %folder, %error, "this event is lost");
        }
    }

    /// Counts events that were lost before they could be recorded.
    pub(crate) fn missed(&self, count: u64, why: &str) {
        let counted = self.lock().and_then(|lock| self.count_lost(&lock, count, why));
        if let Err(error) = counted {
            tracing::error!(event = "event_not_kept", count, why, %error, "these events are lost");
        }
    }

    fn try_record(&self, event: Event) -> io::Result<()> {
        let lock = self.lock()?;
        let written = self.written(event);
        let line = encode(&written)?;
        let waiting = self.waiting()?;
        let bytes = waiting.bytes.saturating_add(line.len() as u64);
        if waiting.files >= self.bound.files || bytes > self.bound.bytes {
            let why = format!("{} wait already, {} bytes", waiting.files, waiting.bytes);
            return self.count_lost(&lock, 1, &why);
        }
        self.write(&lock, &format!("{}.json", stem(&written.event)), &line)
    }

    /// An event with all that it needs to be told apart.
    fn written(&self, mut event: Event) -> Written {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let time = now_unix_ns();
        event.component = self.component.as_ref().to_owned();
        event.node = self.node.as_ref().to_owned();
        let number = NUMBER.fetch_add(1, Relaxed);
        event.event_id = format!("{}/{}/{time:020}-{}-{number}", self.node, self.component, process::id());
        Written { version: VERSION, time, event }
    }

    /// Adds to the event that tells of lost ones.
    fn count_lost(&self, lock: &File, count: u64, why: &str) -> io::Result<()> {
        let before = fs::read(self.lost()).ok().and_then(|line| decode(&line).ok());
        let mut lost = before.unwrap_or_else(|| self.written(Event::new(What::EventsLost).times(0)));
        let so_far = lost.event.event_count.unwrap_or_default();
        lost.event = lost.event.times(so_far.saturating_add(count)).told(why);
        self.write(lock, "lost", &encode(&lost)?)
    }

    /// Has the event that tells of lost ones be one of those on their way, once there is room.
    pub(crate) fn tell_lost(&self) -> io::Result<()> {
        if !self.lost().exists() {
            return Ok(());
        }
        let _lock = self.lock()?;
        if self.waiting()?.files >= self.bound.files {
            return Ok(());
        }
        let Ok(lost) = decode(&fs::read(self.lost())?) else {
            return self.rename_bad(&self.lost(), "it is not whole");
        };
        fs::rename(self.lost(), self.folder.join(format!("{}.json", stem(&lost.event))))?;
        sync(&self.folder)
    }

    /// The oldest events, at most so many. What cannot be read is set aside.
    pub(crate) fn oldest(&self, count: usize) -> io::Result<Vec<Kept>> {
        let mut names = self.names()?;
        names.sort();
        let mut kept = Vec::new();
        for path in names.into_iter().filter(|path| path.extension() == Some(OsStr::new("json"))) {
            if kept.len() >= count {
                break;
            }
            let read = match fs::metadata(&path) {
                Ok(metadata) if metadata.len() > LONGEST => Err("it is too long to be one".to_owned()),
                Ok(_) => fs::read(&path).map_err(|error| error.to_string()).and_then(|line| decode(&line)),
                Err(error) => Err(error.to_string()),
            };
            match read {
                Ok(Written { time, event, .. }) => kept.push(Kept { path, time, event }),
                Err(why) => self.set_aside(&path, &why)?,
            }
        }
        Ok(kept)
    }

    /// Forgets an event: the plane has answered for it.
    pub(crate) fn forget(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Keeps a file for a person, and counts its event as lost.
    pub(crate) fn set_aside(&self, path: &Path, why: &str) -> io::Result<()> {
        let lock = self.lock()?;
        self.rename_bad(path, why)?;
        self.count_lost(&lock, 1, why)
    }

    fn rename_bad(&self, path: &Path, why: &str) -> io::Result<()> {
        tracing::error!(event = "event_set_aside", path = %path.display(), why);
        let is_bad = |path: &PathBuf| path.extension() == Some(OsStr::new("bad"));
        if self.names()?.iter().filter(|path| is_bad(path)).count() >= MOST_BAD {
            return self.forget(path);
        }
        fs::rename(path, path.with_extension("bad"))
    }

    fn lost(&self) -> PathBuf {
        self.folder.join("lost")
    }

    /// For one writer at a time, however many processes there are.
    fn lock(&self) -> io::Result<File> {
        fs::create_dir_all(&self.folder)?;
        let lock = File::options().create(true).truncate(false).write(true).open(self.folder.join("lock"))?;
        lock.lock()?;
        Ok(lock)
    }

    /// What waits. Under the lock nobody writes: a file half made is a killed writer's.
    fn waiting(&self) -> io::Result<Bound> {
        let mut waiting = Bound { files: 0, bytes: 0 };
        for path in self.names()? {
            match path.extension().and_then(OsStr::to_str) {
                Some("new") => self.forget(&path)?,
                Some("json") => {
                    // One that was shipped meanwhile has no size.
                    let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
                    waiting.files = waiting.files.saturating_add(1);
                    waiting.bytes = waiting.bytes.saturating_add(bytes);
                }
                _ => {}
            }
        }
        Ok(waiting)
    }

    fn names(&self) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        entries.map(|entry| Ok(entry?.path())).collect()
    }

    /// Makes or replaces a file, whole and on the disk, or not at all.
    fn write(&self, _lock: &File, name: &str, line: &[u8]) -> io::Result<()> {
        let draft = self.folder.join(format!("{name}.new"));
        let mut file = File::create(&draft)?;
        file.write_all(line)?;
        file.sync_all()?;
        fs::rename(&draft, self.folder.join(name))?;
        sync(&self.folder)
    }
}

/// An event's file name without its end: the part of its identity that sorts.
fn stem(event: &Event) -> &str {
    event.event_id.rsplit('/').next().unwrap_or_default()
}

fn encode(written: &Written) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(written)?;
    line.push(b'\n');
    Ok(line)
}

fn decode(line: &[u8]) -> Result<Written, String> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let Version { version } = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    if version != VERSION {
        return Err(format!("it is of version {version}, and this program reads {VERSION}"));
    }
    serde_json::from_slice(line).map_err(|error| error.to_string())
}

/// What was renamed in a folder is on the disk.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
