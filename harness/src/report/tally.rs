//! Sums over cells, shown alike by terminal and HTML.

use std::{collections::BTreeMap, time::Duration};

use abi::Verdict;
use indexmap::IndexMap;
use serde_json::Value;

use crate::event::{CellReport, Outcome, Summary};

/// Heading of the column for documents whose verdict is none of the closed set.
pub(super) const OTHER: &str = "other";

/// Sums over the cells of a run, as they come.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    summary: Summary,
    topics: BTreeMap<String, TopicTally>,
    verdicts: BTreeMap<String, [u64; COLUMNS]>,
    skips: IndexMap<String, usize>,
    slowest: Vec<(String, Duration)>,
}

/// How many of the slowest cells are named, in runs of more than [`FEW`].
const SLOWEST: usize = 3;
/// So many cells are seen at a glance.
const FEW: usize = 10;
const COLUMNS: usize = Verdict::ALL.len() + 1;

/// One topic's sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicTally {
    /// Outcomes of its cells.
    pub summary: Summary,
    /// Sum of its cells' durations; more than wall time where cells ran in parallel.
    pub time: Duration,
}

impl TopicTally {
    /// The topic's own outcome: any failure fails it, and it passes only if something ran.
    pub fn outcome(&self) -> Outcome {
        outcome(&self.summary)
    }
}

/// Any failure fails; nothing executed is never a pass.
fn outcome(summary: &Summary) -> Outcome {
    match summary {
        Summary { failed: 1.., .. } => Outcome::Fail,
        Summary { passed: 1.., .. } => Outcome::Pass,
        _ => Outcome::Skip,
    }
}

impl Tally {
    /// Counts one ended cell and its documents.
    pub fn add(&mut self, cell: &CellReport) {
        let one = Summary::of([cell]);
        add(&mut self.summary, one);
        let topic = self.topics.entry(cell.topic.clone()).or_default();
        add(&mut topic.summary, one);
        topic.time = topic.time.saturating_add(cell.duration);
        if cell.result == Outcome::Skip {
            *self.skips.entry(cell.reason.clone()).or_default() += 1;
        }
        if cell.result != Outcome::Skip {
            let place = self.slowest.partition_point(|(_, time)| *time >= cell.duration);
            if place < SLOWEST {
                self.slowest.truncate(SLOWEST - 1);
                self.slowest.insert(place, (cell.name.clone(), cell.duration));
            }
        }
        for document in &cell.documents {
            self.add_document(document);
        }
    }

    /// A document without a transport (a loss, an acceptance) has no verdict to count.
    fn add_document(&mut self, document: &Value) {
        let Some(proto) = attribute(document, "l4_proto").and_then(Value::as_str) else { return };
        let verdict = attribute(document, "verdict").and_then(Value::as_str);
        let column = Verdict::ALL.iter().position(|known| Some(known.as_str()) == verdict);
        let row = self.verdicts.entry(proto.to_owned()).or_default();
        row[column.unwrap_or(COLUMNS - 1)] += 1;
    }

    /// Totals of the run so far.
    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// The run's own outcome; [`Outcome::Skip`] where nothing was executed.
    pub fn outcome(&self) -> Outcome {
        outcome(&self.summary)
    }

    /// Topics by name.
    pub fn topics(&self) -> impl Iterator<Item = (&str, &TopicTally)> {
        self.topics.iter().map(|(name, topic)| (name.as_str(), topic))
    }

    /// All topics as one row.
    pub fn total(&self) -> TopicTally {
        TopicTally { summary: self.summary, time: self.topics.values().map(|topic| topic.time).sum() }
    }

    /// The slowest cells, the slowest first; none where few ran.
    pub fn slowest(&self) -> &[(String, Duration)] {
        if self.summary.passed + self.summary.failed > FEW { &self.slowest } else { &[] }
    }

    /// Why cells were skipped and how many each, in order of appearance.
    pub fn skips(&self) -> impl Iterator<Item = (&str, usize)> {
        self.skips.iter().map(|(reason, count)| (reason.as_str(), *count))
    }

    /// Headings of the columns of [`verdicts`](Self::verdicts). The last, for documents with a verdict
    /// outside the closed set, is there only if one was seen.
    pub fn verdict_columns(&self) -> Vec<&'static str> {
        let known = Verdict::ALL.iter().map(|verdict| verdict.as_str());
        let other = self.verdicts.values().any(|row| row[COLUMNS - 1] > 0).then_some(OTHER);
        known.chain(other).collect()
    }

    /// Documents per transport, one count for each of [`verdict_columns`](Self::verdict_columns).
    pub fn verdicts(&self) -> impl Iterator<Item = (&str, &[u64])> {
        let columns = self.verdict_columns().len();
        self.verdicts.iter().map(move |(proto, row)| (proto.as_str(), &row[..columns]))
    }
}

fn add(sum: &mut Summary, more: Summary) {
    sum.passed += more.passed;
    sum.failed += more.failed;
    sum.skipped += more.skipped;
}

/// One attribute of a document, as the store holds it.
pub(super) fn attribute<'a>(document: &'a Value, name: &str) -> Option<&'a Value> {
    document.get("attributes")?.get(name)
}
