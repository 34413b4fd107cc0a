//! From a file to its cells.

use std::{
    collections::{HashMap, HashSet},
    fs::OpenOptions,
    io::Read,
    os::unix::fs::OpenOptionsExt as _,
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
/// Most scenarios of one file.
const MOST_SCENARIOS: usize = 500;

/// Every cell of a file, in order, or everything that is wrong with it. A file may hold several
/// scenarios, parted by `---`.
pub fn load(file: &Path) -> Result<Vec<Cell>, Vec<Diagnostic>> {
    let text = read(file)?;
    cells(&Arc::new(SourceFile::new(file, &text)))
}

fn cells(source: &Arc<SourceFile>) -> Result<Vec<Cell>, Vec<Diagnostic>> {
    let mut cells = Vec::new();
    let mut faults = Vec::new();
    let documents = documents(&source.text);
    if documents.len() > MOST_SCENARIOS {
        let message = format!("{} scenarios in one file, more than {MOST_SCENARIOS}", documents.len());
        let fault = Diagnostic::of_file(&source.path, message);
        return Err(vec![fault.help("split it; use `matrix` where cases differ in a value")]);
    }
    for document in documents.into_iter().map(Document::in_place) {
        match self::document(source, &document) {
            Ok(more) => cells.extend(more),
            Err(more) => faults.extend(more),
        }
    }
    if cells.is_empty() && faults.is_empty() {
        let fault = Diagnostic::of_file(&source.path, "no scenario in this file: it is empty");
        faults.push(fault.help("`harness template NAME` writes one to start from"));
    }
    let mut names = HashSet::new();
    for cell in &cells {
        if !names.insert(&cell.name) {
            let (line, column) = cell.locate("name").unwrap_or((1, 1));
            let place =
                cell.outline.token(line, column).unwrap_or(outline::Place { line, column, length: 1 });
            let message = format!("two cells are called `{}`", cell.name);
            faults.push(source.diagnose(place, message).help("a cell's name is its only handle; change one"));
        }
    }
    faults.sort_by_key(|fault| (fault.line, fault.column));
    if faults.is_empty() { Ok(cells) } else { Err(faults) }
}

fn read(file: &Path) -> Result<String, Vec<Diagnostic>> {
    let failed = |error: std::io::Error| vec![Diagnostic::of_file(file, format!("cannot be read: {error}"))];
    // Opening a named pipe would wait for somebody to write to it.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(file).map_err(failed)?;
    if !opened.metadata().map_err(failed)?.is_file() {
        let fault = Diagnostic::of_file(file, "this is not a regular file");
        return Err(vec![fault.help("name a file or a folder of files that can be read twice")]);
    }
    let mut bytes = Vec::new();
    opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let message = format!("larger than {} KiB", MAX_FILE_BYTES / 1024);
        let help = "split it; use `matrix` where cases differ in a value";
        return Err(vec![Diagnostic::of_file(file, message).help(help)]);
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(vec![Diagnostic::of_file(file, "this is UTF-16").help("save it as UTF-8")]);
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        vec![Diagnostic::of_file(file, format!("line {line} is not UTF-8")).help("save it as UTF-8")]
    })
}

/// One document of a YAML stream, and how many lines of the file are above it.
struct Document {
    above: usize,
    text: String,
}

impl Document {
    /// With as many empty lines before it, so that its line numbers are the file's.
    fn in_place(self) -> String {
        "\n".repeat(self.above) + &self.text
    }
}

/// The documents of a YAML stream. One that has only comments is left out.
fn documents(text: &str) -> Vec<Document> {
    let mut documents = vec![Document { above: 0, text: String::new() }];
    for (number, line) in text.split('\n').enumerate() {
        let marker = line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
        if marker {
            documents.push(Document { above: number, text: String::new() });
        }
        if let Some(document) = documents.last_mut() {
            document.text.push_str(if marker { "" } else { line });
            document.text.push('\n');
        }
    }
    let written = |line: &str| !(line.trim().is_empty() || line.trim_start().starts_with('#'));
    documents.retain(|document| document.text.lines().any(written));
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
    let outline = root
        .root
        .map_or_else(Outline::default, |root| Outline::new(&root, &|place| expansion.original(place)));
    let mut scenario = parse::scenario(source, expansion, &outline)?;
    scenario.matrix.clear();
    let mut faults: Vec<Diagnostic> = outline
        .nothing()
        .into_iter()
        .map(|place| {
            source.diagnose(place, "there is nothing here").help("write a value, or leave the field out")
        })
        .collect();
    faults.extend(validate::validate(source, &outline, &scenario));
    if !faults.is_empty() {
        return Err(faults);
    }
    let (stem, topic) = whereabouts(&source.path);
    let mut name = format!("{stem}::{}", printable(scenario.name.trim()));
    if !expansion.variables.is_empty() {
        let variables: Vec<String> =
            expansion.variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
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
    let below =
        parts.iter().rposition(|part| part == "scenarios").map(|at| at + 1).filter(|at| *at < parts.len());
    let parts = &parts[below.unwrap_or(parts.len().saturating_sub(2))..];
    (parts.join("/"), parts.first().cloned().unwrap_or_default())
}

/// The faults of all cells of one scenario, each once.
#[derive(Default)]
struct Faults {
    order: Vec<Diagnostic>,
    seen: HashMap<(usize, usize, String), (usize, String)>,
}

impl Faults {
    fn add(&mut self, expansion: &Expansion, faults: Vec<Diagnostic>) {
        let variables: Vec<String> =
            expansion.variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = r#"name: a "quoted" claim
agent: {agent: "${label}", project: demo}
hosts:
  api.test: {addr: [198.51.100.7], serve: [{tcp: 443}]}
rules: [{dst: api.test, proto: https}]
matrix: {label: ["a\nb", ""], n: [1, 2]}
steps:
  - connect: {to: "api.test:443", send: ${n}}
expect:
  documents:
    - {where: {dst_port: 443}, match: {verdict: ALLOWED, bytes_out: ${n}, agent: "${label}"}}
"#;

    fn from(path: &str, text: &str) -> Result<Vec<Cell>, Vec<Diagnostic>> {
        cells(&Arc::new(SourceFile::new(Path::new(path), text)))
    }

    #[test]
    fn cells_are_named_after_file_scenario_and_variables() {
        let cells = from("/x/scenarios/connect/deep/refused.yaml", GOOD).unwrap();
        let names: Vec<&str> = cells.iter().map(|cell| cell.name.as_str()).collect();
        assert_eq!(
            names,
            [
                r#"connect/deep/refused::a "quoted" claim[label=a\nb,n=1]"#,
                r#"connect/deep/refused::a "quoted" claim[label=a\nb,n=2]"#,
                r#"connect/deep/refused::a "quoted" claim[label="",n=1]"#,
                r#"connect/deep/refused::a "quoted" claim[label="",n=2]"#,
            ]
        );
        assert_eq!(cells[0].topic, "connect");
        assert_eq!(cells[0].scenario.agent.as_ref().unwrap().agent, "a\nb");
        assert_eq!(cells[3].scenario.expect.documents[0].fields["bytes_out"], 2);
        assert!(cells[0].scenario.matrix.is_empty() && !cells[0].source.contains("matrix"));
    }

    #[test]
    fn a_cell_points_into_its_file() {
        let cells = from("a.yaml", GOOD).unwrap();
        let excerpt = |path| {
            let (line, column) = cells[0].locate(path).unwrap();
            cells[0].excerpt(line, column)
        };
        assert_eq!(
            excerpt("steps[0].connect.send"),
            "a.yaml:8:41\n  |\n8 |   - connect: {to: \"api.test:443\", send: ${n}}\n  |                                         ^^^^"
        );
        assert!(excerpt("expect.documents[0].match.agent").ends_with(" ^^^^^^^^^^"));
        assert_eq!(cells[0].locate("expect.documents[0].exactly"), cells[0].locate("expect.documents[0]"));
        assert_eq!(cells[0].locate("settings.udp_idle"), None);
    }

    #[test]
    fn a_file_holds_several_scenarios() {
        let second = GOOD.replace("claim", "other").replace("    - {where", "\n\n    - {where");
        let cells = from("a.yaml", &format!("# first\n---\n{GOOD}--- # second\n{second}")).unwrap();
        assert_eq!(cells.len(), 8);
        assert_eq!(cells[0].locate("name"), Some((3, 7)));
        assert_eq!(cells[4].locate("name"), Some((15, 7)));
    }

    #[test]
    fn limits_hold() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        std::fs::write(&file, "#".repeat(256 * 1024 + 1)).unwrap();
        assert!(load(&file).unwrap_err()[0].message.contains("256 KiB"));
        std::fs::write(&file, b"a: 1\nb: \xff\n").unwrap();
        assert!(load(&file).unwrap_err()[0].message.contains("line 2"));
        for not_a_file in [folder.path(), Path::new("/dev/zero")] {
            assert!(load(not_a_file).unwrap_err()[0].message.contains("not a regular file"));
        }
        let pipe = folder.path().join("b.yaml");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(load(&pipe).unwrap_err()[0].message.contains("not a regular file"));
        // As many markers as fit, with nothing and with something between them.
        assert!(from("a.yaml", &"---\n".repeat(65_000)).unwrap_err()[0].message.contains("empty"));
        let many = from("a.yaml", &"---\na\n".repeat(40_000)).unwrap_err();
        assert!(many[0].message.contains("40000 scenarios in one file"), "{}", many[0]);
        let grown = GOOD
            .replace("a\\nb", &"x".repeat(100_000))
            .replace("project: demo", "project: \"${label}${label}\"");
        assert!(from("a.yaml", &grown).unwrap_err()[0].message.contains("values put in"));
    }

    /// What YAML offers is taken as it is meant.
    #[test]
    fn any_form_of_yaml_is_understood() {
        let one = GOOD
            .replace("matrix: {label: [\"a\\nb\", \"\"], n: [1, 2]}\n", "matrix: {label: [scout], n: [7]}\n");
        let plain = value(&one);
        let expectation = "- {where: {dst_port: 443}, match: {verdict: ALLOWED, ";
        let forms = [
            format!("\u{feff}{one}"),
            one.replace('\n', "\r\n"),
            one.replace('\n', "\r"),
            format!("{one}...\n"),
            format!("---\n{one}---\n# nothing\n"),
            one.replace("{dst: api.test", "&rule {dst: api.test"),
            one.replace(expectation, "- {where: &w {dst_port: 443}, match: {<<: {verdict: ALLOWED}, "),
            one.replace("tcp: 443", "tcp: 0x1bb"),
            one.replace("tcp: 443", "tcp: \"443\""),
            one.replace(", send: ${n}", ",\tsend: \"${n}\""),
        ];
        for form in forms {
            assert!(form != one, "a form that is the plain one shows nothing");
            assert_eq!(value(&form), plain, "{form}");
        }
    }

    fn value(text: &str) -> serde_json::Value {
        let cells = from("a.yaml", text).unwrap_or_else(|faults| panic!("{}\n{text}", faults[0]));
        serde_json::to_value(&cells[0].scenario).unwrap()
    }

    proptest! {
        /// Whatever is done to a file, there are cells or diagnostics that point into it.
        #[test]
        fn no_text_breaks_the_loader(
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..20, prop::sample::select(vec![
                "", " ", "\n", "\t", "---\n", "- ", ": ", "{", "}", "[", "]", "\"", "'", "${", "${n}", "${label}", "&a ",
                "*a", "<<: *a", "!!binary ", "|\n", "#", "\u{0}", "\u{202e}", "猫", "-1", "1e999", "~", "? ", "%YAML 1.2\n",
            ])), 1..6),
        ) {
            let mut text: Vec<char> = GOOD.chars().collect();
            for (at, cut, insert) in edits {
                let at = at.index(text.len() + 1);
                let end = (at + cut).min(text.len());
                text.splice(at..end, insert.chars());
            }
            let text: String = text.into_iter().collect();
            match from("a.yaml", &text) {
                Ok(cells) => prop_assert!(!cells.is_empty()),
                Err(faults) => {
                    prop_assert!(!faults.is_empty());
                    for fault in faults {
                        prop_assert!(fault.line <= text.split('\n').count() + 1, "{fault}");
                        prop_assert!(!fault.to_string().contains(['\0', '\t', '\u{202e}']), "{fault:?}");
                    }
                }
            }
        }
    }
}
