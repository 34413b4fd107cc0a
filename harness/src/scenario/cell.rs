//! One runnable case: a scenario with its matrix variables put in.

use std::{path::PathBuf, sync::Arc};

use crate::scenario::{
    outline::{Outline, Place},
    source::SourceFile,
    types::{Scenario, Step},
};

/// Longest variable value that is shown in full, in characters.
const SHOWN: usize = 40;

/// A scenario with its matrix variables put in, and the way back to its file.
#[derive(Clone, Debug)]
pub struct Cell {
    /// `connect/refused::refused connection is recorded[via=nonblock]`: the path below
    /// `scenarios/` without its extension, the scenario's name, the variables. Printable, and
    /// unique within its file.
    pub name: String,
    /// The file, as it was named by the caller.
    pub file: PathBuf,
    /// The folder below `scenarios/`.
    pub topic: String,
    /// The matrix variables of this cell in order, as printable text.
    pub variables: Vec<(String, String)>,
    /// The scenario, expanded; its `matrix` is empty.
    pub scenario: Scenario,
    /// The expanded YAML: a scenario file of its own.
    pub source: String,
    pub(crate) origin: Arc<SourceFile>,
    pub(crate) outline: Arc<Outline>,
}

impl Cell {
    /// Line and column, both from 1, of a value in the file: `steps[1].outcome`,
    /// `expect.documents[0].match.verdict`, `expect.wire[0]`. A value that is not written (a
    /// default) is at what would hold it. `None` if the file has nothing of the path.
    pub fn locate(&self, path: &str) -> Option<(usize, usize)> {
        self.outline.value(path).map(|place| (place.line, place.column))
    }

    /// The step at a path such as `steps[2].together[0]`.
    pub fn step(&self, path: &str) -> Option<&Step> {
        let mut numbers = path.split(['[', ']']).filter_map(|part| part.parse::<usize>().ok());
        let step = self.scenario.steps.get(numbers.next()?)?;
        match numbers.next() {
            Some(index) => step.together.as_ref()?.get(index),
            None => Some(step),
        }
    }

    /// `file:line:column`, the source line, and carets below the token that starts there.
    pub fn excerpt(&self, line: usize, column: usize) -> String {
        let place = self.outline.token(line, column).unwrap_or(Place { line, column, length: 1 });
        format!("{}:{line}:{column}\n{}", self.file.display(), self.origin.excerpt(place))
    }
}

/// `text` without anything that moves a cursor, ends a line or hides itself.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\'' | '"' => out.push(c),
            c => out.extend(c.escape_debug()),
        }
    }
    out
}

/// A variable's value for a cell's name. One that is cut carries its place in the list, so that
/// names stay apart.
pub(crate) fn label(value: &str, index: usize) -> String {
    let length = value.chars().count();
    match length {
        0 => "\"\"".to_owned(),
        _ if length <= SHOWN => printable(value),
        _ => {
            let start: String = value.chars().take(SHOWN).collect();
            format!("{}…#{}", printable(&start), index + 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_values_become_printable() {
        assert_eq!(label("", 0), "\"\"");
        assert_eq!(label("a\nb\t\"c\"", 0), "a\\nb\\t\"c\"");
        assert_eq!(label("\u{202e}abc", 0), "\\u{202e}abc");
        assert_eq!(label("naïve 猫", 0), "naïve 猫");
        let long = label(&"x".repeat(4096), 2);
        assert_eq!(long, format!("{}…#3", "x".repeat(40)));
    }
}
