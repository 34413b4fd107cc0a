//! What can be said of scenario files without running them.

use std::{collections::HashMap, fmt, path::PathBuf};

use crate::scenario::{Cell, Diagnostic, discover, load};

/// Every fault of a set of files.
#[derive(Debug)]
pub struct LintReport {
    /// Files that were read.
    pub files: usize,
    /// Cells of the files that are right.
    pub cells: usize,
    /// Everything that is wrong, by file.
    pub diagnostics: Vec<Diagnostic>,
}

impl LintReport {
    /// Whether there is something to run, and nothing is wrong with it.
    pub fn is_clean(&self) -> bool {
        self.diagnostics.is_empty() && self.cells > 0
    }
}

impl fmt::Display for LintReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.diagnostics {
            writeln!(f, "{diagnostic}\n")?;
        }
        let Self { files, cells, diagnostics } = self;
        write!(f, "files: {files}, cells: {cells}, faults: {}", diagnostics.len())
    }
}

/// The cells of a set of files, not run.
#[derive(Debug)]
pub struct Listing {
    /// Cells of the files that are right, in the order that they would run.
    pub cells: Vec<Cell>,
    /// What is wrong with the other files.
    pub diagnostics: Vec<Diagnostic>,
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for cell in &self.cells {
            writeln!(f, "{}", cell.name)?;
        }
        for diagnostic in &self.diagnostics {
            writeln!(f, "\n{diagnostic}")?;
        }
        write!(f, "\ncells: {}", self.cells.len())
    }
}

/// Reads every file below `paths` and says what is wrong. Runs nothing, needs no network.
pub fn lint(paths: &[PathBuf]) -> LintReport {
    let (files, listing) = read(paths);
    LintReport { files, cells: listing.cells.len(), diagnostics: listing.diagnostics }
}

/// Reads every file below `paths`. Cell names are unique over all of them.
pub fn list(paths: &[PathBuf]) -> Listing {
    read(paths).1
}

fn read(paths: &[PathBuf]) -> (usize, Listing) {
    let mut listing = Listing { cells: Vec::new(), diagnostics: Vec::new() };
    let files = match discover(paths) {
        Ok(files) => files,
        Err(error) => {
            listing.diagnostics.push(Diagnostic::of_file(&error.path, error.to_string()));
            return (0, listing);
        }
    };
    let mut owners: HashMap<String, PathBuf> = HashMap::new();
    for file in &files {
        match load(file) {
            Ok(cells) => {
                let taken =
                    cells.iter().find_map(|cell| Some((cell.name.clone(), owners.get(&cell.name)?.clone())));
                if let Some((name, other)) = taken {
                    let message = format!("`{name}` is a cell of {} too", other.display());
                    listing.diagnostics.push(Diagnostic::of_file(file, message).help("rename the file"));
                    continue;
                }
                owners.extend(cells.iter().map(|cell| (cell.name.clone(), file.clone())));
                listing.cells.extend(cells);
            }
            Err(faults) => listing.diagnostics.extend(faults),
        }
    }
    (files.len(), listing)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What this repository ships is itself free of faults.
    #[test]
    fn our_scenarios_are_clean() {
        let report = lint(&[concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios").into()]);
        assert!(report.is_clean(), "{report}");
        assert!(report.files >= 12 && report.cells >= 40, "{report}");
    }

    /// The expanded text of a cell is the same cell, written out.
    #[test]
    fn sources_are_scenarios_of_their_own() {
        let listing = list(&[concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios").into()]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cell.yaml");
        for cell in &listing.cells {
            std::fs::write(&file, &cell.source).unwrap();
            let again = load(&file).unwrap_or_else(|faults| panic!("{}\n{}", cell.name, faults[0]));
            assert_eq!(again.len(), 1, "{}", cell.name);
            let value = |cell: &Cell| serde_json::to_value(&cell.scenario).unwrap();
            assert_eq!(value(&again[0]), value(cell), "{}", cell.name);
        }
    }
}
