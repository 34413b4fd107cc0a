//! The report for investigation: one self-contained HTML file.
//!
//! It asks for nothing from elsewhere, and its content security policy forbids every script and
//! style but the two in this folder, by hash. Without scripts everything but the filter works.

mod cell;
mod coverage;
mod documents;
mod filter;
mod overview;
mod steps;

use std::{io, path::PathBuf, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use super::{Consumer, Coverage, Tally, file};
use crate::event::{CellReport, Event, Outcome};

const STYLE: &str = include_str!("style.css");
const FILTER: &str = include_str!("filter.js");

/// Writes the HTML report when the run ends.
pub struct Html {
    path: PathBuf,
    started: String,
    duration: Duration,
    tally: Tally,
    coverage: Option<Coverage>,
    covers: bool,
    facets: filter::Facets,
    squares: Vec<overview::Square>,
    // Rendered at once, for what is kept of a cell is then its text alone.
    cells: Vec<Rendered>,
}

/// A cell's part of the page, and what it is sorted by.
struct Rendered {
    result: Outcome,
    name: String,
    markup: Markup,
}

impl Html {
    /// A report that is written to `path` when the run ends.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            started: String::new(),
            duration: Duration::ZERO,
            tally: Tally::default(),
            coverage: None,
            covers: true,
            facets: filter::Facets::default(),
            squares: Vec::new(),
            cells: Vec::new(),
        }
    }

    /// With or without the coverage table; with it unless told otherwise.
    #[must_use]
    pub fn with_coverage(mut self, wanted: bool) -> Self {
        self.covers = wanted;
        self
    }

    fn add(&mut self, cell: &CellReport) {
        let id = format!("cell-{}", self.cells.len() + 1);
        let facets = filter::Facets::of(cell);
        self.tally.add(cell);
        if let Some(coverage) = &mut self.coverage {
            coverage.add(cell);
        }
        self.facets.extend(&facets);
        let markup = cell::render(cell, &id, &facets, &self.path);
        self.cells.push(Rendered { result: cell.result, name: cell.name.clone(), markup });
        self.squares.push(overview::Square::new(cell, id));
    }

    fn page(&self) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(policy());
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="referrer" content="no-referrer";
                    meta name="color-scheme" content="light dark";
                    title { (overview::status(&self.tally)) " · clawker-egress" }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    (overview::banner(&self.tally, &self.started, self.duration))
                    main {
                        (overview::matrix(&self.tally, &self.squares))
                        @match &self.coverage {
                            Some(coverage) => { (coverage::render(coverage, &self.squares)) }
                            None if self.covers => { p.note { "No coverage table: this tier makes no documents." } }
                            None => {
                                p.note { "No coverage table: not every case was run; " code { "--coverage" } " shows it." }
                            }
                        }
                        (overview::verdicts(&self.tally))
                        section {
                            h2 { "Cells" }
                            (filter::form(&self.facets))
                            @for cell in self.sorted() { (cell.markup) }
                            @if self.cells.is_empty() { p.quiet { "No cell was selected." } }
                        }
                    }
                    script { (PreEscaped(FILTER)) }
                }
            }
        }
    }

    /// What needs a look first, and then by name: cells end in another order each time.
    fn sorted(&self) -> Vec<&Rendered> {
        let rank =
            |result| [Outcome::Fail, Outcome::Skip, Outcome::Pass].iter().position(|one| *one == result);
        let mut cells: Vec<_> = self.cells.iter().collect();
        cells.sort_by(|one, other| (rank(one.result), &one.name).cmp(&(rank(other.result), &other.name)));
        cells
    }
}

/// Nothing from anywhere, but for this file's own style and script.
fn policy() -> String {
    let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(FILTER)
    )
}

impl Consumer for Html {
    fn event(&mut self, event: &Event) {
        match event {
            Event::RunStarted { tier, tier_reason, .. } => {
                self.started = format!("tier {tier}: {tier_reason}");
                self.coverage = (self.covers && Coverage::is_possible(*tier)).then(Coverage::default);
            }
            Event::CellStarted { .. } => {}
            Event::CellFinished(cell) => self.add(cell),
            Event::RunFinished { duration } => self.duration = *duration,
        }
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        file::write(&self.path, "HTML", self.page().into_string().as_bytes())
    }
}
