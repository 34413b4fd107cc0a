//! The report for investigation: one self-contained HTML file.
//!
//! It asks for nothing from elsewhere, and its content security policy forbids every script and
//! style but the two in this folder, by hash. Without scripts everything but the filter works.

mod cell;
mod documents;
mod overview;

use std::{collections::BTreeSet, io, path::PathBuf, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use super::{Consumer, Tally, file, visible::visible};
use crate::event::{CellReport, Event, Outcome};

const STYLE: &str = include_str!("style.css");
const FILTER: &str = include_str!("filter.js");

/// Writes the HTML report when the run ends.
pub struct Html {
    path: PathBuf,
    started: String,
    duration: Duration,
    tally: Tally,
    squares: Vec<overview::Square>,
    // Rendered at once, for what is kept of a cell is then its text alone.
    cells: Vec<(Outcome, Markup)>,
}

impl Html {
    /// A report that is written to `path` when the run ends.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            started: String::new(),
            duration: Duration::ZERO,
            tally: Tally::default(),
            squares: Vec::new(),
            cells: Vec::new(),
        }
    }

    fn add(&mut self, cell: &CellReport) {
        let id = format!("cell-{}", self.cells.len() + 1);
        self.tally.add(cell);
        self.cells.push((cell.result, cell::render(cell, &id)));
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
                        (overview::verdicts(&self.tally))
                        section {
                            h2 { "Cells" }
                            (self.filter())
                            @for result in [Outcome::Fail, Outcome::Skip, Outcome::Pass] {
                                @for (_, cell) in self.cells.iter().filter(|(own, _)| *own == result) { (cell) }
                            }
                            @if self.cells.is_empty() { p.quiet { "No cell was selected." } }
                        }
                    }
                    script { (PreEscaped(FILTER)) }
                }
            }
        }
    }

    /// Hidden until its script runs.
    fn filter(&self) -> Markup {
        let topics: BTreeSet<_> = self.tally.topics().map(|(name, _)| name).collect();
        html! {
            form #filter hidden {
                input name="text" type="search" placeholder="Text, address, label…" aria-label="Text" autocomplete="off";
                select name="result" aria-label="Result" {
                    option value="" { "any result" }
                    @for result in [Outcome::Fail, Outcome::Skip, Outcome::Pass] { option { (result) } }
                }
                select name="topic" aria-label="Topic" {
                    option value="" { "any topic" }
                    @for topic in topics { option value=(visible(topic)) { (visible(topic)) } }
                }
                output name="shown" {}
            }
        }
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
                self.started = format!("tier {tier}: {tier_reason}")
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
