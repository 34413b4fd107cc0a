//! The ring that the manager pinned.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use abi::{Fold, FoldKey, Hook, Ledger, Noted, Reason};
use aya::maps::{Array, HashMap, Map, MapData, MapError, RingBuf};
use emitter::chain;
use memmap2::{MmapOptions, MmapRaw};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{ConsumerLock, LockError, OpenError, Source};
use crate::clock::boot_ns;

/// `<pin dir>/events_ringbuf`, of an ABI that this reader knows.
pub struct PinnedRing {
    ring: RingBuf<MapData>,
    folds: HashMap<MapData, FoldKey, Fold>,
    readings: HashMap<MapData, FoldKey, Noted>,
    ledger: HashMap<MapData, u64, Ledger>,
    /// The page with the ring's position, which lives as long as the ring: it tells whether an item was stored by a
    /// reader that was killed before it could release it.
    consumer: MmapRaw,
    path: PathBuf,
    id: u32,
    _lock: ConsumerLock,
}

impl PinnedRing {
    /// Checks the ABI version that is pinned beside the ring, then maps the ring and is its only consumer.
    ///
    /// # Errors
    /// `NotYet` while nothing is pinned there, `Refused` where the version is another one or there is a consumer.
    pub fn open(pin_dir: &Path) -> Result<Self, OpenError> {
        check_abi(&pin_dir.join(abi::pin::ABI_VERSION))?;
        let lock = ConsumerLock::of_pins(pin_dir).map_err(|error| match &error {
            LockError::Held { .. } => OpenError::Refused(error.to_string()),
            LockError::Io { .. } => OpenError::NotYet(error.to_string()),
        })?;
        let path = pin_dir.join(abi::pin::EVENTS);
        let opened = |error| not_yet(&path, &error);
        let map = MapData::from_pin(&path).map_err(opened)?;
        let id = map.info().map_err(opened)?.id();
        let consumer = MmapOptions::new()
            .len(size_of::<usize>())
            .map_raw_read_only(map.fd().as_fd().as_raw_fd())
            .map_err(|error| {
                OpenError::NotYet(format!("cannot map the position of {}: {error}", path.display()))
            })?;
        let ring = Map::from_map_data(map).and_then(RingBuf::try_from).map_err(opened)?;
        let pinned = |name: &str| {
            let path = pin_dir.join(name);
            MapData::from_pin(&path).and_then(Map::from_map_data).map_err(|error| not_yet(&path, &error))
        };
        Ok(Self {
            ring,
            folds: pinned(abi::pin::FOLDS)?.try_into().map_err(opened)?,
            readings: pinned(abi::pin::FOLD_READINGS)?.try_into().map_err(opened)?,
            ledger: pinned(abi::pin::LEDGER)?.try_into().map_err(opened)?,
            consumer,
            path,
            id,
            _lock: lock,
        })
    }
}

fn position(consumer: &MmapRaw) -> u64 {
    // SAFETY: the mapping is a page and page-aligned, and lives as long as the reference; the kernel's consumer
    // position is its first word, and is only ever accessed as an atomic (aya writes it, in this thread).
    let position = unsafe { &*consumer.as_ptr().cast::<AtomicUsize>() };
    position.load(Ordering::Relaxed) as u64
}

fn found<T>(got: Result<T, MapError>) -> io::Result<Option<T>> {
    match got {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(io::Error::other(error)),
    }
}

fn check_abi(path: &Path) -> Result<(), OpenError> {
    let read = || -> Result<u32, MapError> {
        let map = Map::from_map_data(MapData::from_pin(path)?)?;
        Array::<_, u32>::try_from(map)?.get(&0, 0)
    };
    match read() {
        Ok(abi::ABI_VERSION) => Ok(()),
        // The manager pins the array before it writes the version into it.
        Ok(0) => Err(OpenError::NotYet(format!(
            "{} holds no version yet; is the manager starting?",
            path.display()
        ))),
        Ok(other) => Err(OpenError::Refused(format!(
            "{} says ABI version {other}, this reader knows {} only; install the reader and the manager of one release",
            path.display(),
            abi::ABI_VERSION,
        ))),
        Err(error) => Err(not_yet(path, &error)),
    }
}

fn not_yet(path: &Path, error: &MapError) -> OpenError {
    OpenError::NotYet(format!(
        "cannot open {}: {}; has `ebpf-manager` loaded the programs, and does this process have CAP_BPF?",
        path.display(),
        chain(error),
    ))
}

impl Source for PinnedRing {
    fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.ring.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn next(&mut self, take: &mut dyn FnMut(u64, &[u8])) -> bool {
        // The slot is released when `item` is dropped: after `take` has stored its content. Until then the ring's
        // position is that of the item.
        self.ring.next().map(|item| take(position(&self.consumer), &item)).is_some()
    }

    fn id(&self) -> u32 {
        self.id
    }

    fn folds(&mut self) -> io::Result<Vec<(FoldKey, Fold)>> {
        let mut folds = Vec::new();
        for pair in self.folds.iter() {
            match pair {
                // It is being made, and would not be known again once it has its time.
                Ok((_, fold)) if fold.first_ns == 0 => {}
                Ok(pair) => folds.push(pair),
                // It went away while it was read: its container was retired.
                Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        let now_ns = boot_ns()?;
        for pair in self.ledger.iter() {
            let (cgroup_id, ledger) = match pair {
                Ok(pair) => pair,
                Err(MapError::KeyNotFound) => continue,
                Err(error) => return Err(io::Error::other(error)),
            };
            for (hook, count) in Hook::ALL.iter().zip(ledger.overflow) {
                if count > 0 {
                    let fold = Fold { count, first_ns: ledger.since_ns, last_ns: now_ns, ..Fold::default() };
                    folds.push((FoldKey::various(cgroup_id, *hook), fold));
                }
            }
        }
        Ok(folds)
    }

    fn noted(&self, key: &FoldKey, fold: &Fold) -> io::Result<Option<u64>> {
        let noted = found(self.readings.get(key, 0))?.unwrap_or_default();
        // After the note: a note is removed after its entry.
        let first_ns = if key.reason == Reason::Various as u8 {
            found(self.ledger.get(&key.cgroup_id, 0))?.map(|ledger| ledger.since_ns)
        } else {
            found(self.folds.get(key, 0))?.map(|fold| fold.first_ns)
        };
        let is_there = first_ns == Some(fold.first_ns);
        Ok(is_there.then(|| noted.of(fold.first_ns)))
    }

    fn note(&mut self, key: &FoldKey, noted: Noted) -> io::Result<()> {
        self.readings.insert(key, noted, 0).map_err(io::Error::other)
    }

    fn is_replaced(&self) -> io::Result<bool> {
        match MapData::from_pin(&self.path).and_then(|map| map.info()) {
            Ok(info) => Ok(info.id() != self.id),
            // Unpinned, and nothing in its place: programs may still write to the ring we hold.
            Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => {
                Ok(false)
            }
            Err(error) => Err(io::Error::other(error)),
        }
    }
}
