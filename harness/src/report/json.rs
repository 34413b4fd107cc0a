//! The report for programs: everything, in one JSON object.

use std::{io, path::PathBuf};

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Consumer, Tally, file};
use crate::event::{Event, Summary};

/// Writes `{"summary": {"passed", "failed", "skipped"}, "cells": [CellReport]}`, cells in the order
/// they ended.
pub struct Json {
    path: PathBuf,
    tally: Tally,
    // Serialised at once: the report then holds one copy of a cell's documents, not two.
    cells: Vec<Box<RawValue>>,
    error: Option<serde_json::Error>,
}

#[derive(Serialize)]
struct Report<'a> {
    summary: Summary,
    cells: &'a [Box<RawValue>],
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
        let mut text = serde_json::to_vec(&Report { summary: self.tally.summary(), cells: &self.cells })?;
        text.push(b'\n');
        file::write(&self.path, "JSON", &text)
    }
}
