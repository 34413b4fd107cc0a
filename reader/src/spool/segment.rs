//! Segment files: made and mapped by the writer, read by position by the consumer.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    ptr,
    sync::Arc,
};

use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::posix_fallocate;

use super::format::{EXTENSION, HEADER, Header, SLOT, Slot};

/// A segment as the consumer sees it. Read by system call, not through a mapping: a disk that fails is an error
/// then, not a SIGBUS.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub header: Header,
    pub path: PathBuf,
    pub file: Arc<File>,
}

impl Piece {
    pub fn path(dir: &Path, first: u64) -> PathBuf {
        dir.join(format!("{first:020}.{EXTENSION}"))
    }

    /// The bytes of at most `count` slots from `sequence` on; zeros, which are no slot, beyond the end of a file that
    /// was shortened.
    pub fn read(&self, sequence: u64, count: u64) -> io::Result<Vec<u8>> {
        let index = sequence.saturating_sub(self.header.first);
        let count = count.min(u64::from(self.header.slots).saturating_sub(index));
        let mut bytes = vec![0; usize::try_from(count).unwrap_or(0).saturating_mul(SLOT)];
        let at = index.saturating_mul(SLOT as u64).saturating_add(HEADER as u64);
        match self.file.read_exact_at(&mut bytes, at) {
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
            _ => Ok(bytes),
        }
    }
}

/// Renames a file so that it is kept for a person and never read again.
pub(super) fn set_aside(path: &Path, why: &str) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".bad");
    tracing::error!(event = "spool_file_set_aside", path = %path.display(), kept_as = %Path::new(&name).display(), why);
    fs::rename(path, name)
}

/// The segment that is being written.
#[derive(Debug)]
pub(super) struct Writable {
    map: MmapRaw,
    header: Header,
    seed: u32,
    used: u32,
}

impl Writable {
    /// A new, empty segment. It has its name only once it is whole, and the disk has every block of it.
    pub fn create(dir: &Path, header: Header) -> io::Result<(Self, Piece)> {
        let path = Piece::path(dir, header.first);
        let making = path.with_extension("tmp");
        let made = allocate(&making, &header).and_then(|file| {
            let piece = Piece { header, path: path.clone(), file: Arc::new(file) };
            let writable = Self::open(&piece, 0)?;
            fs::rename(&making, &path)?;
            Ok((writable, piece))
        });
        made.inspect_err(|_| {
            // What was allocated of it may be what others lack; that it is there is not certain.
            let _ = fs::remove_file(&making);
        })
    }

    /// Goes on in a segment of which `used` slots are written.
    pub fn open(piece: &Piece, used: u32) -> io::Result<Self> {
        let header = piece.header;
        let len = usize::try_from(header.size()).map_err(io::Error::other)?;
        let map = MmapOptions::new().len(len).map_raw(&*piece.file)?;
        Ok(Self { map, header, seed: header.seed(), used })
    }

    pub const fn header(&self) -> &Header {
        &self.header
    }

    pub const fn is_full(&self) -> bool {
        self.used >= self.header.slots
    }

    /// Writes the next slot. False, and nothing written: the segment is full, or the slot is not its next.
    pub fn write(&mut self, slot: &Slot) -> bool {
        if self.is_full() || slot.sequence != self.header.first.saturating_add(self.used.into()) {
            return false;
        }
        let at = (self.used as usize).saturating_mul(SLOT).saturating_add(HEADER);
        let bytes = slot.encode(self.seed);
        // SAFETY: `used < slots`, so the slot ends within the mapping, whose length is the header's `size`; every
        // block of the file is allocated and nobody shortens it. Nobody else writes to it; the consumer reads it by
        // system call, and only once the spool says that it is there.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.map.as_mut_ptr().add(at), SLOT) };
        self.used = self.used.saturating_add(1);
        true
    }
}

fn allocate(path: &Path, header: &Header) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
    posix_fallocate(&file, 0, i64::try_from(header.size()).map_err(io::Error::other)?)?;
    file.write_all_at(&header.encode(), 0)?;
    Ok(file)
}
