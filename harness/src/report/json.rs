//! The report for programs: everything, in one JSON object.

use std::{io, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Consumer, Coverage, CoverageSummary, Tally, file};
use crate::{
    event::{CellReport, Event, Outcome, Summary},
    transport::Position,
};

/// Writes a [`Report`] when the run ends.
pub struct Json {
    path: PathBuf,
    tally: Tally,
    coverage: Option<Coverage>,
    // Serialised at once: the report then holds one copy of a cell's documents, not two.
    cells: Vec<Box<RawValue>>,
    error: Option<serde_json::Error>,
}

/// The whole report, and its schema:
///
/// - `summary`: `{"passed", "failed", "skipped"}`, numbers of cells;
/// - `coverage`: the coverage table; null where the tier has no documents. Each of its `places` is a
///   `transport/family/verdict`, with indexes into `cells`; one with neither a cell nor a reason why it
///   `cannot` be covered is blank;
/// - `cells`: one object a cell, in the order in which they ended, with the fields of [`CellReport`].
///   `position` is `[line, column]`; `variables` is a list of `[name, value]`; what is not there (`class`,
///   `stage`, `pcap`) is null; closed sets are the words of [`Outcome`](crate::event::Outcome),
///   [`Class`](crate::event::Class), [`Stage`](crate::event::Stage) and [`Tier`](crate::event::Tier).
///   Documents are as the store holds them.
///
/// Fields are added, and never change their meaning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report<C = CellReport> {
    /// Totals.
    pub summary: Summary,
    /// The coverage table.
    pub coverage: Option<CoverageTable>,
    /// The cells.
    pub cells: Vec<C>,
}

/// The coverage table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CoverageTable {
    /// Totals.
    pub summary: CoverageSummary,
    /// Every place, row by row.
    pub places: Vec<CoveragePlace>,
}

/// One place of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CoveragePlace {
    /// Which.
    pub place: Position,
    /// Cells that passed.
    pub passed: usize,
    /// Cells that failed.
    pub failed: usize,
    /// Cells that were skipped.
    pub skipped: usize,
    /// Indexes into the report's `cells`.
    pub cells: Vec<usize>,
    /// Why it cannot be covered.
    pub cannot: Option<String>,
}

impl CoverageTable {
    fn of(coverage: &Coverage) -> Self {
        let places = coverage.rows().flat_map(|(_, places)| places).map(|place| CoveragePlace {
            place: place.position,
            passed: place.count(Outcome::Pass),
            failed: place.count(Outcome::Fail),
            skipped: place.count(Outcome::Skip),
            cells: place.cells.iter().map(|(cell, _)| *cell).collect(),
            cannot: place.cannot,
        });
        Self { summary: coverage.summary(), places: places.collect() }
    }
}

impl Json {
    /// A report that is written to `path` when the run ends.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), tally: Tally::default(), coverage: None, cells: Vec::new(), error: None }
    }
}

impl Consumer for Json {
    fn event(&mut self, event: &Event) {
        if let Event::RunStarted { tier, .. } = event {
            self.coverage = Coverage::is_possible(*tier).then(Coverage::default);
        }
        let Event::CellFinished(cell) = event else { return };
        self.tally.add(cell);
        if let Some(coverage) = &mut self.coverage {
            coverage.add(cell);
        }
        match serde_json::value::to_raw_value(cell) {
            Ok(value) => self.cells.push(value),
            Err(error) => self.error = self.error.take().or(Some(error)),
        }
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        if let Some(error) = self.error {
            return Err(error.into());
        }
        let coverage = self.coverage.as_ref().map(CoverageTable::of);
        let report = Report { summary: self.tally.summary(), coverage, cells: self.cells };
        let mut text = serde_json::to_vec(&report)?;
        text.push(b'\n');
        file::write(&self.path, "JSON", &text)
    }
}
