//! Broken scenario files, and what their authors are told: `failing/*.yaml` next to the exact text
//! in `*.expected`. `UPDATE_GOLDEN=1` writes the texts anew; read the difference before it is
//! committed.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

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
    let actual = told(&file);
    let golden = file.with_extension("expected");
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, &actual).expect("the golden file can be written");
    }
    let expected = fs::read_to_string(&golden).unwrap_or_else(|error| {
        panic!("{}: {error}; run with UPDATE_GOLDEN=1 to write it", golden.display())
    });
    assert_eq!(actual, expected, "\n--- actual\n{actual}\n--- expected\n{expected}");
}
