//! Files in `docs` that are made of the tables. `UPDATE_GOLDEN=1` writes them anew; read the difference before it is
//! committed.

use std::{env, fs, path::Path};

/// Compares with the file of this name, or writes it.
pub fn compare(name: &str, actual: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, actual).expect("a file that can be written");
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    let difference = similar::TextDiff::from_lines(expected.as_str(), actual);
    assert!(actual == expected, "{name}; UPDATE_GOLDEN=1 writes it anew:\n{}", difference.unified_diff());
}
