//! The report for programs: everything, in one JSON object.

use std::{io, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Consumer, Tally, file};
use crate::event::{CellReport, Event, Summary};

/// Writes a [`Report`] when the run ends.
pub struct Json {
    path: PathBuf,
    tally: Tally,
    // Serialised at once: the report then holds one copy of a cell's documents, not two.
    cells: Vec<Box<RawValue>>,
    error: Option<serde_json::Error>,
}

/// The whole report, and its schema:
///
/// - `summary`: `{"passed", "failed", "skipped"}`, numbers of cells;
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
    /// The cells.
    pub cells: Vec<C>,
}

impl Json {
    /// A report that is written to `path` when the run ends.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), tally: Tally::default(), cells: Vec::new(), error: None }
    }
}

impl Consumer for Json {
    fn event(&mut self, event: &Event) {
        let Event::CellFinished(cell) = event else { return };
        self.tally.add(cell);
        match serde_json::value::to_raw_value(cell) {
            Ok(value) => self.cells.push(value),
            Err(error) => self.error = self.error.take().or(Some(error)),
        }
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        if let Some(error) = self.error {
            return Err(error.into());
        }
        let mut text = serde_json::to_vec(&Report { summary: self.tally.summary(), cells: self.cells })?;
        text.push(b'\n');
        file::write(&self.path, "JSON", &text)
    }
}
