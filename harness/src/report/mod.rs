//! Shows a run to people and to machines: terminal, JSON, JUnit, HTML.
//!
//! Every form consumes [`Event`] and nothing else. This module must not know how a cell is run, and
//! must never trust what it prints: names, labels, commands and documents come from scenario files
//! and from agents.

mod coverage;
mod elapsed;
mod file;
mod fold;
mod html;
mod json;
mod junit;
mod tally;
mod terminal;
mod visible;

use std::io;

pub use coverage::{Coverage, CoverageSummary, Place, covers};
pub use file::writable;
pub use fold::{Block, Fold};
pub use html::Html;
pub use json::{CoveragePlace, CoverageTable, Json, Report};
pub use junit::Junit;
pub use tally::{Tally, TopicTally};
pub use terminal::Terminal;
pub use visible::visible;

use crate::event::Event;

/// One way to show a run.
pub trait Consumer {
    /// Takes the next event. What cannot be written now is told by [`finish`](Self::finish).
    fn event(&mut self, event: &Event);

    /// Writes what is left.
    ///
    /// # Errors
    /// The first output that could not be written, here or in an earlier event, naming the file.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// Hands every event to several consumers, in the order they were added.
#[derive(Default)]
pub struct Fanout(Vec<Box<dyn Consumer>>);

impl Fanout {
    /// Adds one more consumer.
    #[must_use]
    pub fn with(mut self, consumer: impl Consumer + 'static) -> Self {
        self.0.push(Box::new(consumer));
        self
    }
}

impl Consumer for Fanout {
    fn event(&mut self, event: &Event) {
        for consumer in &mut self.0 {
            consumer.event(event);
        }
    }

    /// Finishes all of them, the last added first, so that the terminal, added first, has the last
    /// line; one that fails does not keep the others from writing.
    fn finish(self: Box<Self>) -> io::Result<()> {
        let mut result = Ok(());
        for consumer in self.0.into_iter().rev() {
            result = result.and(consumer.finish());
        }
        result
    }
}
