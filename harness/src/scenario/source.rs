//! The text of a scenario file as its author wrote it, for pointing at.

use std::path::{Path, PathBuf};

use crate::scenario::{diagnostic::Diagnostic, outline::Place};

/// Widest part of a source line that is shown, in characters.
const WINDOW: usize = 100;
/// What is kept of the line before the place that is pointed at, where the line is cut.
const LEAD: usize = 40;

/// One file, with its line ends made uniform.
#[derive(Debug)]
pub(crate) struct SourceFile {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl SourceFile {
    /// `text` may have any of YAML's line ends.
    pub(crate) fn new(path: &Path, text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        Self { path: path.to_owned(), text }
    }

    /// A diagnostic that points at `place`.
    pub(crate) fn diagnose(&self, place: Place, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            file: self.path.clone(),
            line: place.line,
            column: place.column,
            message: message.into(),
            expected: Vec::new(),
            help: None,
            note: None,
            excerpt: self.excerpt(place),
        }
    }

    /// The source line of `place`, and carets below it. Control characters are made visible, and a
    /// line that is too long is cut on both sides.
    pub(crate) fn excerpt(&self, place: Place) -> String {
        let Some(line) = self.text.split('\n').nth(place.line.saturating_sub(1)) else {
            return String::new();
        };
        let line: Vec<char> = line.trim_end().chars().map(visible).collect();
        let at = place.column.saturating_sub(1).min(line.len());
        let start = if line.len() > WINDOW { at.saturating_sub(LEAD) } else { 0 };
        let end = (start + WINDOW).min(line.len());
        let before = if start > 0 { "…" } else { "" };
        let after = if end < line.len() { "…" } else { "" };
        let shown: String = line[start..end].iter().collect();
        let carets = place.length.clamp(1, (end.max(at + 1)) - at);
        let number = place.line.to_string();
        let margin = " ".repeat(number.len());
        let indent = " ".repeat(at - start + before.chars().count());
        let below = "^".repeat(carets);
        format!("{margin} |\n{number} | {before}{shown}{after}\n{margin} | {indent}{below}")
    }
}

/// Tabs and control characters would move the carets, or the terminal's cursor.
fn visible(c: char) -> char {
    match c {
        '\t' => '→',
        c if c.is_control() => '\u{fffd}',
        // Direction overrides and other invisible format characters.
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {
            '\u{fffd}'
        }
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carets_stand_below_the_token() {
        let file = SourceFile::new(Path::new("x.yaml"), "a: 1\r\nbc: def\n");
        let place = Place { line: 2, column: 5, length: 3 };
        assert_eq!(file.excerpt(place), "  |\n2 | bc: def\n  |     ^^^");
    }

    #[test]
    fn a_long_line_is_cut_around_the_token() {
        let text = format!("{}TOKEN{}", "a".repeat(500), "b".repeat(500));
        let file = SourceFile::new(Path::new("x.yaml"), &text);
        let excerpt = file.excerpt(Place { line: 1, column: 501, length: 5 });
        let lines: Vec<&str> = excerpt.lines().collect();
        let caret = lines[2].chars().position(|c| c == '^').unwrap();
        assert!(lines[1].chars().skip(caret).collect::<String>().starts_with("TOKEN"), "{excerpt}");
        assert!(lines[1].chars().count() < 120);
    }

    #[test]
    fn a_place_past_the_end_is_harmless() {
        let file = SourceFile::new(Path::new("x.yaml"), "a: 1");
        assert!(file.excerpt(Place { line: 1, column: 99, length: 9 }).ends_with('^'));
        assert_eq!(file.excerpt(Place { line: 7, column: 1, length: 1 }), "");
    }
}
