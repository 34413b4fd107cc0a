//! What lies in the ring, read beside its consumer and without taking anything.

use std::{
    os::fd::{AsFd as _, AsRawFd as _},
    sync::atomic::{AtomicU64, Ordering},
};

use abi::{Record, pin};
use aya::maps::MapData;
use memmap2::{MmapOptions, MmapRaw};
use nix::unistd::{SysconfVar, sysconf};

use crate::{
    clock::boot_id,
    error::{Error, Result},
    pins::Pins,
};

/// Bytes before each item: its length and flags, and where its page is.
const HEADER: u64 = 8;
/// The item is reserved, and not handed over yet.
const BUSY: u32 = 1 << 31;
/// The item was given up.
const DISCARDED: u32 = 1 << 30;

/// The pinned ring, mapped for reading: the consumer's page, the producer's, and the data twice, one after the
/// other, so that no item has a seam.
pub(super) struct Ring {
    map: MmapRaw,
    page: usize,
    size: u64,
    /// Which one it is.
    pub id: abi::spool::Ring,
}

impl Ring {
    pub fn open(pins: &Pins) -> Result<Self> {
        let path = pins.dir().join(pin::EVENTS);
        let data = MapData::from_pin(&path).map_err(Error::map(pin::EVENTS))?;
        let info = data.info().map_err(Error::map(pin::EVENTS))?;
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|page| usize::try_from(page).ok());
        let page = page.unwrap_or(4096);
        let size = u64::from(info.max_entries());
        let len = usize::try_from(size).unwrap_or(0).saturating_add(page).saturating_mul(2);
        let fd = data.fd().as_fd().as_raw_fd();
        let map = MmapOptions::new().len(len).map_raw_read_only(fd).map_err(Error::file(path))?;
        Ok(Self { map, page, size, id: abi::spool::Ring { boot: boot_id()?, id: info.id() } })
    }

    /// Everything below this position was taken.
    pub fn consumed(&self) -> u64 {
        self.position(0)
    }

    fn position(&self, at: usize) -> u64 {
        // SAFETY: `at` is 0 or a page, both within the mapping of two pages and more, and aligned; the kernel keeps
        // the position in the page's first word, which is only ever accessed as an atomic.
        let position = unsafe { &*self.map.as_ptr().add(at).cast::<AtomicU64>() };
        position.load(Ordering::Acquire)
    }

    /// Records from `from` on, which is where an item begins or ended, in order. What the kernel has written over by
    /// now is left out.
    pub fn records(&self, from: u64) -> Vec<Record> {
        let produced = self.position(self.page);
        let mut records = Vec::new();
        let mut at = from.max(produced.saturating_sub(self.size));
        while at < produced {
            let Some((header, bytes)) = self.item(at) else { break };
            let length = header & !(BUSY | DISCARDED);
            if header & (BUSY | DISCARDED) == 0 && length as usize == size_of::<Record>() {
                records.push((at, Record::from_bytes(&bytes)));
            }
            at = at.saturating_add(u64::from(length).next_multiple_of(8)).saturating_add(HEADER);
        }
        // Room is given away only behind the consumer: what was read from there may be a newer item's bytes.
        let oldest = self.position(self.page).saturating_sub(self.size);
        records.into_iter().filter(|(at, _)| *at >= oldest).map(|(_, record)| record).collect()
    }

    /// An item's first word, and as many bytes after its header as a record has.
    fn item(&self, at: u64) -> Option<(u32, [u8; size_of::<Record>()])> {
        let offset = usize::try_from(at.checked_rem(self.size)?).ok()?;
        let start = offset.checked_add(self.page.checked_mul(2)?)?;
        let end = start.checked_add(HEADER as usize)?.checked_add(size_of::<Record>())?;
        if end > self.map.len() || !start.is_multiple_of(8) {
            return None;
        }
        let mut bytes = [0; size_of::<Record>()];
        // SAFETY: the range was checked just now; the kernel may write to it meanwhile, so every read is volatile,
        // and any bytes whatever are fine: who uses them asks afterwards whether they can have been written over.
        unsafe {
            let item = self.map.as_ptr().add(start);
            let header = item.cast::<u32>().read_volatile();
            for (place, byte) in bytes.iter_mut().enumerate() {
                *byte = item.add(HEADER as usize).add(place).read_volatile();
            }
            Some((header, bytes))
        }
    }
}

/// Where the item after the last one in the spool begins, of which the reader stores one more than where it began.
pub(super) fn item_after(accounted: u64) -> u64 {
    let item = (size_of::<Record>() as u64).saturating_add(HEADER);
    accounted.next_multiple_of(item)
}
