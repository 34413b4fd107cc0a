//! The spool's segment files, on disk.
//!
//! # Constraints
//! - A record is in the spool before its slot in the ring is released, so that the reader may be killed between
//!   any two instructions. What is stored to a shared mapping is in the kernel's page cache and outlives the
//!   process. It need not outlive the machine: power loss is not process death.
//! - A store never waits for the consumer, never allocates disk (a full disk is found when a segment is made, never
//!   as SIGBUS) and never moves what is already there.
//! - Bytes that are not what was written are told from those that are: each slot carries a CRC that also covers its
//!   sequence number and, as its seed, whose spool it is.
//! - `event_id` is (node, nonce, sequence), for good: a record that is sent again has the one it had.
//!
//! # Layout
//! ```text
//! <state dir>/spool/
//!   intake  outcome                 counters, see `table.rs`
//!   00000000000000000000.segment    slots of sequence 0 and on
//!   00000000000000016384.segment    the next ones; the last segment is the one being written
//!   *.bad                           what could not be read, kept for a person; never read again
//!   *.tmp                           a file in the making, left by a killed reader; removed at the start
//!
//! segment = header (128 bytes), then `slots` slots; its size never changes
//!
//! header    0  magic        "clwspool"             slot    0  crc       of all that follows
//!           8  version      of this format                 4  kind      1: record, 2: loss; 0: never written
//!          12  abi version  of the records                 8  sequence  first + index in the segment
//!          16  nonce        of the spool                  16  accounted the ring below this is in the spool
//!          24  boot id      16 bytes                      24  payload   `abi::Record`, or a loss and zeros
//!          40  ring         id of the BPF map
//!          44  slots        room in this segment   loss   24  cgroup id
//!          48  first        sequence of slot 0            32  point     `abi::LossPoint`
//!          56  accounted    of the ring, so far           40  added     since the last such document
//!          64  wall         of the boot clock's 0         48  total     since ever
//!          72  zero                                       56  first     boot clock, nanoseconds
//!         124  crc          of all before                 64  last      likewise
//! ```
//! Numbers are in the machine's byte order, CRCs are CRC-32C; a slot's is seeded with its spool's nonce. All slots
//! of a segment come from one ring: another ring, or another boot, begins a new one. A segment that is acknowledged
//! to its end is deleted. Sequences have no gap from segment to segment, so a slot that cannot be read is known by
//! its number.

use crate::{CloseReason, Direction, Hook, LossPoint, Reason, Record, Verdict};

/// First bytes of a segment.
const MAGIC: [u8; 8] = *b"clwspool";
/// Of this layout and that of the tables.
pub const VERSION: u32 = 1;
/// Ends a segment's name; before it is its first sequence, in twenty digits.
pub const EXTENSION: &str = "segment";
/// Bytes before the first slot.
pub const HEADER: usize = 128;
/// Bytes of a slot.
pub const SLOT: usize = PAYLOAD + size_of::<Record>();
/// Where a slot's checksummed part begins.
const CHECKED: usize = 4;
/// Where a slot's payload begins.
const PAYLOAD: usize = 24;
/// The slot holds a record.
const RECORD: u32 = 1;
/// The slot holds a loss.
const LOSS: u32 = 2;

/// Which ring records came from. Positions are compared within one ring only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    /// The boot it lived in.
    pub boot: u128,
    /// Its BPF map id, unique within a boot; 0 before there was a ring.
    pub id: u32,
}

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Of the spool.
    pub nonce: u64,
    /// Where its records came from.
    pub ring: Ring,
    /// How many slots it has room for.
    pub slots: u32,
    /// Sequence of its first slot.
    pub first: u64,
    /// Everything below this position of the ring was in the spool when the segment was made.
    pub accounted: u64,
    /// Wall-clock time of the boot clock's 0, nanoseconds since 1970, when the segment was made.
    pub wall: u64,
}

/// Records of one container that were lost at one point, up to a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Whose; 0 where that is not known.
    pub cgroup_id: u64,
    /// Where.
    pub point: LossPoint,
    /// Attempts since the last such entry.
    pub added: u64,
    /// Attempts since ever.
    pub total: u64,
    /// When the first of `added` was lost, boot clock, nanoseconds.
    pub first_ns: u64,
    /// When the last was lost.
    pub last_ns: u64,
}

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// As it came from the ring, or from a fold.
    Record(Record),
    /// What was lost.
    Loss(Loss),
}

impl Content {
    /// The container's cgroup id.
    pub const fn cgroup_id(&self) -> u64 {
        match self {
            Self::Record(record) => record.flow.cgroup_id,
            Self::Loss(loss) => loss.cgroup_id,
        }
    }

    /// When what it tells of began and ended, boot clock, nanoseconds.
    pub const fn times(&self) -> (u64, u64) {
        match self {
            Self::Record(record) => (record.flow.start_ns, record.end_ns),
            Self::Loss(loss) => (loss.first_ns, loss.last_ns),
        }
    }

    /// Attempts it stands for in the ledger: a loss is counted where it is lost, not where it is told.
    pub const fn attempts(&self) -> u64 {
        match self {
            Self::Record(record) => record.event_count,
            Self::Loss(_) => 0,
        }
    }
}

/// A slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Place among all that this spool accepted, from 0.
    pub sequence: u64,
    /// Everything below this position of the ring is in the spool, or counted as lost.
    pub accounted: u64,
    /// What it holds.
    pub content: Content,
}

/// Why bytes are not a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The header's checksum does not fit, or it has none.
    #[error("its header is damaged")]
    Header,
    /// The header is whole, and of another layout.
    #[error(
        "it is of format {version} and ABI {abi}, this reader knows {VERSION} and {} only",
        crate::ABI_VERSION
    )]
    Version {
        /// Its format.
        version: u32,
        /// Its records' ABI.
        abi: u32,
    },
    /// The header promises more slots than there are bytes.
    #[error("it ends before its last slot")]
    Short,
}

impl Header {
    /// Bytes of the whole segment.
    pub fn size(&self) -> u64 {
        u64::from(self.slots).saturating_mul(SLOT as u64).saturating_add(HEADER as u64)
    }

    /// Sequence after its last slot.
    pub fn end(&self) -> u64 {
        self.first.saturating_add(self.slots.into())
    }

    /// Seed of its slots' CRCs.
    pub fn seed(&self) -> u32 {
        crc32c::crc32c(&self.nonce.to_ne_bytes())
    }

    /// As it lies in the file.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        put(&mut bytes, 0, &MAGIC);
        put(&mut bytes, 8, &VERSION.to_ne_bytes());
        put(&mut bytes, 12, &crate::ABI_VERSION.to_ne_bytes());
        put(&mut bytes, 16, &self.nonce.to_ne_bytes());
        put(&mut bytes, 24, &self.ring.boot.to_ne_bytes());
        put(&mut bytes, 40, &self.ring.id.to_ne_bytes());
        put(&mut bytes, 44, &self.slots.to_ne_bytes());
        put(&mut bytes, 48, &self.first.to_ne_bytes());
        put(&mut bytes, 56, &self.accounted.to_ne_bytes());
        put(&mut bytes, 64, &self.wall.to_ne_bytes());
        let crc = crc32c::crc32c(bytes.split_at(HEADER - 4).0);
        put(&mut bytes, HEADER - 4, &crc.to_ne_bytes());
        bytes
    }

    fn decode(bytes: &[u8; HEADER]) -> Result<Self, Damage> {
        let crc = crc32c::crc32c(bytes.split_at(HEADER - 4).0);
        if !bytes.starts_with(&MAGIC) || u32::from_ne_bytes(part(bytes, HEADER - 4)) != crc {
            return Err(Damage::Header);
        }
        let (version, abi) = (u32::from_ne_bytes(part(bytes, 8)), u32::from_ne_bytes(part(bytes, 12)));
        if (version, abi) != (VERSION, crate::ABI_VERSION) {
            return Err(Damage::Version { version, abi });
        }
        let header = Self {
            nonce: u64::from_ne_bytes(part(bytes, 16)),
            ring: Ring {
                boot: u128::from_ne_bytes(part(bytes, 24)),
                id: u32::from_ne_bytes(part(bytes, 40)),
            },
            slots: u32::from_ne_bytes(part(bytes, 44)),
            first: u64::from_ne_bytes(part(bytes, 48)),
            accounted: u64::from_ne_bytes(part(bytes, 56)),
            wall: u64::from_ne_bytes(part(bytes, 64)),
        };
        if header.first.checked_add(header.slots.into()).is_none() {
            return Err(Damage::Header);
        }
        Ok(header)
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes.iter_mut().skip(at).zip(value).for_each(|(byte, value)| *byte = *value);
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

impl Slot {
    /// As it lies in the file; `seed` is its segment's.
    pub fn encode(&self, seed: u32) -> [u8; SLOT] {
        let mut bytes = [0; SLOT];
        put(&mut bytes, 8, &self.sequence.to_ne_bytes());
        put(&mut bytes, 16, &self.accounted.to_ne_bytes());
        let kind = match &self.content {
            Content::Record(record) => {
                put(&mut bytes, PAYLOAD, record.as_bytes());
                RECORD
            }
            Content::Loss(loss) => {
                let point = u64::from(loss.point as u8);
                let words = [loss.cgroup_id, point, loss.added, loss.total, loss.first_ns, loss.last_ns];
                for (at, word) in (PAYLOAD..).step_by(8).zip(words) {
                    put(&mut bytes, at, &word.to_ne_bytes());
                }
                LOSS
            }
        };
        put(&mut bytes, 4, &kind.to_ne_bytes());
        let crc = crc32c::crc32c_append(seed, bytes.split_at(CHECKED).1);
        put(&mut bytes, 0, &crc.to_ne_bytes());
        bytes
    }

    /// Reads one slot. None: never written, or not what was written, or not the slot of `sequence`.
    pub fn decode(bytes: &[u8; SLOT], seed: u32, sequence: u64) -> Option<Self> {
        let (crc, checked) = bytes.split_first_chunk::<CHECKED>()?;
        if crc32c::crc32c_append(seed, checked) != u32::from_ne_bytes(*crc)
            || u64::from_ne_bytes(part(bytes, 8)) != sequence
        {
            return None;
        }
        let payload = bytes.split_at(PAYLOAD).1;
        let content = match u32::from_ne_bytes(part(bytes, 4)) {
            RECORD => Content::Record(record(payload)?),
            LOSS => {
                let word = |at: usize| u64::from_ne_bytes(part(payload, at));
                Content::Loss(Loss {
                    cgroup_id: word(0),
                    point: LossPoint::try_from(u8::try_from(word(8)).ok()?).ok()?,
                    added: word(16),
                    total: word(24),
                    first_ns: word(32),
                    last_ns: word(40),
                })
            }
            _ => return None,
        };
        Some(Self { sequence, accounted: u64::from_ne_bytes(part(bytes, 16)), content })
    }
}

/// What was stored was a record that can be told of.
fn record(payload: &[u8]) -> Option<Record> {
    let record = Record::from_bytes(payload.first_chunk()?);
    Verdict::try_from(record.flow.verdict).ok()?;
    Reason::try_from(record.flow.reason).ok()?;
    Hook::try_from(record.flow.hook).ok()?;
    CloseReason::try_from(record.flow.close_reason).ok()?;
    Direction::try_from(record.flow.direction).ok()?;
    Some(record)
}

/// A segment's bytes, of which the header is known to be whole.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// What it says about itself.
    pub header: Header,
    slots: &'a [u8],
}

/// Reads a segment from any bytes whatever. A pure function; hostile bytes make it say no, or make slots unreadable,
/// and nothing else.
///
/// # Errors
/// Why they are not a segment.
pub fn recover(bytes: &[u8]) -> Result<Segment<'_>, Damage> {
    let header = header(bytes, bytes.len() as u64)?;
    Ok(Segment { header, slots: bytes.get(HEADER..).unwrap_or_default() })
}

/// The first sequence of the segment of that name; None if it is no segment's.
pub fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(EXTENSION)?.strip_suffix('.')?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}

/// Reads the header of a segment of `len` bytes from its beginning.
///
/// # Errors
/// Why it is not a segment.
pub fn header(bytes: &[u8], len: u64) -> Result<Header, Damage> {
    let header = Header::decode(bytes.first_chunk().ok_or(Damage::Header)?)?;
    if header.size() > len { Err(Damage::Short) } else { Ok(header) }
}

impl Segment<'_> {
    /// Every slot with its sequence; None where it holds nothing, or what cannot be trusted.
    pub fn slots(&self) -> impl Iterator<Item = (u64, Option<Slot>)> {
        let first = self.header.first;
        slots(self.slots, self.header.seed(), first).take(self.header.slots as usize)
    }
}

/// The slots that lie in `bytes` one after the other, of which the first has the sequence `first`.
pub fn slots(bytes: &[u8], seed: u32, first: u64) -> impl Iterator<Item = (u64, Option<Slot>)> {
    let (slots, _) = bytes.as_chunks::<SLOT>();
    (first..).zip(slots).map(move |(sequence, bytes)| (sequence, Slot::decode(bytes, seed, sequence)))
}
