//! From one text with variables to one text a cell.
//!
//! `${name}` is replaced in the text, before it is parsed into the grammar, so that a variable can
//! be a number, a word or a part of one. How a value is written depends on where it is put: inside
//! double quotes it is escaped, so that a hostile label cannot change the shape of the file. A
//! value never adds a line, so line numbers stay those of the file.

mod variables;
mod written;

use std::{collections::HashSet, ops::Range};

use self::{
    variables::{Variable, variables},
    written::written,
};

use crate::scenario::{
    cell::{label, printable},
    diagnostic::Diagnostic,
    load::MAX_FILE_BYTES,
    outline::{self, Notation, Place},
    source::SourceFile,
};

/// Most cells that one scenario may expand to.
pub const MAX_CELLS: usize = 500;

/// The text of one cell, and the way back from it.
#[derive(Debug)]
pub(crate) struct Expansion {
    pub(crate) text: String,
    /// Variables and values, printable.
    pub(crate) variables: Vec<(String, String)>,
    substitutions: Vec<Substitution>,
    matrix_lines: Range<usize>,
}

/// Columns are from 1, in characters.
#[derive(Debug)]
struct Substitution {
    line: usize,
    original: Range<usize>,
    expanded: Range<usize>,
}

impl Expansion {
    /// Where in the file a token of the expanded text stands. What comes out of a variable is at
    /// the variable.
    pub(crate) fn original(&self, place: Place) -> Place {
        let start = self.column(place.line, place.column, |original| original.start);
        let end = self.column(place.line, place.column + place.length, |original| original.end);
        Place { column: start, length: end.saturating_sub(start).max(1), ..place }
    }

    fn column(&self, line: usize, column: usize, inside: fn(&Range<usize>) -> usize) -> usize {
        let mut back = column;
        let first = self.substitutions.partition_point(|sub| sub.line < line);
        for sub in self.substitutions[first..].iter().take_while(|sub| sub.line == line) {
            if column >= sub.expanded.end {
                back = column - sub.expanded.end + sub.original.end;
            } else if column > sub.expanded.start {
                return inside(&sub.original);
            } else {
                break;
            }
        }
        back
    }

    /// The expanded text as a file of its own: without `matrix`.
    pub(crate) fn source(&self) -> String {
        let lines = self.text.split('\n').enumerate();
        let kept: Vec<&str> =
            lines.filter(|(i, _)| !self.matrix_lines.contains(&(i + 1))).map(|(_, line)| line).collect();
        format!("{}\n", kept.join("\n").trim_matches('\n'))
    }
}

/// `${name}` in the text.
struct Placeholder<'a> {
    name: &'a str,
    bytes: Range<usize>,
    place: Place,
}

/// Every cell's text, in the order of the matrix: the first variable changes last.
pub(crate) fn expand(source: &SourceFile, text: &str) -> Result<Vec<Expansion>, Vec<Diagnostic>> {
    let placeholders = placeholders(text);
    let document = outline::read(&neutral(text, &placeholders))
        .map_err(|e| vec![malformed(source, text, e.place, &e.message)])?;
    let Some(root) = &document.root else {
        return Err(vec![Diagnostic::of_file(&source.path, "no scenario in this file: it is empty")]);
    };
    let mut faults = Vec::new();
    let (variables, matrix_lines) = variables(source, root, &mut faults);

    let in_matrix = |place: &Place| matrix_lines.contains(&place.line);
    let mut used = HashSet::new();
    let mut targets = Vec::new();
    for placeholder in placeholders {
        // One that is in no scalar, as in the name of an anchor, is as bare as in an unquoted word.
        let around = document.around(&placeholder.bytes);
        let (whole, notation) = around
            .map_or((false, Notation::Plain), |(range, notation)| (*range == placeholder.bytes, notation));
        if notation == Notation::Comment {
            continue;
        }
        if in_matrix(&placeholder.place) {
            faults.push(source.diagnose(placeholder.place, "a matrix value cannot refer to a variable"));
        } else if let Some(index) = variables.iter().position(|v| v.name == placeholder.name) {
            used.insert(index);
            targets.push((whole, notation, index, placeholder));
        } else {
            let message = format!("`${{{}}}` is not a variable of `matrix`", placeholder.name);
            let names = variables.iter().map(|v| v.name.clone());
            faults.push(source.diagnose(placeholder.place, message).expected(placeholder.name, names));
        }
    }
    for (name, place, bytes) in slips(text, &variables) {
        let commented = document.around(&bytes).is_some_and(|(_, notation)| notation == Notation::Comment);
        if !commented && !in_matrix(&place) {
            used.extend(variables.iter().position(|variable| variable.name == name));
            let message = format!("`{}` is not how a variable is written", &text[bytes]);
            faults.push(source.diagnose(place, message).help(format!("write ${{{name}}}")));
        }
    }
    for (index, variable) in variables.iter().enumerate().filter(|(i, _)| !used.contains(i)) {
        let message = format!("matrix variable `{}` is not used", printable(&variable.name));
        let help = format!("write ${{{}}} where its values belong, or remove it", printable(&variable.name));
        faults.push(source.diagnose(variables[index].place, message).help(help));
    }
    let cells = variables.iter().try_fold(1_usize, |product, v| product.checked_mul(v.values.len()));
    if cells.is_none_or(|cells| cells > MAX_CELLS) {
        let counts: Vec<String> = variables.iter().map(|v| v.values.len().to_string()).collect();
        let message = format!("the matrix has {} cells, more than {MAX_CELLS}", counts.join(" × "));
        faults.push(source.diagnose(variables[0].place, message).help("split the scenario"));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    (0..cells.unwrap_or_default())
        .map(|cell| combine(source, text, &variables, &targets, cell, matrix_lines.clone()))
        .collect()
}

/// A whole scalar or not, its notation, the variable's index, the placeholder.
type Target<'a> = (bool, Notation, usize, Placeholder<'a>);

fn combine(
    source: &SourceFile,
    text: &str,
    variables: &[Variable],
    targets: &[Target<'_>],
    cell: usize,
    matrix_lines: Range<usize>,
) -> Result<Expansion, Vec<Diagnostic>> {
    let mut indices = vec![0; variables.len()];
    let mut rest = cell;
    for (index, variable) in indices.iter_mut().zip(variables).rev() {
        *index = rest % variable.values.len();
        rest /= variable.values.len();
    }
    let mut expansion = Expansion {
        text: String::with_capacity(text.len()),
        variables: variables
            .iter()
            .zip(&indices)
            .map(|(v, &i)| (v.name.clone(), label(&v.values[i].text, i)))
            .collect(),
        substitutions: Vec::with_capacity(targets.len()),
        matrix_lines,
    };
    let mut copied = 0;
    let (mut line, mut shift) = (0, 0_isize);
    for (whole, notation, index, placeholder) in targets {
        let item = &variables[*index].values[indices[*index]];
        let value = written(item, *whole, *notation).map_err(|why| {
            let message = format!("value `{}` of `{}` {why}", label(&item.text, 0), placeholder.name);
            let help = format!("put it in double quotes: \"${{{}}}\"", placeholder.name);
            vec![source.diagnose(placeholder.place, message).help(help)]
        })?;
        expansion.text.push_str(&text[copied..placeholder.bytes.start]);
        expansion.text.push_str(&value);
        copied = placeholder.bytes.end;
        if expansion.text.len() as u64 > MAX_FILE_BYTES {
            let message =
                format!("with its values put in, this is larger than {} KiB", MAX_FILE_BYTES / 1024);
            return Err(vec![source.diagnose(placeholder.place, message)]);
        }

        if placeholder.place.line != line {
            (line, shift) = (placeholder.place.line, 0);
        }
        let original = placeholder.place.column..placeholder.place.column + placeholder.place.length;
        let start = original.start.saturating_add_signed(shift);
        let expanded = start..start + value.chars().count();
        shift += expanded.len() as isize - original.len() as isize;
        expansion.substitutions.push(Substitution { line, original, expanded });
    }
    expansion.text.push_str(&text[copied..]);
    Ok(expansion)
}

fn placeholders(text: &str) -> Vec<Placeholder<'_>> {
    let mut found = Vec::new();
    for (line, start, content) in lines(text) {
        let mut from = 0;
        while let Some(open) = content[from..].find("${").map(|at| from + at) {
            let name = &content[open + 2..];
            let end = name.find(|c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c)));
            from = open + 2;
            let Some(end) = end.filter(|&end| name[end..].starts_with('}')) else { continue };
            from = open + 2 + end + 1;
            found.push(Placeholder {
                name: &name[..end],
                bytes: start + open..start + from,
                place: Place { line, column: content[..open].chars().count() + 1, length: end + 3 },
            });
        }
    }
    found
}

/// `$name`, `$(name)`, `${ name }` and `${name` of a variable: what other languages write, or a slip.
fn slips<'a>(text: &'a str, variables: &[Variable]) -> Vec<(&'a str, Place, Range<usize>)> {
    let mut found = Vec::new();
    for (line, start, content) in lines(text) {
        for (at, _) in content.match_indices('$') {
            let rest = &content[at + 1..];
            let inner = rest.trim_start_matches(['{', '(', ' ']);
            let end = inner.find(|c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c)));
            let name = &inner[..end.unwrap_or(inner.len())];
            let opened = &rest[..rest.len() - inner.len()];
            let right = opened == "{" && inner[name.len()..].starts_with('}');
            if right || opened == " " || !variables.iter().any(|variable| variable.name == name) {
                continue;
            }
            let closed = inner[name.len()..].trim_start();
            let closing = if opened.is_empty() || !closed.starts_with(['}', ')']) {
                inner.len() - name.len()
            } else {
                closed.len() - 1
            };
            let bytes = start + at..start + content.len() - closing;
            let length = text[bytes.clone()].chars().count();
            let column = content[..at].chars().count() + 1;
            found.push((name, Place { line, column, length }, bytes));
        }
    }
    found
}

/// Line number from 1, byte offset and content of each line.
fn lines(text: &str) -> impl Iterator<Item = (usize, usize, &str)> {
    text.split('\n').enumerate().scan(0, |offset, (i, line)| {
        let start = *offset;
        *offset += line.len() + 1;
        Some((i + 1, start, line))
    })
}

/// The text with every placeholder made a plain word of the same length: `{bytes: ${n}}` is YAML
/// only after substitution.
fn neutral(text: &str, placeholders: &[Placeholder<'_>]) -> String {
    let mut out = text.to_owned();
    for placeholder in placeholders {
        out.replace_range(placeholder.bytes.clone(), &"x".repeat(placeholder.bytes.len()));
    }
    out
}

/// A text that is no YAML: what the parser says, and what it most often means.
pub(crate) fn malformed(source: &SourceFile, text: &str, place: Place, message: &str) -> Diagnostic {
    let tab = |line: &str| line.trim_start_matches(' ').starts_with('\t') && !line.trim().is_empty();
    let tabbed = lines(text).take(place.line + 1).find(|(_, _, line)| tab(line));
    if let Some((line, _, content)) = tabbed {
        let column = content.len() - content.trim_start_matches(' ').len() + 1;
        let place = Place { line, column, length: 1 };
        return source.diagnose(place, "indented with a tab").help("YAML is indented with spaces");
    }
    let fault =
        source.diagnose(place, format!("this is not YAML: {}", message.replace(char::is_control, " ")));
    match meant(text, place, message) {
        Some(help) => fault.help(help),
        None => fault,
    }
}

/// What the author most often meant, where the parser only says what it did not find.
fn meant(text: &str, place: Place, message: &str) -> Option<String> {
    if let Some((line, ..)) = lines(text).find(|(_, _, line)| line.starts_with('%')) {
        return Some(format!("leave the directive in line {line} out"));
    }
    if message.contains("mapping values are not allowed") {
        return Some("a text with `: ` in it is put in quotes".to_owned());
    }
    if message.contains("simple key expected") {
        return Some("a field is written `name: value`, with a space behind the colon".to_owned());
    }
    if message.contains("multiple YAML documents") {
        return Some("nothing follows `...`; scenarios of one file are parted by `---`".to_owned());
    }
    if message.contains("did not find expected") { indentation(text, place) } else { None }
}

/// Where a line would have to begin to belong to what stands above it. Its own column is none of those that are
/// open there: the columns of fields, and of list items, each further left than the ones below it.
fn indentation(text: &str, place: Place) -> Option<String> {
    let above: Vec<(usize, &str)> = lines(text).map(|(line, _, content)| (line, content)).collect();
    let column = |content: &str| content.chars().take_while(|c| *c == ' ').count() + 1;
    let own = column(above.get(place.line - 1)?.1);
    let mut open: Vec<(usize, usize)> = Vec::new();
    for &(line, content) in above[..place.line - 1].iter().rev() {
        let written = content.trim();
        let outermost = open.last().map_or(usize::MAX, |(column, _)| *column);
        if written.is_empty() || written.starts_with('#') || column(content) >= outermost {
            continue;
        }
        // Of `- name: value`, the name is further right than the item.
        if let Some(rest) = written.strip_prefix('-').filter(|rest| rest.starts_with(' ')) {
            let field = column(content) + 1 + rest.len() - rest.trim_start().len();
            if field < outermost {
                open.push((field, line));
            }
        }
        open.push((column(content), line));
    }
    let (nearest, line) = *open.iter().min_by_key(|(column, _)| column.abs_diff(own))?;
    (nearest != own).then(|| {
        format!("this line begins in column {own}; what it belongs with, in line {line}, begins in column {nearest}")
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::{written::escaped, *};
    use crate::scenario::outline::Value;

    fn expanded(text: &str) -> Vec<Expansion> {
        let source = SourceFile::new(Path::new("x.yaml"), text);
        expand(&source, text).unwrap_or_else(|faults| panic!("{}", faults[0]))
    }

    #[test]
    fn combinations_come_in_listed_order() {
        let cells = expanded("a: ${x}-${y}\nmatrix: {x: [1, 2], y: [p, q]}\n");
        let texts: Vec<String> = cells.iter().map(Expansion::source).collect();
        assert_eq!(texts, ["a: 1-p\n", "a: 1-q\n", "a: 2-p\n", "a: 2-q\n"]);
        let variables =
            |x: &str, y: &str| vec![("x".to_owned(), x.to_owned()), ("y".to_owned(), y.to_owned())];
        assert_eq!(cells[2].variables, variables("2", "p"));
    }

    #[test]
    fn places_lead_back_to_the_file() {
        let cells =
            expanded("a: {b: ${long}, c: ${x}, d: 1}\nmatrix:\n  long: [abcdefghijklmnop]\n  x: [1]\n");
        let text = &cells[0].text;
        let at = |token: &str, length| {
            let column = text.lines().next().unwrap().find(token).unwrap() + 1;
            cells[0].original(Place { line: 1, column, length })
        };
        assert_eq!(at("abcdefgh", 16), Place { line: 1, column: 8, length: 7 });
        assert_eq!(at("c:", 1), Place { line: 1, column: 17, length: 1 });
        assert_eq!(at("1,", 1), Place { line: 1, column: 20, length: 4 });
        assert_eq!(at("d:", 1), Place { line: 1, column: 26, length: 1 });
    }

    #[test]
    fn comments_are_left_alone() {
        let cells = expanded("a: ${x} # ${unknown}\nmatrix: {x: [1]}\n");
        assert_eq!(cells[0].source(), "a: 1 # ${unknown}\n");
    }

    proptest! {
        /// Whatever a label is, it comes out of the expanded text as it went in, and on its own.
        #[test]
        fn a_quoted_value_survives(value in "\\PC{0,40}|[\\x00-\\x7f]{0,40}") {
            prop_assume!(!value.contains("${"));
            let listed = format!("\"{}\"", escaped(&value));
            for place in ["\"${v}\"", "${v}"] {
                let text = format!("a: {{b: {place}, c: 1}}\nmatrix: {{v: [{listed}]}}\n");
                let cells = expanded(&text);
                let root = outline::read(&cells[0].source()).unwrap().root.unwrap();
                let Value::Map(top) = root.value else { panic!("a mapping") };
                let Value::Map(inner) = &top[0].1.value else { panic!("a mapping") };
                prop_assert_eq!(inner.len(), 2);
                let Value::Scalar { text, .. } = &inner[0].1.value else { panic!("a scalar") };
                prop_assert_eq!(text, &value);
            }
        }
    }
}
