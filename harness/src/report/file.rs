//! Report files.

use std::{fs, io, path::Path};

/// Writes a whole report file, making its folder. The old report stays until the new one is complete.
pub fn write(path: &Path, what: &str, content: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let attempt = || {
        fs::create_dir_all(folder)?;
        let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        name.push(".part");
        let part = folder.join(name);
        fs::write(&part, content)?;
        fs::rename(&part, path)
    };
    attempt().map_err(|error| {
        let text = format!(
            "cannot write the {what} report to {}: {error}; choose another path, or make room",
            path.display()
        );
        io::Error::new(error.kind(), text)
    })
}
