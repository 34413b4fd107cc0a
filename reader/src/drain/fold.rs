//! Denied attempts that the programs counted instead of recorded: what was added since the last reading
//! becomes one record.
//!
//! How much of an entry is documented is noted beside it, in a pinned map, for whoever retires its container. A reader
//! that is killed after it stored a record and before it noted that finds the record in its spool. An entry that went
//! away and came again has another `first_ns`.

use std::collections::{HashMap, HashSet};

use abi::{Flow, Fold, FoldKey, Record, flow_flag};

/// What is known of each entry.
#[derive(Debug, Default)]
pub struct Readings {
    seen: HashMap<FoldKey, Reading>,
    /// What the spool tells of and is perhaps not noted: of the start, and since.
    stored: HashMap<FoldKey, StoredFold>,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    first_ns: u64,
    count: u64,
    last_ns: u64,
}

/// How much of an entry a record in the spool says is documented, and up to when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredFold {
    /// Attempts, since the entry was made.
    pub count: u64,
    /// When the last of them was denied.
    pub last_ns: u64,
}

/// What is to be done about an entry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Added {
    /// Store this record, then note its count.
    Record(Record),
    /// All of it is stored: note that.
    Note(u64),
}

impl Readings {
    /// Readings that go on where the records in the spool end.
    pub fn resume(stored: HashMap<FoldKey, StoredFold>) -> Self {
        Self { stored, ..Self::default() }
    }

    /// Whether nothing was added to an entry since it was documented.
    pub fn is_old(&self, key: &FoldKey, fold: &Fold) -> bool {
        let old = |seen: &Reading| seen.first_ns == fold.first_ns && seen.count == fold.count;
        self.seen.get(key).is_some_and(old)
    }

    /// What was added to an entry of which `noted` attempts are noted.
    pub fn added(&self, key: &FoldKey, fold: &Fold, noted: u64) -> Added {
        let stored = self.stored.get(key).filter(|stored| stored.last_ns >= fold.first_ns);
        let documented = stored.map_or(noted, |stored| stored.count.max(noted));
        let event_count = fold.count.saturating_sub(documented);
        if event_count == 0 {
            return Added::Note(documented);
        }
        let seen = self.seen.get(key).filter(|seen| seen.first_ns == fold.first_ns);
        let since = seen.map(|seen| seen.last_ns).or_else(|| stored.map(|stored| stored.last_ns));
        // What has no container has no first time.
        let start_ns = since.or((fold.first_ns != 0).then_some(fold.first_ns)).unwrap_or(fold.last_ns);
        Added::Record(Record {
            end_ns: fold.last_ns.max(start_ns),
            event_count,
            flow: flow(key, fold, start_ns),
        })
    }

    /// All of an entry is in the spool, which is to be noted yet.
    pub fn told(&mut self, key: FoldKey, fold: &Fold) {
        self.stored.insert(key, StoredFold { count: fold.count, last_ns: fold.last_ns.max(fold.first_ns) });
    }

    /// All of an entry is in the spool, and noted.
    pub fn documented(&mut self, key: FoldKey, fold: &Fold) {
        self.stored.remove(&key);
        let reading = Reading { first_ns: fold.first_ns, count: fold.count, last_ns: fold.last_ns };
        self.seen.insert(key, reading);
    }

    /// Forgets entries that are not among all there are.
    pub fn keep(&mut self, entries: &[(FoldKey, Fold)]) {
        if self.seen.len() > entries.len() {
            // Containers were retired.
            let there: HashSet<&FoldKey> = entries.iter().map(|(key, _)| key).collect();
            self.seen.retain(|key, _| there.contains(key));
        }
    }
}

fn flow(key: &FoldKey, fold: &Fold, start_ns: u64) -> Flow {
    Flow {
        start_ns,
        last_ns: fold.last_ns,
        cookie: fold.count,
        bytes_in: 0,
        bytes_out: 0,
        packets_in: 0,
        packets_out: 0,
        bypass_epoch: 0,
        cgroup_id: key.cgroup_id,
        dst: key.dst,
        dst_port: key.dst_port,
        l4_proto: key.l4_proto,
        verdict: key.verdict,
        reason: key.reason,
        hook: key.hook,
        close_reason: key.close_reason,
        direction: key.direction,
        actual_dst: key.dst,
        src: [0; 16],
        comm: fold.comm,
        pid: fold.pid,
        uid: fold.uid,
        domain: fold.domain,
        generation: 0,
        actual_dst_port: key.dst_port,
        src_port: 0,
        socket_family: fold.socket_family,
        socket_type: fold.socket_type,
        flags: fold.flags | flow_flag::FOLDED,
    }
}

#[cfg(test)]
mod tests {
    use abi::{CloseReason, Direction, Hook, Reason, Verdict, v4_mapped};
    use proptest::prelude::*;

    use super::*;

    fn key(port: u16) -> FoldKey {
        FoldKey {
            cgroup_id: 7,
            dst: v4_mapped([198, 51, 100, 7]),
            dst_port: port,
            l4_proto: abi::UDP,
            verdict: Verdict::Denied as u8,
            reason: Reason::NoRule as u8,
            hook: Hook::Sendmsg as u8,
            close_reason: CloseReason::None as u8,
            direction: Direction::Outbound as u8,
        }
    }

    fn fold(count: u64, last_ns: u64) -> Fold {
        Fold {
            count,
            first_ns: 10,
            last_ns,
            comm: *b"flood\0\0\0\0\0\0\0\0\0\0\0",
            pid: 42,
            ..Fold::default()
        }
    }

    fn record(added: Added) -> Record {
        match added {
            Added::Record(record) => record,
            Added::Note(count) => panic!("nothing was added to {count}"),
        }
    }

    #[test]
    fn what_was_added_is_told_once_from_where_the_last_record_ended() {
        let mut readings = Readings::default();
        let first = record(readings.added(&key(1), &fold(100, 50), 0));
        assert_eq!((first.flow.start_ns, first.end_ns, first.event_count), (10, 50, 100));
        assert_eq!((first.flow.pid, first.flow.dst_port, first.flow.verdict), (42, 1, Verdict::Denied as u8));
        // Not in the spool: told again.
        assert!(!readings.is_old(&key(1), &fold(100, 50)));
        readings.documented(key(1), &fold(100, 50));
        assert!(readings.is_old(&key(1), &fold(100, 50)));
        let second = record(readings.added(&key(1), &fold(103, 90), 100));
        assert_eq!((second.flow.start_ns, second.end_ns, second.event_count), (50, 90, 3));
    }

    #[test]
    fn a_restart_goes_on_where_the_spool_or_the_note_ends() {
        let readings = Readings::resume(HashMap::from([(key(1), StoredFold { count: 90, last_ns: 40 })]));
        let resumed = record(readings.added(&key(1), &fold(100, 50), 0));
        assert_eq!((resumed.event_count, resumed.flow.start_ns), (10, 40));
        assert_eq!(record(readings.added(&key(1), &fold(100, 50), 95)).event_count, 5);
        assert_eq!(readings.added(&key(1), &fold(90, 40), 0), Added::Note(90));
        assert_eq!(record(readings.added(&key(2), &fold(5, 50), 0)).event_count, 5);
    }

    #[test]
    fn an_entry_that_went_away_and_came_again_begins_at_nothing() {
        let mut readings = Readings::resume(HashMap::from([(key(1), StoredFold { count: 90, last_ns: 40 })]));
        readings.documented(key(1), &fold(90, 40));
        let again = Fold { first_ns: 60, ..fold(90, 70) };
        assert!(!readings.is_old(&key(1), &again));
        let record = record(readings.added(&key(1), &again, 0));
        assert_eq!((record.event_count, record.flow.start_ns, record.end_ns), (90, 60, 70));
    }

    #[test]
    fn entries_that_are_no_more_are_forgotten() {
        let mut readings = Readings::default();
        for port in 0..100 {
            readings.documented(key(port), &fold(1, 50));
        }
        readings.keep(&[(key(3), fold(1, 50))]);
        assert_eq!(readings.seen.keys().copied().collect::<Vec<_>>(), [key(3)]);
    }

    proptest! {
        /// However often storing fails, notes get lost and entries are made anew.
        #[test]
        fn every_attempt_is_in_one_record(
            steps in prop::collection::vec((0u64..1000, any::<bool>(), 0..3_u8, 0..10_u8), 1..50),
        ) {
            let (mut readings, mut stored) = (Readings::default(), HashMap::new());
            let (mut entry, mut noted, mut attempts, mut told) = (fold(0, 10), 0, 0, 0);
            for (at, (added, spooled, then, anew)) in (1_u64..).zip(steps) {
                entry.count += added;
                entry.last_ns = 100 * at;
                attempts += added;
                match readings.added(&key(1), &entry, noted) {
                    Added::Record(record) if spooled => {
                        prop_assert!(record.flow.start_ns <= record.end_ns);
                        told += record.event_count;
                        stored.insert(key(1), StoredFold { count: entry.count, last_ns: record.end_ns });
                        readings.told(key(1), &entry);
                        match then {
                            0 => readings = Readings::resume(stored.clone()),
                            1 => {} // It cannot be noted.
                            _ => {
                                readings.documented(key(1), &entry);
                                noted = entry.count;
                            }
                        }
                    }
                    Added::Record(_) => {}
                    Added::Note(count) => noted = count,
                }
                if anew == 0 && noted == entry.count {
                    entry = Fold { first_ns: 100 * at + 50, ..fold(0, 0) };
                    noted = 0;
                }
            }
            let rest = match readings.added(&key(1), &entry, noted) {
                Added::Record(record) => record.event_count,
                Added::Note(_) => 0,
            };
            prop_assert_eq!(told + rest, attempts);
        }
    }
}
