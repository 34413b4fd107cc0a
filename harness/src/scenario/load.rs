//! From a file to its cells.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::Read,
    path::{Component, Path},
    sync::Arc,
};

use crate::scenario::{
    cell::{Cell, printable},
    diagnostic::Diagnostic,
    matrix::{self, Expansion},
    outline::{self, Outline},
    parse,
    source::SourceFile,
    validate,
};

/// Largest scenario file, in bytes.
pub const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Every cell of a file, in order, or everything that is wrong with it. A file may hold several
/// scenarios, parted by `---`.
pub fn load(file: &Path) -> Result<Vec<Cell>, Vec<Diagnostic>> {
    let text = read(file).map_err(|fault| vec![fault])?;
    let source = Arc::new(SourceFile::new(file, &text));
    let mut cells = Vec::new();
    let mut faults = Vec::new();
    for document in documents(&source.text) {
        match self::document(&source, &document) {
            Ok(more) => cells.extend(more),
            Err(more) => faults.extend(more),
        }
    }
    if cells.is_empty() && faults.is_empty() {
        faults.push(Diagnostic::of_file(file, "no scenario in this file: it is empty"));
    }
    let mut names = HashSet::new();
    for cell in &cells {
        if !names.insert(&cell.name) {
            let (line, column) = cell.locate("name").unwrap_or((1, 1));
            let place = cell.outline.token(line, column).unwrap_or(outline::Place { line, column, length: 1 });
            let message = format!("two cells are called `{}`", cell.name);
            faults.push(source.diagnose(place, message).help("a cell's name is its only handle; change one"));
        }
    }
    faults.sort_by_key(|fault| (fault.line, fault.column));
    if faults.is_empty() { Ok(cells) } else { Err(faults) }
}

fn read(file: &Path) -> Result<String, Diagnostic> {
    let failed = |error: std::io::Error| Diagnostic::of_file(file, format!("cannot be read: {error}"));
    let mut bytes = Vec::new();
    File::open(file).map_err(failed)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let message = format!("larger than {} KiB", MAX_FILE_BYTES / 1024);
        return Err(Diagnostic::of_file(file, message).help("split it; use `matrix` where cases differ in a value"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        Diagnostic::of_file(file, format!("line {line} is not UTF-8"))
    })
}

/// The documents of a YAML stream, each with as many empty lines before it as it has lines above,
/// so that its line numbers are the file's. One that has only comments is left out.
fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for (number, line) in text.split('\n').enumerate() {
        let marker = line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
        if marker {
            documents.push("\n".repeat(number));
        }
        if let Some(document) = documents.last_mut() {
            document.push_str(if marker { "" } else { line });
            document.push('\n');
        }
    }
    let written = |line: &str| !(line.trim().is_empty() || line.trim_start().starts_with('#'));
    documents.retain(|document| document.lines().any(written));
    documents
}

fn document(source: &Arc<SourceFile>, text: &str) -> Result<Vec<Cell>, Vec<Diagnostic>> {
    let expansions = matrix::expand(source, text)?;
    let total = expansions.len();
    let mut cells = Vec::with_capacity(total);
    let mut faults = Faults::default();
    for expansion in expansions {
        match cell(source, &expansion) {
            Ok(cell) => cells.push(cell),
            Err(found) => faults.add(&expansion, found),
        }
    }
    if faults.order.is_empty() { Ok(cells) } else { Err(faults.finish(total)) }
}

fn cell(source: &Arc<SourceFile>, expansion: &Expansion) -> Result<Cell, Vec<Diagnostic>> {
    let root = outline::read(&expansion.text).map_err(|malformed| {
        let place = expansion.original(malformed.place);
        vec![matrix::malformed(source, &expansion.text, place, &malformed.message)]
    })?;
    let outline = root.root.map_or_else(Outline::default, |root| Outline::new(&root, &|place| expansion.original(place)));
    let mut scenario = parse::scenario(source, expansion, &outline).map_err(|fault| vec![fault])?;
    scenario.matrix.clear();
    let faults = validate::validate(source, &outline, &scenario);
    if !faults.is_empty() {
        return Err(faults);
    }
    let (stem, topic) = whereabouts(&source.path);
    let mut name = format!("{stem}::{}", printable(scenario.name.trim()));
    if !expansion.variables.is_empty() {
        let variables: Vec<String> = expansion.variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        name.push_str(&format!("[{}]", variables.join(",")));
    }
    Ok(Cell {
        name,
        file: source.path.clone(),
        topic,
        variables: expansion.variables.clone(),
        scenario,
        source: expansion.source(),
        origin: Arc::clone(source),
        outline: Arc::new(outline),
    })
}

/// The path below `scenarios/` without extension, and its first folder. A file elsewhere goes by
/// its folder and name.
fn whereabouts(path: &Path) -> (String, String) {
    let stem = path.with_extension("");
    let parts: Vec<String> = stem
        .components()
        .filter_map(|part| match part {
            Component::Normal(part) => Some(printable(&part.to_string_lossy())),
            _ => None,
        })
        .collect();
    let below = parts.iter().rposition(|part| part == "scenarios").map(|at| at + 1).filter(|at| *at < parts.len());
    let parts = &parts[below.unwrap_or(parts.len().saturating_sub(2))..];
    let topic = if parts.len() > 1 { parts[0].clone() } else { String::new() };
    (parts.join("/"), topic)
}

/// The faults of all cells of one scenario, each once.
#[derive(Default)]
struct Faults {
    order: Vec<Diagnostic>,
    seen: HashMap<(usize, usize, String), (usize, String)>,
}

impl Faults {
    fn add(&mut self, expansion: &Expansion, faults: Vec<Diagnostic>) {
        let variables: Vec<String> = expansion.variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        for fault in faults {
            let key = (fault.line, fault.column, fault.message.clone());
            let (count, _) = self.seen.entry(key).or_insert_with(|| {
                self.order.push(fault);
                (0, variables.join(","))
            });
            *count += 1;
        }
    }

    /// A fault that only some cells have says in which it was found first.
    fn finish(mut self, total: usize) -> Vec<Diagnostic> {
        for fault in &mut self.order {
            let key = (fault.line, fault.column, fault.message.clone());
            if let Some((count, first)) = self.seen.get(&key)
                && *count < total
            {
                fault.note = Some(format!("in {count} of {total} cells, first in [{first}]"));
            }
        }
        self.order
    }
}
