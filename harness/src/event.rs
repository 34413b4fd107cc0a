//! The one enum between the runner and everything that shows results: terminal, JSON, JUnit, HTML.

mod step;

use std::{cmp::Ordering, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::transport::Position;

pub use step::{CallReport, StepReport};

/// How much of the chain a run exercises. Each tier is a superset of the evidence of the one before.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Tier {
    /// The shipped policy code against the naive model; no kernel.
    Model,
    /// Namespaces, real sockets, real eBPF, the real reader, an OTLP endpoint in this process.
    Lab,
    /// The same with agents in containers, and the telemetry plane's own servers.
    Stack,
}

/// How a cell ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    /// Everything expected was seen, and nothing else.
    Pass,
    /// See `class` and `reason`.
    Fail,
    /// Not run; see `reason`.
    Skip,
}

/// What kind of failure, so that causes stay apart, the least grave first. Its number is the exit code of
/// `harness run` where it is the gravest of the run; 0 is success, 1 is left to the runtime.
///
/// The case is one witness among several. Where another one (the rules, the wire, the agent's own call,
/// the cgroup's labels, the ledger) contradicts the chain as well, the class says in what way; where the
/// case stands alone, it is `expectation`, and the case may be what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumIter)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
#[repr(u8)]
pub enum Class {
    /// The scenario file is wrong, or nothing ran.
    BadCase = 2,
    /// The machine could not provide the world, or the capture lost packets.
    Environment = 3,
    /// A document, the wire or the ledger is not as the case says.
    Expectation = 5,
    /// The agent's own call did not end as the case says, or its control did not arrive.
    Trigger = 4,
    /// The document is wrong: another witness contradicts it.
    MisRecord = 9,
    /// Allowed, but it did not arrive.
    OverBlock = 8,
    /// No document and no accounted loss.
    Lost = 6,
    /// Arrived, but it was not allowed.
    Leak = 7,
}

impl Class {
    /// Rank among the classes, by what is at stake: what happened before what was written of it, and a
    /// trigger that went wrong before the expectations that follow from it.
    const fn gravity(self) -> u8 {
        match self {
            Self::BadCase => 0,
            Self::Environment => 1,
            Self::Expectation => 2,
            Self::Trigger => 3,
            Self::MisRecord => 4,
            Self::OverBlock => 5,
            Self::Lost => 6,
            Self::Leak => 7,
        }
    }
}

impl Ord for Class {
    fn cmp(&self, other: &Self) -> Ordering {
        self.gravity().cmp(&other.gravity())
    }
}

impl PartialOrd for Class {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A stage of the chain. Of an event that is missing: the first stage that does not have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The agent's own call: it was not made, or the kernel refused it before any hook.
    Call,
    /// The hook: the kernel's ledger counted no attempt.
    Hook,
    /// The ring: counted, but not handed over.
    Ring,
    /// The reader: handed over, but not drained, decoded and spooled.
    Reader,
    /// The endpoint: drained, but not received.
    Endpoint,
    /// The expectation's `where`: there is a document, and it says something else.
    Filter,
}

impl Stage {
    /// The hand-over that failed: `ring → reader`.
    pub const fn hop(self) -> &'static str {
        match self {
            Self::Call => "agent's call",
            Self::Hook => "agent's call → hook",
            Self::Ring => "hook → ring",
            Self::Reader => "ring → reader",
            Self::Endpoint => "reader → endpoint",
            Self::Filter => "endpoint → expectation",
        }
    }
}

/// One violated assertion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind.
    pub class: Class,
    /// One line: what was expected, what was found.
    pub message: String,
    /// More lines: the YAML excerpt with a caret, the stage at which an event vanished, the nearest document
    /// and its field diff, the events seen.
    pub detail: String,
}

/// What the far side saw of one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireCount {
    /// `address:port`, or the address alone where there is no port.
    pub dst: String,
    /// `tcp`, `udp`, `icmp`, `igmp`, `udplite`, `sctp`, `dccp` or a protocol number.
    pub l4_proto: String,
    /// Packets that arrived.
    pub packets: u64,
    /// L4 payload bytes that arrived, each counted once.
    pub bytes: u64,
}

/// What the naive model says of one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelVerdict {
    /// `address:port`.
    pub dst: String,
    /// `tcp` or `udp`.
    pub l4_proto: String,
    /// `ALLOWED`, `DENIED` or `BYPASSED`.
    pub verdict: String,
    /// The model's own words for why.
    pub because: String,
}

/// Everything known about one cell when it ended; what the JSON report holds of it, field by field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellReport {
    /// `folder/file::name[var=value,…]`; unique in a run.
    pub name: String,
    /// The YAML file, relative to where the run was started.
    pub file: PathBuf,
    /// Where the scenario's name stands in it: line and column, from 1.
    pub position: (usize, usize),
    /// Where it ran.
    pub tier: Tier,
    /// How it ended.
    pub result: Outcome,
    /// The gravest failure's class.
    pub class: Option<Class>,
    /// The gravest failure's message, or why it was skipped; empty if passed.
    pub reason: String,
    /// The first stage at which an expected event vanished, where one did.
    pub stage: Option<Stage>,
    /// From the first to the last action.
    #[serde(rename = "duration_ms", with = "millis")]
    pub duration: Duration,
    /// Documents of this cell's agents, as the store holds them.
    pub documents: Vec<Value>,
    /// What the far side saw.
    pub wire: Vec<WireCount>,
    /// What the model says.
    pub model: Vec<ModelVerdict>,
    /// Every violated assertion, gravest first.
    pub failures: Vec<Failure>,
    /// The scenario's topic: its folder below `scenarios/`.
    pub topic: String,
    /// The matrix variables of this cell, in order.
    pub variables: Vec<(String, String)>,
    /// The scenario's tags.
    pub tags: Vec<String>,
    /// The capture of the cell's world, where it was kept; relative to where the run was started.
    pub pcap: Option<PathBuf>,
    /// Packets at the end of the capture that are not in the file, which has a bound.
    pub pcap_cut: u64,
    /// The expanded YAML of the cell.
    pub source: String,
    /// Its steps in order, with what came of them.
    pub steps: Vec<StepReport>,
    /// Indexes into `documents`: those that are as an expectation says, which names their verdict.
    pub asserted: Vec<usize>,
    /// Places of the coverage table that the case's own text names.
    pub declared: Vec<Position>,
}

impl CellReport {
    /// A cell of which nothing is known but where it is and where it ran: it passed, so far.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        file: impl Into<PathBuf>,
        topic: impl Into<String>,
        tier: Tier,
    ) -> Self {
        Self {
            name: name.into(),
            file: file.into(),
            position: (1, 1),
            tier,
            result: Outcome::Pass,
            class: None,
            reason: String::new(),
            stage: None,
            duration: Duration::ZERO,
            documents: Vec::new(),
            wire: Vec::new(),
            model: Vec::new(),
            failures: Vec::new(),
            topic: topic.into(),
            variables: Vec::new(),
            tags: Vec::new(),
            pcap: None,
            pcap_cut: 0,
            source: String::new(),
            steps: Vec::new(),
            asserted: Vec::new(),
            declared: Vec::new(),
        }
    }

    /// The name less its variables: alike for every cell of one matrix.
    pub fn scenario(&self) -> &str {
        let list: Vec<_> = self.variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        self.name.strip_suffix(&format!("[{}]", list.join(","))).unwrap_or(&self.name)
    }
}

/// Durations as whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, ser: S) -> Result<S::Ok, S::Error> {
        ser.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(de: D) -> Result<Duration, D::Error> {
        u64::deserialize(de).map(Duration::from_millis)
    }
}

/// What a run tells, in order.
#[derive(Clone, Debug)]
pub enum Event {
    /// Before the first cell.
    RunStarted {
        /// Cells that will run or be skipped.
        cells: usize,
        /// The tier, and why not a higher one.
        tier: Tier,
        /// Why the tier is what it is; for the first line of output.
        tier_reason: String,
    },
    /// A cell begins.
    CellStarted {
        /// Its name.
        name: String,
    },
    /// A cell ended.
    CellFinished(Box<CellReport>),
    /// After the last cell.
    RunFinished {
        /// Wall time of the run.
        duration: Duration,
    },
}

/// Totals of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Cells that passed.
    pub passed: usize,
    /// Cells that failed.
    pub failed: usize,
    /// Cells that were skipped.
    pub skipped: usize,
}

impl Summary {
    /// Counts the outcomes of `cells`.
    pub fn of<'a>(cells: impl IntoIterator<Item = &'a CellReport>) -> Self {
        cells.into_iter().fold(Self::default(), |mut sum, cell| {
            match cell.result {
                Outcome::Pass => sum.passed += 1,
                Outcome::Fail => sum.failed += 1,
                Outcome::Skip => sum.skipped += 1,
            }
            sum
        })
    }
}
