//! The one enum between the runner and everything that shows results: terminal, JSON, JUnit, HTML.

use std::{path::PathBuf, time::Duration};

use serde::Serialize;
use serde_json::Value;

/// How much of the chain a run exercises. Each tier is a superset of the evidence of the one before.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, strum::Display, strum::EnumString,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Tier {
    /// The shipped policy code against the naive model; no kernel.
    Model,
    /// Namespaces, real sockets, real eBPF, the real reader, an OTLP endpoint in this process.
    Lab,
}

/// How a cell ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, strum::Display)]
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

/// What kind of failure, so that causes stay apart. Also the exit code of `harness run`: the
/// highest class of the run; 0 is success, 1 is left to the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[repr(u8)]
pub enum Class {
    /// The scenario file is wrong.
    BadCase = 2,
    /// The machine could not provide the world.
    Environment = 3,
    /// The agent's own call did not end as the case says.
    Trigger = 4,
    /// A document, the wire or the model disagrees with the case.
    Expectation = 5,
    /// No document and no accounted loss.
    Loss = 6,
    /// Arrived although it was not allowed.
    Leak = 7,
}

/// One violated assertion.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failure {
    /// What kind.
    pub class: Class,
    /// One line: what was expected, what was found.
    pub message: String,
    /// More lines: nearest document and field diff, the YAML excerpt with a caret.
    pub detail: String,
}

/// What the far side saw of one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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

/// Everything known about one cell when it ended.
#[derive(Clone, Debug, Serialize)]
pub struct CellReport {
    /// `folder/file::name[var=value,…]`; unique in a run.
    pub name: String,
    /// The YAML file, relative to where the run was started.
    pub file: PathBuf,
    /// Where it ran.
    pub tier: Tier,
    /// How it ended.
    pub result: Outcome,
    /// The gravest failure's class.
    pub class: Option<Class>,
    /// The gravest failure's message, or why it was skipped; empty if passed.
    pub reason: String,
    /// From the first to the last action.
    #[serde(rename = "duration_ms", serialize_with = "millis")]
    pub duration: Duration,
    /// Documents of this cell's agents, as the store holds them.
    pub documents: Vec<Value>,
    /// What the far side saw.
    pub wire: Vec<WireCount>,
    /// What the model says.
    pub model: Vec<ModelVerdict>,
    /// Every violated assertion.
    pub failures: Vec<Failure>,
    /// The scenario's topic: its folder below `scenarios/`.
    pub topic: String,
    /// The matrix variables of this cell, in order.
    pub variables: Vec<(String, String)>,
    /// The expanded YAML of the cell.
    pub source: String,
}

fn millis<S: serde::Serializer>(duration: &Duration, ser: S) -> Result<S::Ok, S::Error> {
    ser.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
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
