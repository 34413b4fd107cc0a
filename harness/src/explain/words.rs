//! Rows of text, and values of the grammar as words.

use serde::Serialize;
use serde_json::Value;

use crate::scenario::types::{PortSpec, Rule};

/// Width of the first column.
const MARGIN: usize = 12;
/// Of a line behind it, in characters.
const WIDTH: usize = 96;

/// The text of one cell.
pub(super) struct Paragraph {
    text: String,
    last: String,
}

impl Paragraph {
    pub(super) fn new(heading: &str) -> Self {
        Self { text: format!("{heading}\n"), last: String::new() }
    }

    /// A row; an empty one is left out, and a name that repeats is said once.
    pub(super) fn row(&mut self, name: &str, content: &str) {
        if content.is_empty() {
            return;
        }
        let shown = if self.last == name { "" } else { name };
        let mut lines = content.lines().flat_map(wrapped);
        self.text += &format!("  {shown:<MARGIN$}{}\n", lines.next().unwrap_or_default());
        for line in lines {
            self.text += &format!("  {:MARGIN$}{line}\n", "");
        }
        self.last = name.to_owned();
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}

/// A line, broken at spaces where it is too long; what follows is indented below its beginning.
fn wrapped(line: &str) -> Vec<String> {
    let text = line.trim_start();
    let own = &line[..line.len() - text.len()];
    let mut lines = vec![own.to_owned()];
    for word in text.split(' ') {
        let Some(last) = lines.last_mut() else { break };
        if last.trim().is_empty() {
            last.push_str(word);
        } else if last.chars().count() + word.chars().count() < WIDTH {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(format!("{own}  {word}"));
        }
    }
    lines
}

/// `rule.dst proto port`, and the listener.
pub(super) fn rule(rule: &Rule) -> String {
    let port = match &rule.port {
        Some(PortSpec::One(port)) => format!(" {port}"),
        Some(PortSpec::Range(range)) => format!(" {range}"),
        None => String::new(),
    };
    let listener = rule.listener.map_or_else(String::new, |port| format!(" by the proxy's listener {port}"));
    format!("{} {}{port}{listener}", rule.dst, rule.proto)
}

/// What a value of the grammar says beyond `told`, as `, name value`: whatever is not absent, empty, off or
/// zero. So a field that is added to the grammar is told without a word here.
pub(super) fn fields(value: &impl Serialize, told: &[&str]) -> String {
    let Ok(Value::Object(fields)) = serde_json::to_value(value) else { return String::new() };
    fields
        .iter()
        .filter(|(name, _)| !told.contains(&name.as_str()))
        .filter_map(|(name, value)| Some(format!(", {} {}", name.replace('_', " "), plain(value)?)))
        .collect()
}

/// A value as a person would write it; `None` for what says nothing.
pub(super) fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::String(text) if text.is_empty() => None,
        Value::Array(items) if items.is_empty() => None,
        Value::Object(fields) if fields.is_empty() => None,
        Value::Number(number) if number.as_u64() == Some(0) => None,
        Value::Bool(true) => Some("on".to_owned()),
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Array(items) => Some(items.iter().filter_map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().filter_map(|(name, value)| Some(format!("{name} {}", plain(value)?))).collect();
            Some(format!("({})", fields.join(", ")))
        }
    }
}
