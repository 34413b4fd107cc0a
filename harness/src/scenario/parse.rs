//! From the text of a cell to the grammar's types, with the parser's errors put into our words.

use serde_saphyr::{Error, Location};

use crate::scenario::{
    cell::printable,
    diagnostic::Diagnostic,
    matrix::{self, Expansion},
    needs,
    outline::{self, Outline, Place, Value},
    source::SourceFile,
    types::Scenario,
};

/// Reads the scenario; the outline gives tokens their whole length.
pub(crate) fn scenario(
    source: &SourceFile,
    expansion: &Expansion,
    outline: &Outline,
) -> Result<Scenario, Vec<Diagnostic>> {
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    serde_saphyr::from_str_with_options(&expansion.text, options)
        .map_err(|error| vec![diagnose(source, expansion, outline, error.without_snippet())])
}

fn diagnose(source: &SourceFile, expansion: &Expansion, outline: &Outline, error: &Error) -> Diagnostic {
    let place = error.location().map_or(Place::START, |location| place(&expansion.text, &location));
    let original = expansion.original(place);
    let at = outline.token(original.line, original.column).unwrap_or(original);
    let found = found(&expansion.text, place);
    let wrong = |expected: &str| {
        let expected = plain_type(expected);
        if found == "nothing" {
            return source
                .diagnose(at, format!("there is nothing here, where {expected} belongs"))
                .help("write it behind the colon, or below and indented further");
        }
        let fault = source.diagnose(at, format!("{found} is not {expected}"));
        match (found.as_str(), expected.as_str()) {
            (_, "a list") => {
                fault.help("a list is written in brackets, as in [a, b], or line by line behind `- `")
            }
            ("a mapping", "a text") => {
                fault.help("a text with `:` in it, such as an IPv6 address, is put in quotes")
            }
            _ => fault,
        }
    };
    match error {
        Error::SerdeUnknownField { field, expected, .. } => source
            .diagnose(at, format!("unknown field `{}`", printable(field)))
            .expected(field, expected.iter().copied()),
        Error::SerdeUnknownVariant { variant, expected, .. } => source
            .diagnose(at, format!("unknown word `{}`", printable(variant)))
            .expected(variant, expected.iter().copied()),
        Error::SerdeMissingField { field, .. } => {
            let at = holder(&expansion.text, place).map_or(at, |place| expansion.original(place));
            source.diagnose(at, format!("`{field}` is missing in what begins here"))
        }
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or("key");
            source
                .diagnose(at, format!("`{}` is there twice", printable(key)))
                .help("a field stands once; remove one of them")
        }
        Error::SerdeInvalidType { expected, .. } | Error::SerdeInvalidValue { expected, .. } => {
            wrong(expected)
        }
        Error::InvalidScalar { ty, .. } => wrong(ty),
        Error::Unexpected { expected, .. } => wrong(expected),
        Error::InvalidBooleanStrict { .. } => wrong("bool"),
        Error::NullIntoString { .. } => source.diagnose(at, "there is nothing here, where a text belongs"),
        Error::Message { msg, .. } if msg.contains("untagged enum PortText") => source
            .diagnose(at, format!("{found} is not a port"))
            .help("write one port from 1 to 65535, or a range such as \"8000-8100\""),
        Error::Message { msg, .. } if msg.contains("untagged enum Need") => source
            .diagnose(at, format!("{found} is nothing that a scenario can need"))
            .expected("", needs::words())
            .help("for a program write `{program: nmap}`"),
        Error::Message { msg, .. } => source.diagnose(at, printable(msg)),
        Error::ExternalMessage { msg, .. } => matrix::malformed(source, &expansion.text, original, msg),
        other => matrix::malformed(source, &expansion.text, original, &other.to_string()),
    }
}

/// The parser's location, in our terms. A container's length is not that of a token.
fn place(text: &str, location: &Location) -> Place {
    let line = usize::try_from(location.line()).unwrap_or(1).max(1);
    let column = usize::try_from(location.column()).unwrap_or(1).max(1);
    let rest =
        text.split('\n').nth(line - 1).map_or(0, |line| line.chars().count().saturating_sub(column - 1));
    let length = usize::try_from(location.span().len()).unwrap_or(1).clamp(1, rest.max(1));
    Place { line, column, length }
}

/// What stands at the place, for a message.
fn found(text: &str, place: Place) -> String {
    let Ok(document) = outline::read(text) else { return "this".to_owned() };
    let mut rest: Vec<_> = document.root.iter().collect();
    while let Some(node) = rest.pop() {
        let here = (node.place.line, node.place.column) == (place.line, place.column);
        match &node.value {
            Value::Scalar { .. } if here => return node.value.describe().into_owned(),
            Value::List(_) | Value::Map(_) if here => return node.value.describe().into_owned(),
            Value::List(items) => rest.extend(items),
            Value::Map(entries) => rest.extend(entries.iter().flat_map(|(key, value)| [key, value])),
            Value::Scalar { .. } | Value::Alias => {}
        }
    }
    "this".to_owned()
}

/// Where the innermost mapping begins that this place is of. The parser reports a missing field at
/// the mapping, or at the last field that is there.
fn holder(text: &str, place: Place) -> Option<Place> {
    let document = outline::read(text).ok()?;
    let at = |node: &outline::Node| (node.place.line, node.place.column) == (place.line, place.column);
    let mut found = None;
    let mut rest: Vec<_> = document.root.iter().collect();
    while let Some(node) = rest.pop() {
        match &node.value {
            Value::Map(entries) => {
                // What is further in is seen later, and replaces what is further out.
                if at(node) || entries.iter().any(|(key, value)| at(key) || at(value)) {
                    found = Some(node.place);
                }
                rest.extend(entries.iter().map(|(_, value)| value));
            }
            Value::List(items) => rest.extend(items),
            Value::Scalar { .. } | Value::Alias => {}
        }
    }
    found
}

/// Rust's names of types, in words.
fn plain_type(expected: &str) -> String {
    let words = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => {
            let most = match expected {
                "u8" => u32::from(u8::MAX),
                "u16" => u32::from(u16::MAX),
                "u32" => u32::MAX,
                _ => return "a whole number, 0 or more".to_owned(),
            };
            return format!("a whole number from 0 to {most}");
        }
        "bool" | "a boolean" => "true or false",
        "a sequence" | "sequence" | "sequence start" => "a list",
        "a map" | "mapping" | "mapping start" => "a mapping",
        "a string" | "string scalar" => "a text",
        other => return other.strip_prefix("struct ").map_or(other.to_owned(), |_| "a mapping".to_owned()),
    };
    words.to_owned()
}
