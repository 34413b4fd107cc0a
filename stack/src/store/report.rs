//! What was done, and what is not as it should be.

use std::fmt;

use comfy_table::{Table, presets};

/// What a call did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// In the order in which it was done.
    pub lines: Vec<Line>,
}

/// One thing in the store.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it is: a template, a stream.
    pub what: &'static str,
    /// Its name.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not there, or was to be done.
    Made,
    /// It was there, as it should be.
    AsItIs,
    /// It was there as we wrote it once, and was changed: how.
    Updated(String),
    /// It is there, another than it should be, and was left so: how, and what to do.
    Differs(String),
    /// It cannot be: why, and what to do.
    Absent(String),
}

impl Report {
    pub(super) fn add(&mut self, what: &'static str, name: &str, outcome: Outcome) {
        self.lines.push(Line { what, name: name.to_owned(), outcome });
    }

    /// Those that somebody has to see to.
    pub fn open(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| matches!(line.outcome, Outcome::Differs(_) | Outcome::Absent(_)))
    }
}

impl Outcome {
    /// In one word, and what there is to say of it.
    #[must_use]
    pub fn words(&self) -> (&'static str, &str) {
        match self {
            Self::Made => ("made", ""),
            Self::AsItIs => ("as it is", ""),
            Self::Updated(how) => ("updated", how),
            Self::Differs(how) => ("differs", how),
            Self::Absent(why) => ("absent", why),
        }
    }
}

/// A table for people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        for line in &self.lines {
            let (word, more) = line.outcome.words();
            table.add_row([line.what, &line.name, word, more]);
        }
        table.trim_fmt().fmt(f)
    }
}
