//! The report for the person at the terminal.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, Row, Table, TableComponent, presets::UTF8_BORDERS_ONLY,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    Block, Consumer, Coverage, Fold, Place, Tally, TopicTally,
    elapsed::elapsed,
    visible::{line, visible},
};
use crate::event::{CellReport, Event, Failure, Outcome, Tier};

/// Most captures that are named for one block.
const MOST_PCAPS: usize = 3;

/// Prints a line for each failed cell as it ends; then failures in full, those that are alike in several
/// cells of one matrix once; then the verdict matrix, and as its last line `N passed, N failed, N skipped
/// in TIME`, the wall time.
pub struct Terminal<W> {
    out: W,
    colour: bool,
    bar: ProgressBar,
    tally: Tally,
    failed: Fold,
    coverage: Option<Coverage>,
    /// Whether the run is of the model tier, which shows less than its numbers seem to say.
    model: bool,
    duration: Duration,
    error: Option<io::Error>,
}

impl Terminal<io::Stdout> {
    /// Results on standard output, coloured if that is a terminal and `NO_COLOR` is not set; a progress
    /// bar on standard error if that is a terminal.
    pub fn stdout() -> Self {
        let out = io::stdout();
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let colour = wanted && out.is_terminal();
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} {prefix} {elapsed} {wide_msg}")
        {
            bar.set_style(style.progress_chars("━━╌"));
        }
        Self { colour, bar, ..Self::plain(out) }
    }
}

impl<W: Write> Terminal<W> {
    /// Results as plain text to `out`, without colour and progress.
    pub fn plain(out: W) -> Self {
        Self {
            out,
            colour: false,
            bar: ProgressBar::hidden(),
            tally: Tally::default(),
            failed: Fold::default(),
            coverage: None,
            model: false,
            duration: Duration::ZERO,
            error: None,
        }
    }

    /// Shows the coverage table too, if `wanted`: of a part of the scenarios it would be blank for no reason.
    #[must_use]
    pub fn with_coverage(mut self, wanted: bool) -> Self {
        self.coverage = wanted.then(Coverage::default);
        self
    }

    /// Writes above the progress bar. After a first error, say a closed pipe, nothing more is tried.
    fn print(&mut self, text: &str) {
        if self.error.is_none() {
            let written =
                self.bar.suspend(|| self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()));
            self.error = written.err();
        }
    }

    fn finished(&mut self, cell: &CellReport) {
        self.tally.add(cell);
        if let Some(coverage) = &mut self.coverage {
            coverage.add(cell);
        }
        self.bar.inc(1);
        if cell.result == Outcome::Fail {
            self.bar.set_prefix(format!("{} failed", self.tally.summary().failed));
            self.failed.add(cell);
            let class = class(cell);
            let text = format!(
                "{} {}\n     {}: {}\n",
                self.paint("1;31", "FAIL"),
                line(&cell.name),
                self.paint("31", class),
                line(&cell.reason)
            );
            self.print(&text);
        }
    }

    /// Failures in full.
    fn block(&self, block: &Block) -> String {
        let cell = &block.first;
        let mut text = self.paint("1;31", "FAIL");
        match block.cells() {
            None => text += &format!(" {} ({})\n", line(&cell.name), elapsed(cell.duration)),
            Some(cells) => text += &format!(" {}\n  {}\n", line(cell.scenario()), line(&cells)),
        }
        if cell.failures.is_empty() {
            text += &format!("  {}: {}\n", self.paint("31", class(cell)), line(&cell.reason));
        }
        for Failure { class, message, detail } in &cell.failures {
            text += &format!("  {}: {}\n", self.paint("31", class), line(message));
            for row in visible(detail).lines() {
                let row = format!("    {row}");
                text += &format!("{}\n", row.trim_end());
            }
        }
        for (path, cut) in block.pcaps.iter().take(MOST_PCAPS) {
            let cut = if *cut > 0 { format!(" (without the last {cut} packets)") } else { String::new() };
            text += &format!("  capture: {}{cut}\n", line(&path.to_string_lossy()));
        }
        if block.pcaps.len() > MOST_PCAPS {
            text += &format!("  and {} more captures beside it\n", block.pcaps.len() - MOST_PCAPS);
        }
        text + "\n"
    }

    /// `text` in an ANSI style.
    fn paint(&self, style: &str, text: impl Display) -> String {
        if self.colour { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_string() }
    }

    fn closing(&self) -> String {
        let mut text = String::new();
        for (index, block) in self.failed.blocks().enumerate() {
            text += if index == 0 { "\n" } else { "" };
            text += &self.block(block);
        }
        if self.tally.topics().next().is_some() {
            text += &format!("{}\n\n", self.topics());
        }
        if self.tally.verdicts().next().is_some() {
            text += &format!("{}\n\n", self.verdicts());
        }
        for (reason, count) in self.tally.skips() {
            text += &format!("skipped {count}: {}\n", line(reason));
        }
        if self.tally.skips().next().is_some() {
            text.push('\n');
        }
        if let Some(coverage) = &self.coverage {
            text += &self.covered(coverage);
        }
        if !self.tally.slowest().is_empty() {
            let slowest = self.tally.slowest().iter();
            let slowest: Vec<_> =
                slowest.map(|(name, time)| format!("  {:>6}  {}\n", elapsed(*time), line(name))).collect();
            text += &format!("slowest:\n{}\n", slowest.concat());
        }
        if self.model {
            text += "tier model: no socket was opened, and no expectation judged\n";
        }
        let sum = self.tally.summary();
        let time = elapsed(self.duration);
        text + &format!("{} passed, {} failed, {} skipped in {time}\n", sum.passed, sum.failed, sum.skipped)
    }

    /// The coverage table, and what is missing in it.
    fn covered(&self, coverage: &Coverage) -> String {
        let mut table = self.table(["coverage"]);
        let columns = Coverage::columns().map(|(family, verdict)| format!("{family}\n{verdict}"));
        let headings = std::iter::once("coverage".to_owned()).chain(columns);
        table.set_header(headings.map(|heading| Cell::new(heading).add_attribute(Attribute::Bold)));
        for (transport, places) in coverage.rows() {
            table.add_row(std::iter::once(Cell::new(transport)).chain(places.iter().map(place)));
        }
        for column in table.column_iter_mut() {
            column.set_padding((1, 0));
        }
        let sum = coverage.summary();
        let mut text = format!(
            "{}\n{} places covered, {} cannot be (–; the reports say why), {} blank\n",
            align(table, 1),
            sum.covered,
            sum.cannot,
            sum.blank
        );
        // The blank ones are seen.
        if sum.contradicted > 0
            && let Err(problem) = coverage.require()
        {
            text += &format!("{}\n", self.paint("31", line(&problem)));
        }
        text + "\n"
    }

    fn topics(&self) -> Table {
        let mut table = self.table(["topic", "result", "pass", "fail", "skip", "cells", "time"]);
        for (name, topic) in self.tally.topics() {
            table.add_row(topic_row(&heading(name), topic));
        }
        table.add_row(topic_row("all", &self.tally.total()));
        align(table, 2)
    }

    fn verdicts(&self) -> Table {
        let columns = self.tally.verdict_columns();
        let mut table = self.table([&["documents"][..], &columns].concat());
        for (proto, counts) in self.tally.verdicts() {
            table.add_row([Cell::new(heading(proto))].into_iter().chain(counts.iter().copied().map(count)));
        }
        align(table, 1)
    }

    fn table<'a>(&self, headings: impl IntoIterator<Item = &'a str>) -> Table {
        let mut table = Table::new();
        table.load_preset(UTF8_BORDERS_ONLY);
        table.set_style(TableComponent::HeaderLines, '─');
        table.set_style(TableComponent::LeftHeaderIntersection, '├');
        table.set_style(TableComponent::MiddleHeaderIntersections, '─');
        table.set_style(TableComponent::RightHeaderIntersection, '┤');
        // Colour is decided by this type alone, and the width by the content.
        table.force_no_tty();
        if self.colour {
            table.enforce_styling();
        }
        table.set_header(
            headings.into_iter().map(|heading| Cell::new(heading).add_attribute(Attribute::Bold)),
        );
        table
    }
}

/// One place of the coverage table: cells that passed, failed (✗), were skipped (?).
fn place(place: &Place<'_>) -> Cell {
    if place.is_blank() {
        return Cell::new("none").fg(Color::Red).add_attribute(Attribute::Bold);
    }
    if place.cells.is_empty() {
        return Cell::new("–");
    }
    let counts = [(Outcome::Pass, ""), (Outcome::Fail, "✗"), (Outcome::Skip, "?")];
    let counts = counts.map(|(outcome, mark)| (place.count(outcome), mark));
    let shown = counts.iter().filter(|(count, _)| *count > 0).map(|(count, mark)| format!("{count}{mark}"));
    let cell = Cell::new(shown.collect::<Vec<_>>().join(" "));
    if counts[1].0 > 0 || place.is_contradicted() {
        cell.fg(Color::Red)
    } else if counts[0].0 == 0 {
        cell.fg(Color::Yellow)
    } else {
        cell
    }
}

/// The word for a failed cell's class.
fn class(cell: &CellReport) -> String {
    cell.class.map_or_else(|| "fail".to_owned(), |class| class.to_string())
}

/// Numbers, from column `first` on, to the right.
fn align(mut table: Table, first: usize) -> Table {
    for column in table.column_iter_mut().skip(first) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn topic_row(name: &str, topic: &TopicTally) -> Row {
    let outcome = topic.outcome();
    let colour = match outcome {
        Outcome::Pass => Color::Green,
        Outcome::Fail => Color::Red,
        Outcome::Skip => Color::Yellow,
    };
    let sum = topic.summary;
    let cells = sum.passed + sum.failed + sum.skipped;
    let numbers = [sum.passed, sum.failed, sum.skipped, cells].map(|number| count(number as u64));
    let mut row = vec![Cell::new(name), Cell::new(outcome).fg(colour)];
    row.extend(numbers);
    row.push(Cell::new(elapsed(topic.time)));
    Row::from(row)
}

/// A row's name, cut so that a hostile one does not push the numbers out of sight.
fn heading(name: &str) -> String {
    let name = line(name);
    match name.char_indices().nth(40) {
        None => name,
        Some((end, _)) => format!("{}…", &name[..end]),
    }
}

/// Zero as a dot: what happened stands out.
fn count(number: u64) -> Cell {
    if number == 0 { Cell::new("·") } else { Cell::new(number) }
}

impl<W: Write> Consumer for Terminal<W> {
    fn event(&mut self, event: &Event) {
        match event {
            Event::RunStarted { cells, tier, tier_reason } => {
                self.bar.set_length(*cells as u64);
                self.model = *tier == Tier::Model;
                self.coverage = self.coverage.take().filter(|_| Coverage::is_possible(*tier));
                self.print(&format!("{cells} cells, tier {tier}: {}\n\n", line(tier_reason)));
            }
            Event::CellStarted { name } => self.bar.set_message(line(name)),
            Event::CellFinished(cell) => self.finished(cell),
            Event::RunFinished { duration } => {
                self.duration = *duration;
                self.bar.finish_and_clear();
            }
        }
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.bar.finish_and_clear();
        let text = self.closing();
        self.print(&text);
        match self.error.take() {
            // `harness run | head` is no error.
            None => Ok(()),
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Some(error) => {
                Err(io::Error::new(error.kind(), format!("cannot write results to the terminal: {error}")))
            }
        }
    }
}
