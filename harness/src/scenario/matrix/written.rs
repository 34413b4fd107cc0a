//! How a value is written at its place.

use super::variables::Item;
use crate::scenario::outline::Notation;

/// A value as it is written at a place of this notation, or why it cannot be.
pub(super) fn written(item: &Item, whole: bool, notation: Notation) -> Result<String, &'static str> {
    let text = item.text.as_str();
    match notation {
        Notation::DoubleQuoted => Ok(escaped(text)),
        Notation::Plain if whole && item.plain && is_plain(text) => Ok(text.to_owned()),
        Notation::Plain if whole => Ok(format!("\"{}\"", escaped(text))),
        Notation::Plain if is_plain(text) => Ok(text.to_owned()),
        Notation::Plain => Err("cannot stand in an unquoted word"),
        Notation::SingleQuoted if !text.contains(char::is_control) => Ok(text.replace('\'', "''")),
        Notation::SingleQuoted => Err("cannot stand in single quotes"),
        Notation::Block | Notation::Comment if !text.contains(char::is_control) => Ok(text.to_owned()),
        Notation::Block | Notation::Comment => Err("cannot stand in a block of text"),
    }
}

/// Whether YAML reads it back as one plain scalar, anywhere.
fn is_plain(text: &str) -> bool {
    let safe = |c: char| c.is_alphanumeric() || "_./:+-@ ".contains(c);
    !text.is_empty()
        && text.chars().all(safe)
        && text.trim() == text
        && !text.starts_with(['@', ':'])
        && !text.starts_with("- ")
        && !text.ends_with(':')
        && !text.contains(": ")
}

/// The inside of a double-quoted scalar.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            // Not a variable: the text that stands here is final.
            '$' if rest.peek() == Some(&'{') => out.push_str("\\x24"),
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\u{2028}' | '\u{2029}' | '\u{feff}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}
