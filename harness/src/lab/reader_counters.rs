//! The reader's own counters, from its /metrics.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// How long the page may take.
const LIMIT: Duration = Duration::from_secs(2);
/// What every name begins with.
const PREFIX: &str = "clawker_reader_";

/// Counts of the reader, over all containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReaderCounters {
    /// Items taken from the ring.
    pub drained: u64,
    /// Records that the endpoint accepted, by the reader's account.
    pub exported: u64,
    /// Records that the endpoint received, by its own; more where one was sent twice.
    pub received: u64,
    /// Records that it holds, neither accepted nor lost.
    pub queued: u64,
    /// Records lost, by loss point; points without a loss are left out.
    pub losses: BTreeMap<String, u64>,
}

impl ReaderCounters {
    /// Asks the reader that listens on `address`.
    pub(super) fn ask(address: SocketAddr) -> io::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        Ok(Self::read(&page))
    }

    /// Reads Prometheus' text format. What is not named here is not of interest.
    fn read(page: &str) -> Self {
        let mut counters = Self::default();
        for line in page.lines() {
            let Some((name, value)) = line.strip_prefix(PREFIX).and_then(|line| line.rsplit_once(' ')) else {
                continue;
            };
            let Ok(value) = value.parse() else { continue };
            match name {
                "records_drained_total" => counters.drained = value,
                "records_exported_total" => counters.exported = value,
                "queue_depth" => counters.queued = value,
                _ => {
                    let point = name
                        .strip_prefix("losses_total{point=\"")
                        .and_then(|rest| rest.strip_suffix("\"}"))
                        .filter(|_| value > 0);
                    if let Some(point) = point {
                        counters.losses.insert(point.to_owned(), value);
                    }
                }
            }
        }
        counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read() {
        let page = "HTTP/1.0 200 OK\r\n\r\n# HELP clawker_reader_records_drained_total Items.\n\
            clawker_reader_records_drained_total 7\nclawker_reader_records_exported_total 3\nclawker_reader_queue_depth 2\n\
            clawker_reader_losses_total{point=\"decode\"} 1\nclawker_reader_losses_total{point=\"spool_full\"} 0\n";
        let counters = ReaderCounters::read(page);
        assert_eq!((counters.drained, counters.exported, counters.queued), (7, 3, 2));
        assert_eq!(counters.losses, BTreeMap::from([("decode".to_owned(), 1)]));
    }
}
