//! What the relay says of its lanes.

use std::collections::BTreeMap;

use serde::Serialize;

/// A lane, since its file was made; what is put off, since the relay was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lane {
    /// Bytes that are kept, and that there is room for.
    pub bytes: u64,
    pub room: u64,
    /// Damaged files; what was in them was not sent.
    pub damaged: u64,
    /// Requests that more was under way than there is memory for; senders come again.
    pub put_off: u64,
    /// What its file counts; `None` if that cannot be read.
    pub records: Option<Records>,
}

/// Records of a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Records {
    /// Kept until the store has them.
    pub waiting: u64,
    /// That the store refused for good: in the dead letters.
    pub given_up: u64,
    /// Too large to be kept.
    pub oversized: u64,
    /// That had no room. Senders were told to come again, and some do for a while alone.
    pub refused: u64,
}

impl Lane {
    /// Whether something of it is lost for good, or nobody knows.
    pub fn is_lost(&self) -> bool {
        self.damaged > 0 || self.records.is_none_or(|records| records.given_up > 0 || records.oversized > 0)
    }
}

/// By name, of a page of metrics.
pub fn lanes(page: &str) -> anyhow::Result<BTreeMap<String, Lane>> {
    let mut all: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for line in page.lines() {
        let Some((name, rest)) =
            line.strip_prefix("clawker_relay_").and_then(|line| line.split_once("{lane=\""))
        else {
            continue;
        };
        let Some((lane, count)) = rest.split_once("\"} ") else { continue };
        all.entry(lane).or_default().insert(name, count.trim().parse()?);
    }
    anyhow::ensure!(!all.is_empty(), "it tells of no lane");
    all.into_iter().map(|(name, numbers)| Ok((name.to_owned(), lane(name, &numbers)?))).collect()
}

fn lane(name: &str, numbers: &BTreeMap<&str, u64>) -> anyhow::Result<Lane> {
    let number = |of: &str| {
        let number = numbers.get(of).copied();
        number.ok_or_else(|| anyhow::anyhow!("it does not tell {of} of the lane {name}"))
    };
    // A lane whose file cannot be read has none of what is counted in it.
    let is_read = numbers.contains_key("records_accepted_total");
    let records = is_read.then(|| {
        Ok::<_, anyhow::Error>(Records {
            waiting: number("records_pending")?,
            given_up: number("records_rejected_total")?,
            oversized: number("records_oversized_total")?,
            refused: number("records_refused_total")?,
        })
    });
    Ok(Lane {
        bytes: if is_read { number("bytes_pending")? } else { 0 },
        room: number("bytes_bound")?,
        damaged: number("files_set_aside")?,
        put_off: number("requests_put_off_total")?,
        records: records.transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the relay writes it: of `cp` the file cannot be read.
    const PAGE: &str = "\
# TYPE clawker_relay_records_accepted_total counter
clawker_relay_records_accepted_total{lane=\"envoy\"} 100
clawker_relay_records_rejected_total{lane=\"envoy\"} 3
clawker_relay_records_pending{lane=\"envoy\"} 17
clawker_relay_bytes_pending{lane=\"envoy\"} 4096
clawker_relay_records_refused_total{lane=\"envoy\"} 5
clawker_relay_records_oversized_total{lane=\"envoy\"} 0
clawker_relay_bytes_bound{lane=\"envoy\"} 536870912
clawker_relay_bytes_bound{lane=\"cp\"} 536870912
clawker_relay_requests_put_off_total{lane=\"envoy\"} 1
clawker_relay_requests_put_off_total{lane=\"cp\"} 0
clawker_relay_files_set_aside{lane=\"envoy\"} 0
clawker_relay_files_set_aside{lane=\"cp\"} 0
";

    #[test]
    fn lanes_are_read_by_name() {
        let all = lanes(PAGE).expect("lanes");
        let records = Records { waiting: 17, given_up: 3, oversized: 0, refused: 5 };
        let envoy = Lane { bytes: 4096, room: 512 << 20, damaged: 0, put_off: 1, records: Some(records) };
        assert_eq!(all.get("envoy"), Some(&envoy));
        assert_eq!(all.get("cp"), Some(&Lane { room: 512 << 20, ..Lane::default() }));
        for (page, why) in [
            (
                PAGE.replace("files_set_aside", "files_damaged"),
                "it does not tell files_set_aside of the lane cp",
            ),
            (
                PAGE.replace("rejected_total", "lost_total"),
                "it does not tell records_rejected_total of the lane envoy",
            ),
            (String::new(), "it tells of no lane"),
        ] {
            assert_eq!(lanes(&page).map_err(|error| error.to_string()), Err(why.to_owned()));
        }
    }

    #[test]
    fn what_waits_is_not_lost() {
        let lane = |records| Lane { records, ..Lane::default() };
        let waits = Records { waiting: 9, refused: 9, ..Records::default() };
        assert!(!lane(Some(waits)).is_lost());
        assert!(lane(Some(Records { given_up: 1, ..waits })).is_lost());
        assert!(lane(Some(Records { oversized: 1, ..waits })).is_lost());
        assert!(Lane { damaged: 1, ..lane(Some(waits)) }.is_lost());
        assert!(lane(None).is_lost());
    }
}
