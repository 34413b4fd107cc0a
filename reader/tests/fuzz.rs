//! Whatever bytes come, from the ring, from the spool's files and from the endpoint: no panic, no hang, and nothing is
//! believed that was not written. `PROPTEST_CASES=10000000 cargo test --release -p reader --test fuzz` is the long form.

mod support;

use std::fs;

use abi::spool::table;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
use proptest::{collection::vec, prelude::*, sample::Index};
use reader::{
    drain::decode,
    export::Answer,
    spool::{
        Content, Spool,
        format::{self, Header, Ring, Slot},
    },
};
use support::record;

/// What happens to bytes that were right.
#[derive(Clone, Debug)]
enum Damage {
    Flip(Index, u8),
    Overwrite(Index, Vec<u8>),
    Cut(Index),
    Insert(Index, Vec<u8>),
    /// From one place to another, as a torn or misplaced block would.
    Copy(Index, Index, usize),
}

fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let any_index = any::<Index>;
    let one = prop_oneof![
        4 => (any_index(), any::<u8>()).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        2 => (any_index(), vec(any::<u8>(), 1..40)).prop_map(|(at, bytes)| Damage::Overwrite(at, bytes)),
        1 => any_index().prop_map(Damage::Cut),
        1 => (any_index(), vec(any::<u8>(), 1..40)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        2 => (any_index(), any_index(), 1..600_usize).prop_map(|(from, to, len)| Damage::Copy(from, to, len)),
    ];
    vec(one, 0..6)
}

fn damaged(mut bytes: Vec<u8>, damage: &[Damage]) -> Vec<u8> {
    for one in damage {
        if bytes.is_empty() {
            break;
        }
        let len = bytes.len();
        match one {
            Damage::Flip(at, bits) => bytes[at.index(len)] ^= bits,
            Damage::Overwrite(at, with) => {
                let at = at.index(len);
                let end = len.min(at + with.len());
                bytes[at..end].copy_from_slice(&with[..end - at]);
            }
            Damage::Cut(at) => bytes.truncate(at.index(len)),
            Damage::Insert(at, with) => {
                let at = at.index(len);
                bytes.splice(at..at, with.iter().copied());
            }
            Damage::Copy(from, to, count) => {
                let (from, to) = (from.index(len), to.index(len));
                let count = (*count).min(len - from.max(to));
                bytes.copy_within(from..from + count, to);
            }
        }
    }
    bytes
}

const SLOTS: u32 = 4;

fn header() -> Header {
    Header { nonce: 7, ring: Ring { boot: 1, id: 2 }, slots: SLOTS, first: 40, accounted: 0, wall: 3 }
}

fn slot(sequence: u64) -> Slot {
    Slot { sequence, accounted: sequence, content: Content::Record(record(sequence as u16)) }
}

/// A segment of which three slots of four are written.
fn segment() -> Vec<u8> {
    let header = header();
    let mut bytes = header.encode().to_vec();
    for sequence in 40..43 {
        bytes.extend_from_slice(&slot(sequence).encode(header.seed()));
    }
    bytes.resize(usize::try_from(header.size()).unwrap(), 0);
    bytes
}

/// A record's bytes.
fn item() -> Vec<u8> {
    slot(9).encode(0)[format::SLOT - size_of::<abi::Record>()..].to_vec()
}

proptest! {
    #[test]
    fn records(noise in vec(any::<u8>(), 0..400), damage in damage(), whole in any::<bool>()) {
        let bytes = if whole { damaged(item(), &damage) } else { noise };
        if let Ok(record) = decode(&bytes) {
            prop_assert_eq!(bytes.len(), size_of_val(&record));
        }
    }

    /// A slot that is read says what was written, and in its own place.
    #[test]
    fn segments(noise in vec(any::<u8>(), 0..600), damage in damage(), whole in any::<bool>()) {
        let bytes = if whole { damaged(segment(), &damage) } else { noise };
        let Ok(segment) = format::recover(&bytes) else { return Ok(()) };
        prop_assert_eq!(segment.header, header());
        for (sequence, found) in segment.slots() {
            if let Some(found) = found {
                prop_assert!((40..43).contains(&sequence));
                prop_assert_eq!(found, slot(sequence));
            }
        }
    }

    #[test]
    fn tables(noise in vec(any::<u8>(), 0..3000)) {
        prop_assert!(table::rows(&noise).is_empty());
    }

    #[test]
    fn answers(
        rejected in any::<i64>(), message in ".{0,2000}", partial in any::<bool>(), sent in any::<u64>(),
        noise in vec(any::<u8>(), 0..200),
    ) {
        let partial_success =
            partial.then_some(ExportLogsPartialSuccess { rejected_log_records: rejected, error_message: message });
        let answer = Answer::of(&ExportLogsServiceResponse { partial_success }, sent);
        prop_assert!(answer.rejected <= sent);
        prop_assert!(answer.message.chars().count() <= 512);
        if let Ok(response) = <ExportLogsServiceResponse as prost::Message>::decode(noise.as_slice()) {
            prop_assert!(Answer::of(&response, sent).rejected <= sent);
        }
    }
}

proptest! {
    // Each makes, opens and fills files of 20 MB.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.div_ceil(10_000).max(16)))]

    /// A spool whose files are damaged opens, takes records, and gives them out again.
    #[test]
    fn spools(files in vec((any::<Index>(), damage()), 1..4)) {
        let folder = tempfile::tempdir().unwrap();
        let fill = |position| {
            let (spool, recovered) = Spool::open(folder.path(), 1000).unwrap();
            let mut producer = spool.producer();
            producer.attach(3, reader::clock::Offset::new(0, 0), &recovered);
            for at in position..position + 20 {
                producer.push(&record(443), at, 0);
            }
            drop(producer);
            let batch = spool.read(10).unwrap();
            spool.settle(&batch, &Default::default());
            spool
        };
        drop(fill(0));
        let mut paths: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for (file, damage) in files {
            let path = &paths[file.index(paths.len())];
            let bytes = damaged(fs::read(path).unwrap(), &damage);
            fs::write(path, bytes).unwrap();
        }
        let spool = fill(1000);
        let mut read = 0;
        while spool.depth() > 0 {
            let batch = spool.read(100).unwrap();
            prop_assert!(!batch.entries.is_empty() || !batch.damaged.is_empty(), "it does not end");
            read += batch.entries.len();
            spool.settle(&batch, &Default::default());
        }
        prop_assert!(read >= 10, "{} of the last records are there", read);
    }
}
