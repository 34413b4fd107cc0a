//! Broken scenario files, and what their authors are told: `failing/*.yaml` next to the exact text
//! in `*.expected`.

mod golden;

use std::path::{Path, PathBuf};

use harness::scenario;
use rstest::rstest;

/// The text, with the file named as from the folder of the package.
fn told(file: &Path) -> String {
    let file = file.strip_prefix(env!("CARGO_MANIFEST_DIR")).expect("the file is in this package");
    match scenario::load(file) {
        Ok(cells) => panic!("{} is not broken: it has {} cells", file.display(), cells.len()),
        Err(faults) => faults.iter().map(|fault| format!("{fault}\n")).collect::<Vec<_>>().join("\n"),
    }
}

#[rstest]
fn is_told(#[files("tests/failing/*.yaml")] file: PathBuf) {
    golden::compare(&file.with_extension("expected"), &told(&file)).unwrap_or_else(|told| panic!("{told}"));
}
