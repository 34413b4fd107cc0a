//! Texts that are kept to the letter. `UPDATE_GOLDEN=1` writes them anew; read the difference before it is
//! committed.

use std::{env, fs, path::Path};

/// Compares `actual` with the content of `file`, or writes it there.
///
/// # Errors
/// The difference, or why there is nothing to compare with.
pub fn compare(file: &Path, actual: &str) -> Result<(), String> {
    let update = env::var_os("UPDATE_GOLDEN").is_some();
    let expected =
        if update { fs::write(file, actual).map(|()| actual.to_owned()) } else { fs::read_to_string(file) };
    let expected = expected
        .map_err(|error| format!("{}: {error}; run with UPDATE_GOLDEN=1 to write it", file.display()))?;
    if actual == expected {
        return Ok(());
    }
    let difference = similar::TextDiff::from_lines(expected.as_str(), actual);
    Err(format!("not what {} says:\n{}", file.display(), difference.unified_diff()))
}
