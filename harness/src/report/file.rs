//! Report files.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use tempfile::NamedTempFile;

/// Whether a report can be written there, found out before there is one.
///
/// # Errors
/// If it cannot; says why and what to do.
pub fn writable(path: &Path, what: &str) -> io::Result<()> {
    let attempt = || {
        if let Some(stream) = stream(path)? {
            return OpenOptions::new().write(true).open(stream).map(drop);
        }
        path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        fs::create_dir_all(folder(path))?;
        // As `write` does: a new file beside it.
        part(path).map(drop)
    };
    attempt().map_err(|error| cannot(path, what, &error))
}

/// What is there and takes what is written as it comes: a device or a pipe, such as `/dev/stdout`. A file
/// in its place would be the machine's harm.
fn stream(path: &Path) -> io::Result<Option<&Path>> {
    match fs::metadata(path) {
        Ok(there) if there.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(there) if !there.is_file() => Ok(Some(path)),
        _ => Ok(None),
    }
}

/// A new file beside a report, which is gone if it does not take the report's place.
fn part(path: &Path) -> io::Result<NamedTempFile> {
    // As many may read it as of any other new file.
    let everybody = fs::Permissions::from_mode(0o666);
    tempfile::Builder::new().suffix(".part").permissions(everybody).tempfile_in(folder(path))
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
    let attempt = || {
        if let Some(stream) = stream(path)? {
            return OpenOptions::new().write(true).open(stream)?.write_all(content);
        }
        // What a link leads to is the report, and not the link.
        let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        fs::create_dir_all(folder(path))?;
        let mut part = part(path)?;
        part.write_all(content)?;
        part.persist(path).map(drop).map_err(|error| error.error)
    };
    attempt().map_err(|error| cannot(path, what, &error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt as _, symlink};

    use super::*;

    #[test]
    fn a_device_is_written_to_and_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let null = folder.path().join("null");
        symlink("/dev/null", &null).unwrap();
        writable(&null, "JSON").unwrap();
        write(&null, "JSON", b"{}").unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        assert!(fs::symlink_metadata(&null).unwrap().is_symlink());
        let full = write(Path::new("/dev/full"), "JSON", b"{}").unwrap_err();
        assert!(full.to_string().contains("No space left"), "{full}");
        assert!(fs::metadata("/dev/full").unwrap().file_type().is_char_device());
    }

    #[test]
    fn a_report_takes_the_place_of_the_old_one_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let (report, link) = (folder.path().join("r.json"), folder.path().join("link"));
        symlink(&report, &link).unwrap();
        for content in ["old", "new"] {
            write(&report, "JSON", content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&link).unwrap(), content);
        }
        write(&link, "JSON", b"through the link").unwrap();
        assert_eq!(fs::read_to_string(&report).unwrap(), "through the link");
        writable(&folder.path().join("r.xml"), "JUnit").unwrap();
        assert!(writable(folder.path(), "JUnit").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
