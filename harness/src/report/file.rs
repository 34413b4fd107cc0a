//! Report files.

use std::{fs, io, path::Path};

/// Whether a report can be written there, found out before there is one.
///
/// # Errors
/// If it cannot; says why and what to do.
pub fn writable(path: &Path, what: &str) -> io::Result<()> {
    let attempt = || {
        if path.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        fs::create_dir_all(folder(path))?;
        // As `write` does: a new file beside it.
        tempfile::NamedTempFile::new_in(folder(path)).map(drop)
    };
    attempt().map_err(|error| cannot(path, what, &error))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn cannot(path: &Path, what: &str, error: &io::Error) -> io::Error {
    let path = path.display();
    let text =
        format!("cannot write the {what} report to {path}: {error}; choose another path, or make room");
    io::Error::new(error.kind(), text)
}

/// Writes a whole report file, making its folder. The old report stays until the new one is complete.
pub fn write(path: &Path, what: &str, content: &[u8]) -> io::Result<()> {
    let folder = folder(path);
    let attempt = || {
        fs::create_dir_all(folder)?;
        let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        name.push(".part");
        let part = folder.join(name);
        fs::write(&part, content)?;
        fs::rename(&part, path)
    };
    attempt().map_err(|error| cannot(path, what, &error))
}
