//! Denied attempts that the programs counted instead of recorded: what was added since the last reading
//! becomes one record.

use std::collections::HashMap;

use abi::{Flow, Fold, FoldKey, Record, flow_flag};

/// What is documented of each entry.
#[derive(Debug, Default)]
pub struct Readings(HashMap<FoldKey, Reading>);

#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    count: u64,
    last_ns: u64,
}

impl Readings {
    /// `count` attempts of this entry are documented already.
    pub fn resume(&mut self, key: FoldKey, count: u64) {
        let reading = self.0.entry(key).or_default();
        reading.count = reading.count.max(count);
    }

    /// The record of what was added to an entry, if something was. Counts of a map that began anew are taken from 0.
    pub fn added(&self, key: &FoldKey, fold: &Fold) -> Option<Record> {
        let reading =
            self.0.get(key).copied().filter(|reading| reading.count <= fold.count).unwrap_or_default();
        let event_count = fold.count.checked_sub(reading.count).filter(|added| *added > 0)?;
        let first_ns = if reading.last_ns == 0 { fold.first_ns } else { reading.last_ns };
        // An entry that is being made has no first time yet.
        let start_ns = if first_ns == 0 { fold.last_ns } else { first_ns };
        Some(Record { end_ns: fold.last_ns.max(start_ns), event_count, flow: flow(key, fold, start_ns) })
    }

    /// That record is in the spool.
    pub fn documented(&mut self, key: FoldKey, record: &Record) {
        self.0.insert(key, Reading { count: record.flow.cookie, last_ns: record.end_ns });
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

    #[test]
    fn what_was_added_is_told_once_from_where_the_last_record_ended() {
        let mut readings = Readings::default();
        let first = readings.added(&key(1), &fold(100, 50)).unwrap();
        assert_eq!((first.flow.start_ns, first.end_ns, first.event_count), (10, 50, 100));
        assert_eq!((first.flow.pid, first.flow.dst_port, first.flow.verdict), (42, 1, Verdict::Denied as u8));
        // Not in the spool: told again.
        assert_eq!(readings.added(&key(1), &fold(100, 50)), Some(first));
        readings.documented(key(1), &first);
        assert_eq!(readings.added(&key(1), &fold(100, 50)), None);
        let second = readings.added(&key(1), &fold(103, 90)).unwrap();
        assert_eq!((second.flow.start_ns, second.end_ns, second.event_count), (50, 90, 3));
    }

    #[test]
    fn a_restart_goes_on_and_a_new_map_begins_at_nothing() {
        let mut readings = Readings::default();
        readings.resume(key(1), 90);
        assert_eq!(readings.added(&key(1), &fold(100, 50)).unwrap().event_count, 10);
        assert_eq!(readings.added(&key(1), &fold(5, 50)).unwrap().event_count, 5);
        assert_eq!(readings.added(&key(2), &fold(5, 50)).unwrap().event_count, 5);
    }

    proptest! {
        #[test]
        fn every_attempt_is_in_one_record(steps in prop::collection::vec((0u64..1000, any::<bool>()), 1..50)) {
            let mut readings = Readings::default();
            let (mut count, mut documented) = (0, 0);
            for (at, (added, spooled)) in (1_u64..).zip(steps) {
                count += added;
                let Some(record) = readings.added(&key(1), &fold(count, 100 * at)) else { continue };
                prop_assert!(record.flow.start_ns <= record.end_ns);
                if spooled {
                    readings.documented(key(1), &record);
                    documented += record.event_count;
                }
            }
            let rest = readings.added(&key(1), &fold(count, 1 << 40)).map_or(0, |record| record.event_count);
            prop_assert_eq!(documented + rest, count);
        }
    }
}
