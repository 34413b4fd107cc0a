//! As people read it.

use std::{collections::BTreeMap, fmt};

use comfy_table::{CellAlignment, Table, presets};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use stack::LogLost;

use super::{
    Dropped, Retention, Status, Taken,
    lanes::{Lane, Records},
};
use crate::operate::trust::AUTHORITIES;

/// Seconds of a minute, an hour and a day.
const UNITS: [(u64, &str); 3] = [(86_400, "d"), (3600, "h"), (60, "min")];

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut services = table(&["service", "state", "for", "restarts", "answers"]);
        for service in &self.services {
            let since =
                service.since.as_deref().and_then(|since| OffsetDateTime::parse(since, &Rfc3339).ok());
            let since = since.and_then(|since| u64::try_from(since.unix_timestamp()).ok());
            services.add_row([
                service.name.to_owned(),
                service.state.clone(),
                since.map_or_else(dash, |since| length(self.now.saturating_sub(since))),
                service.restarts.to_string(),
                if service.ready { "yes" } else { "NO" }.to_owned(),
            ]);
        }
        writeln!(f, "{}\n", services.trim_fmt())?;
        match &self.streams {
            Err(problem) => writeln!(f, "streams: {problem}")?,
            Ok(streams) => {
                let mut all = table(&["stream", "documents", "latest", "size", "indices"]);
                for column in all.column_iter_mut().skip(1) {
                    column.set_cell_alignment(CellAlignment::Right);
                }
                for stream in streams {
                    let latest =
                        stream.latest.and_then(|time| u64::try_from(time).ok()).map(|time| time / 1000);
                    all.add_row([
                        stream.stream.to_owned(),
                        stream.documents.map_or_else(|| "ABSENT".to_owned(), |count| count.to_string()),
                        latest.map_or_else(dash, |time| {
                            format!("{} ago", length(self.now.saturating_sub(time)))
                        }),
                        size(stream.bytes),
                        stream.indices.to_string(),
                    ]);
                }
                writeln!(f, "{}\n", all.trim_fmt())?;
            }
        }
        if let Ok(lanes) = &self.lanes {
            writeln!(f, "{}\n", of_lanes(lanes).trim_fmt())?;
        }
        f.write_str(match self.retention {
            Retention::Policy => "What is old is removed by the store's policy.",
            Retention::Keep => "The store removes nothing by itself: `stack keep` must be run daily.",
            Retention::Unknown => "Whether what is old is removed is not known.",
        })?;
        if let Err(problem) = &self.lanes {
            write!(f, "\nrelay: {problem}")?;
        }
        for (name, lane) in self.lanes.iter().flatten() {
            if lane.records.is_none() {
                write!(f, "\nThe relay cannot read its file of clawker-{name}: its log says why")?;
            }
            if lane.records.is_some_and(|records| records.given_up > 0) {
                write!(
                    f,
                    "\nWhat clawker-{name} refused for good is in data/relay/{name}.dead-letters.jsonl"
                )?;
            }
        }
        match &self.log {
            Err(problem) => write!(f, "\nproxy's log: {problem}")?,
            Ok(log) if log.is_any() => {
                let LogLost { entries, given_up, overflown } = log;
                write!(
                    f,
                    "\nThe proxy lost {entries} entries of its log since it was started; of the requests that had them, {given_up} were sent again in vain, and {overflown} were more than may wait"
                )?;
            }
            Ok(_) => {}
        }
        for Dropped { agent, project, container_id, questions } in &self.dropped {
            // The labels may be anything.
            write!(
                f,
                "\n{questions} question(s) of {agent:?} of {project:?} ({container_id}) came faster than the resolver read them, and are in no log: a flood"
            )?;
        }
        for Taken { address, listed, holder } in &self.taken {
            write!(
                f,
                "\n{address} is listed as that of {listed}, and is {holder}'s: what that does is told as the other's, until `stack apply` has a list that is right"
            )?;
        }
        for one in &self.certificates {
            let left = one.until.saturating_sub(self.now);
            let when = if left == 0 { "has ended".to_owned() } else { format!("ends in {}", length(left)) };
            // An authority is made anew only where it is not.
            let first = if one.file.starts_with(AUTHORITIES) { "once it is removed, " } else { "" };
            write!(f, "\n{} {when}: {first}`stack up` makes it anew", one.file)?;
        }
        Ok(())
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    table
}

/// What the relay has of each lane.
fn of_lanes(lanes: &BTreeMap<String, Lane>) -> Table {
    let mut all =
        table(&["lane", "waiting", "room left", "GIVEN UP", "TOO LARGE", "DAMAGED", "refused", "put off"]);
    for column in all.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for (name, lane) in lanes {
        let number = |number: u64| if number == 0 { "·".to_owned() } else { number.to_string() };
        let record = |of: fn(Records) -> u64| {
            lane.records.map_or_else(|| "?".to_owned(), |records| number(of(records)))
        };
        all.add_row([
            format!("clawker-{name}"),
            record(|records| records.waiting),
            size(lane.room.saturating_sub(lane.bytes)),
            record(|records| records.given_up),
            record(|records| records.oversized),
            number(lane.damaged),
            record(|records| records.refused),
            number(lane.put_off),
        ]);
    }
    all
}

fn dash() -> String {
    "–".to_owned()
}

/// A length of time, in its largest unit.
fn length(seconds: u64) -> String {
    let unit = UNITS.into_iter().find(|(unit, _)| seconds >= *unit);
    unit.and_then(|(unit, word)| Some(format!("{} {word}", seconds.checked_div(unit)?)))
        .unwrap_or_else(|| format!("{seconds} s"))
}

/// Bytes, in the largest unit that leaves a digit.
fn size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.into_iter().find(|(unit, _)| bytes >= *unit);
    unit.map_or_else(
        || format!("{bytes} B"),
        |(unit, word)| format!("{:.1} {word}", bytes as f64 / unit as f64),
    )
}

#[cfg(test)]
mod tests {
    use stack::store::Standing;

    use super::{super::*, *};

    #[test]
    fn a_status_reads_so() {
        let running = |name, state: &str, since: Option<&str>, restarts, ready| Running {
            name,
            state: state.to_owned(),
            since: since.map(str::to_owned),
            restarts,
            ready,
        };
        let stream =
            |stream, documents, latest, bytes| Standing { stream, documents, latest, bytes, indices: 2 };
        let lost = Records { waiting: 17, given_up: 3, oversized: 1, refused: 250 };
        let mut status = Status {
            services: vec![
                running("opensearch", "running", Some("2026-11-28T10:00:00.123456789Z"), 0, true),
                running("collector", "exited (137, out of memory)", None, 4, false),
                running("envoy", "absent", None, 0, false),
            ],
            streams: Ok(vec![
                stream("clawker-egress", Some(1_234_567), Some(1_795_946_399_000), 3 << 30),
                stream("clawker-envoy", Some(0), None, 208),
                stream("clawker-cp", None, None, 0),
            ]),
            retention: Retention::Keep,
            lanes: Ok(BTreeMap::from([
                ("cp".to_owned(), Lane { room: 512 << 20, damaged: 1, ..Lane::default() }),
                (
                    "envoy".to_owned(),
                    Lane {
                        room: 512 << 20,
                        bytes: 500 << 20,
                        put_off: 2,
                        records: Some(lost),
                        ..Lane::default()
                    },
                ),
                (
                    "overseer".to_owned(),
                    Lane { room: 512 << 20, records: Some(Records::default()), ..Lane::default() },
                ),
            ])),
            log: Ok(LogLost { entries: 120, given_up: 2, overflown: 7 }),
            dropped: vec![Dropped {
                agent: "scout\n\"".to_owned(),
                project: String::new(),
                container_id: "c1".to_owned(),
                questions: 1_315_978,
            }],
            taken: vec![Taken {
                address: [198, 18, 0, 130].into(),
                listed: "c1".to_owned(),
                holder: "c2".to_owned(),
            }],
            certificates: vec![
                Ending { file: "given/egress.crt".to_owned(), until: 1_795_946_400 + 9 * 86_400 },
                Ending { file: "collector/certificates/server.crt".to_owned(), until: 1_795_946_000 },
                Ending { file: "authorities/proxy-ca.crt".to_owned(), until: 1_795_946_400 + 9 * 86_400 },
            ],
            now: 1_795_946_400,
        };
        insta::assert_snapshot!(status.to_string());
        status.streams = Err("http://198.18.1.10:9200 does not answer: refused".to_owned());
        status.retention = Retention::Unknown;
        status.lanes = Err("it does not answer".to_owned());
        status.log = Err("it does not run".to_owned());
        status.dropped.clear();
        status.taken.clear();
        status.certificates.clear();
        insta::assert_snapshot!(status.to_string());
    }

    #[test]
    fn what_is_lost_for_good_is_not_good() {
        let lane = |given_up| {
            let records = Records { waiting: 40_000, given_up, ..Records::default() };
            Ok(BTreeMap::from([("envoy".to_owned(), Lane { records: Some(records), ..Lane::default() })]))
        };
        let mut status = Status {
            services: Vec::new(),
            streams: Ok(Vec::new()),
            retention: Retention::Policy,
            lanes: lane(0),
            log: Ok(LogLost::default()),
            dropped: Vec::new(),
            taken: Vec::new(),
            certificates: Vec::new(),
            now: 0,
        };
        assert!(status.is_good(), "what waits is not lost");
        status.lanes = lane(1);
        assert!(!status.is_good());
        status.lanes = lane(0);
        for log in [Ok(LogLost { entries: 1, ..LogLost::default() }), Err("it does not run".to_owned())] {
            status.log = log;
            assert!(!status.is_good());
        }
        status.log = Ok(LogLost::default());
        let labels = || (String::new(), String::new(), "c1".to_owned());
        let (agent, project, container_id) = labels();
        status.dropped = vec![Dropped { agent, project, container_id, questions: 1 }];
        assert!(!status.is_good());
        status.dropped.clear();
        let (_, listed, holder) = labels();
        status.taken = vec![Taken { address: [198, 18, 0, 130].into(), listed, holder }];
        assert!(!status.is_good());
    }

    #[test]
    fn drops_are_told_apart_by_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n \
            2553: 030012C6:14B5 00000000:0000 07 00000000:00000000 00:00000000 00000000 10001 0 386119 2 00000000bf4907ea 1315978\n \
            2554: 030012C6:B514 00000000:0000 07 00000000:00000000 00:00000000 00000000 10001 0 386120 2 00000000bf4907eb 7\n  \
            12: 000080FE00000000FF00A9C1AF87DBFE:14B5 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 14 2 0 3\n";
        assert_eq!(drops(table), [(5301, 1_315_981), (46_356, 7)].into());
    }

    #[test]
    fn lengths_and_sizes_have_one_unit() {
        assert_eq!([0, 59, 60, 7199, 172_800].map(length), ["0 s", "59 s", "1 min", "1 h", "2 d"]);
        assert_eq!([0, 1023, 1024, 1 << 21].map(size), ["0 B", "1023 B", "1.0 KiB", "2.0 MiB"]);
    }
}
