//! What is wrong with a scenario file, and where.

use std::{fmt, path::PathBuf};

use crate::scenario::cell::printable;

/// One fault of a scenario file, with the place it is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file, as it was named by the caller.
    pub file: PathBuf,
    /// Line, from 1; 0 where the fault is the file itself.
    pub line: usize,
    /// Column, from 1, in characters.
    pub column: usize,
    /// What is wrong, in one printable line.
    pub message: String,
    /// The names that would have been right.
    pub expected: Vec<String>,
    /// What to do about it.
    pub help: Option<String>,
    /// In which cell, where not every cell of the file has this fault.
    pub note: Option<String>,
    /// The source line, and carets below the token.
    pub excerpt: String,
}

impl Diagnostic {
    /// A fault of the file as a whole: it cannot be read, or is too large.
    pub(crate) fn of_file(file: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line: 0,
            column: 0,
            message: message.into(),
            expected: Vec::new(),
            help: None,
            note: None,
            excerpt: String::new(),
        }
    }

    /// Adds what to do about it.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// As [`Self::suggest`], by value.
    pub(crate) fn expected<S: Into<String>>(
        mut self,
        actual: &str,
        names: impl IntoIterator<Item = S>,
    ) -> Self {
        self.suggest(actual, names);
        self
    }

    /// Adds the right names, and the one that `actual` probably meant.
    pub(crate) fn suggest<S: Into<String>>(&mut self, actual: &str, names: impl IntoIterator<Item = S>) {
        self.expected = names.into_iter().map(|name| printable(&name.into())).collect();
        if let Some(name) = nearest(actual, self.expected.iter().map(String::as_str)) {
            self.help = Some(format!("did you mean `{name}`?"));
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        write!(f, " {}", self.message)?;
        if !self.excerpt.is_empty() {
            write!(f, "\n{}", self.excerpt)?;
        }
        let margin = " ".repeat(self.line.to_string().len());
        match self.expected.as_slice() {
            [] => {}
            [name] => write!(f, "\n{margin} = expected `{name}`")?,
            names => write!(f, "\n{margin} = expected one of `{}`", names.join("`, `"))?,
        }
        if let Some(help) = &self.help {
            write!(f, "\n{margin} = help: {help}")?;
        }
        if let Some(note) = &self.note {
            write!(f, "\n{margin} = note: {note}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

/// The one of `names` that `actual` is most likely a slip for, if any is near enough.
pub fn nearest<'a>(actual: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = actual.to_lowercase();
    names
        .into_iter()
        .filter(|name| *name != actual)
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= name.chars().count().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_slips_and_nothing_far() {
        assert_eq!(nearest("agnt", ["agents", "agent", "rules"]), Some("agent"));
        assert_eq!(nearest("denied", ["ALLOWED", "DENIED"]), Some("DENIED"));
        assert_eq!(nearest("zebra", ["agent", "rules"]), None);
    }
}
