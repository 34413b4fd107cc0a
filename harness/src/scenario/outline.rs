//! Where each value of a YAML text stands.
//!
//! The types of the grammar carry no positions, so that they stay plain; this reads the same text
//! once more, as a tree with places. It is bounded in depth, as the text is not trusted.

use std::{borrow::Cow, collections::HashMap, ops::Range};

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span};

/// Deepest nesting of a scenario file; the grammar itself needs 8.
const MAX_DEPTH: usize = 32;

/// A token: line and column from 1, in characters, and how many of them it takes on its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) length: usize,
}

impl Place {
    /// The first character of the file.
    pub(crate) const START: Self = Self { line: 1, column: 1, length: 1 };

    fn of(span: &Span) -> Self {
        let length = if span.start.line() == span.end.line() {
            span.end.col().saturating_sub(span.start.col()).max(1)
        } else {
            1
        };
        Self { line: span.start.line(), column: span.start.col() + 1, length }
    }
}

/// How a stretch of text is written, which decides how a value is put into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notation {
    Plain,
    SingleQuoted,
    DoubleQuoted,
    Block,
    Comment,
}

/// A value, or a key.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    /// The last line that it takes.
    pub(crate) last_line: usize,
    pub(crate) value: Value,
}

#[derive(Debug)]
pub(crate) enum Value {
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    /// `*name`; what it stands for is known at the anchor.
    Alias,
}

impl Value {
    /// What it is, for messages.
    pub(crate) fn describe(&self) -> Cow<'static, str> {
        match self {
            Self::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null") => {
                "nothing".into()
            }
            Self::Scalar { text, .. } => format!("`{}`", crate::scenario::cell::printable(text)).into(),
            Self::List(_) => "a list".into(),
            Self::Map(_) => "a mapping".into(),
            Self::Alias => "an alias".into(),
        }
    }
}

/// A text that is not one YAML document, or nests too deeply.
#[derive(Debug)]
pub(crate) struct Malformed {
    pub(crate) place: Place,
    pub(crate) message: String,
}

impl From<ScanError> for Malformed {
    fn from(error: ScanError) -> Self {
        let mark = error.marker();
        let place = Place { line: mark.line().max(1), column: mark.col() + 1, length: 1 };
        Self { place, message: error.info().to_owned() }
    }
}

/// The tree of one document, and how each stretch of its text is written.
#[derive(Debug)]
pub(crate) struct Document {
    /// Absent if there is nothing but comments.
    pub(crate) root: Option<Node>,
    /// Byte ranges of scalars and comments, by where they begin.
    notations: Vec<(Range<usize>, Notation)>,
}

impl Document {
    /// The scalar or comment that holds these bytes.
    pub(crate) fn around(&self, bytes: &Range<usize>) -> Option<(&Range<usize>, Notation)> {
        let after = self.notations.partition_point(|(range, _)| range.start <= bytes.start);
        let (range, notation) = self.notations.get(after.checked_sub(1)?)?;
        (bytes.end <= range.end).then_some((range, *notation))
    }
}

/// A list or mapping that is not finished yet.
struct Open {
    place: Place,
    map: bool,
    children: Vec<Node>,
}

/// Reads one document.
pub(crate) fn read(text: &str) -> Result<Document, Malformed> {
    let mut notations = Vec::new();
    let mut stack: Vec<Open> = Vec::new();
    let mut root = None;
    for next in Parser::new_from_str(text) {
        let (event, span) = next?;
        let place = Place::of(&span);
        let bytes = span.start.byte_offset().unwrap_or(0)..span.end.byte_offset().unwrap_or(0);
        let node = match event {
            Event::Comment(..) => {
                notations.push((bytes, Notation::Comment));
                continue;
            }
            Event::Scalar(value, style, ..) => {
                notations.push((bytes, notation(style)));
                let value = Value::Scalar { text: value.into_owned(), plain: style == ScalarStyle::Plain };
                Node { place, last_line: span.end.line(), value }
            }
            Event::Alias(_) => Node { place, last_line: place.line, value: Value::Alias },
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                if stack.len() == MAX_DEPTH {
                    return Err(Malformed { place, message: format!("nested more than {MAX_DEPTH} deep") });
                }
                let map = matches!(event, Event::MappingStart(..));
                stack.push(Open { place, map, children: Vec::new() });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match stack.pop() {
                Some(open) => close(open, text.get(bytes).unwrap_or_default(), place.line),
                None => continue,
            },
            _ => continue,
        };
        match stack.last_mut() {
            Some(open) => open.children.push(node),
            None => root = Some(node),
        }
    }
    notations.sort_by_key(|(bytes, _)| bytes.start);
    Ok(Document { root, notations })
}

const fn notation(style: ScalarStyle) -> Notation {
    match style {
        ScalarStyle::Plain => Notation::Plain,
        ScalarStyle::SingleQuoted => Notation::SingleQuoted,
        ScalarStyle::DoubleQuoted => Notation::DoubleQuoted,
        ScalarStyle::Literal | ScalarStyle::Folded => Notation::Block,
    }
}

/// The end of a block list is reported at the next token; that of a flow list is its bracket.
fn close(open: Open, end_token: &str, end_line: usize) -> Node {
    let inner = open.children.iter().map(|child| child.last_line).max().unwrap_or(open.place.line);
    let last_line = if matches!(end_token, "]" | "}") { end_line } else { inner };
    let mut place = open.place;
    if let Some(first) = open.children.first().filter(|first| first.place.line == place.line) {
        if first.place.column == place.column {
            place.length = first.place.length;
        } else {
            place.length = 1;
        }
    }
    let value = if open.map {
        let mut entries = Vec::with_capacity(open.children.len() / 2);
        let mut children = open.children.into_iter();
        while let (Some(key), Some(value)) = (children.next(), children.next()) {
            entries.push((key, value));
        }
        Value::Map(entries)
    } else {
        Value::List(open.children)
    };
    Node { place, last_line, value }
}

/// Places by path: `steps[1].outcome`, `expect.documents[0].match.verdict`, `hosts.a.test.addr[0]`.
#[derive(Debug, Default)]
pub(crate) struct Outline {
    entries: HashMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    key: Option<Place>,
    value: Place,
    /// A key without a value, `~` or `null`.
    nothing: bool,
}

impl Outline {
    /// The outline of a tree, with each place put through `original`.
    pub(crate) fn new(root: &Node, original: &dyn Fn(Place) -> Place) -> Self {
        let mut outline = Self::default();
        let mut rest = vec![(String::new(), None, root)];
        while let Some((path, key, node)) = rest.pop() {
            match &node.value {
                Value::Map(entries) => rest.extend(entries.iter().filter_map(|(key, value)| {
                    let Value::Scalar { text, .. } = &key.value else { return None };
                    let path = if path.is_empty() { text.clone() } else { format!("{path}.{text}") };
                    Some((path, Some(key.place), value))
                })),
                Value::List(items) => {
                    rest.extend(
                        items.iter().enumerate().map(|(i, item)| (format!("{path}[{i}]"), None, item)),
                    );
                }
                Value::Scalar { .. } | Value::Alias => {}
            }
            let nothing = matches!(&node.value, Value::Scalar { text, plain: true }
                if matches!(text.as_str(), "" | "~" | "null"));
            let entry = Entry { key: key.map(original), value: original(node.place), nothing };
            outline.entries.insert(path, entry);
        }
        outline
    }

    /// Where a value was left out, in order.
    pub(crate) fn nothing(&self) -> Vec<Place> {
        let nothing = self.entries.values().filter(|entry| entry.nothing);
        let mut places: Vec<Place> = nothing.map(|entry| entry.key.unwrap_or(entry.value)).collect();
        places.sort();
        places
    }

    /// Whether the file has something at `path`.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.entries.contains_key(path)
    }

    /// Where the value at `path` is, or, if it is not written, what would hold it. Only a path
    /// whose first part is not in the file has no place.
    pub(crate) fn value(&self, path: &str) -> Option<Place> {
        self.nearest(path).map(|entry| entry.value)
    }

    /// Where the key of `path` is; that of a list item is the item.
    pub(crate) fn key(&self, path: &str) -> Option<Place> {
        self.nearest(path).map(|entry| entry.key.unwrap_or(entry.value))
    }

    /// The token that starts at this line and column.
    pub(crate) fn token(&self, line: usize, column: usize) -> Option<Place> {
        let places = self.entries.values().flat_map(|entry| [entry.key, Some(entry.value)]);
        places.flatten().filter(|place| (place.line, place.column) == (line, column)).max()
    }

    fn nearest(&self, path: &str) -> Option<&Entry> {
        let mut path = path;
        while !path.is_empty() {
            if let Some(entry) = self.entries.get(path) {
                return Some(entry);
            }
            path = &path[..path.rfind(['.', '[']).unwrap_or(0)];
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "name: x # why\nsteps:\n  - send: {to: \"a:1\"}\n    outcome: EPERM\n  - wait: 1s\nlast: [1,\n  2]\n";

    fn outline() -> Outline {
        Outline::new(&read(TEXT).unwrap().root.unwrap(), &|place| place)
    }

    #[test]
    fn values_and_keys_have_places() {
        let outline = outline();
        assert_eq!(outline.value("steps[0].outcome"), Some(Place { line: 4, column: 14, length: 5 }));
        assert_eq!(outline.key("steps[0].outcome"), Some(Place { line: 4, column: 5, length: 7 }));
        assert_eq!(outline.value("steps[0].send.to"), Some(Place { line: 3, column: 16, length: 5 }));
        assert_eq!(outline.value("steps[0].send"), Some(Place { line: 3, column: 11, length: 1 }));
        assert_eq!(outline.value("steps[1]"), Some(Place { line: 5, column: 5, length: 4 }));
    }

    #[test]
    fn an_unwritten_path_is_at_what_would_hold_it() {
        let outline = outline();
        assert_eq!(outline.value("steps[1].outcome"), outline.value("steps[1]"));
        assert_eq!(outline.value("expect.documents[0]"), None);
    }

    #[test]
    fn notations_are_where_the_text_is() {
        let found: Vec<(&str, Notation)> = read(TEXT)
            .unwrap()
            .notations
            .into_iter()
            .map(|(range, notation)| (&TEXT[range], notation))
            .collect();
        assert!(found.contains(&("# why", Notation::Comment)), "{found:?}");
        assert!(found.contains(&("\"a:1\"", Notation::DoubleQuoted)), "{found:?}");
        assert!(found.contains(&("EPERM", Notation::Plain)), "{found:?}");
    }

    #[test]
    fn a_flow_list_ends_at_its_bracket() {
        let Value::Map(entries) = read(TEXT).unwrap().root.unwrap().value else { panic!("a mapping") };
        assert_eq!(entries[1].1.last_line, 5);
        assert_eq!(entries[2].1.last_line, 7);
    }

    #[test]
    fn depth_is_bounded() {
        assert!(read(&"[".repeat(200_000)).is_err());
        assert!(
            read(&format!("a: {}{}", "[".repeat(40), "]".repeat(40))).unwrap_err().message.contains("deep")
        );
    }
}
