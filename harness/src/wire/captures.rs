//! Which captures of a run are kept, and where.

use std::{
    fs,
    io::{self, BufWriter, Write as _},
    path::PathBuf,
};

use sha2::{Digest as _, Sha256};

use super::Frames;

/// Longest part of a file's name that is the cell's, bytes; file systems take 255.
const NAME: usize = 120;

/// Of which cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Keep {
    /// Every cell.
    All,
    /// Cells that failed.
    #[default]
    Failed,
    /// No cell.
    None,
}

/// A folder of pcap files, made with the first of them.
#[derive(Clone, Debug)]
pub struct Captures {
    folder: PathBuf,
    keep: Keep,
}

impl Captures {
    /// Captures in `folder`.
    pub fn new(folder: impl Into<PathBuf>, keep: Keep) -> Self {
        Self { folder: folder.into(), keep }
    }

    /// The file that a cell's capture went to; `None` where it is not wanted.
    ///
    /// # Errors
    /// If it cannot be written, with the path.
    pub fn store(&self, cell: &str, failed: bool, frames: &Frames) -> io::Result<Option<PathBuf>> {
        if self.keep == Keep::None || (self.keep == Keep::Failed && !failed) {
            return Ok(None);
        }
        let path = self.folder.join(file_name(cell));
        let attempt = || {
            fs::create_dir_all(&self.folder)?;
            let mut out = BufWriter::new(fs::File::create(&path)?);
            frames.write(&mut out)?;
            out.flush()
        };
        attempt().map_err(|error| {
            let text = format!("cannot keep the capture in {}: {error}", path.display());
            io::Error::new(error.kind(), text)
        })?;
        Ok(Some(path))
    }
}

/// A cell's name as a file's: what a shell or a URL could act on is `_`, and a few digits keep apart what
/// that makes alike.
fn file_name(cell: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-.=".contains(c) { c } else { '_' };
    let name: String = cell.chars().map(plain).take(NAME).collect();
    let digest = Sha256::digest(cell);
    let digits: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{digits}.pcap", name.trim_start_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_stay_apart() {
        let names =
            ["a/b::c d[x=1]", "a/b::c d[x=2]", "a/b::c:d[x=1]", "../../x", &"é".repeat(500)].map(file_name);
        for name in &names {
            assert!(name.len() < 140 && !name.contains('/') && !name.starts_with('.'), "{name}");
        }
        assert!(names[0].starts_with("a_b__c_d_x=1_-"));
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), 5);
    }

    #[test]
    fn only_what_is_wanted_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = |keep, failed| {
            Captures::new(folder.path().join("pcaps"), keep).store("x", failed, &Frames::default()).unwrap()
        };
        assert_eq!((store(Keep::None, true), store(Keep::Failed, false)), (None, None));
        assert!(!folder.path().join("pcaps").exists());
        let path = store(Keep::Failed, true).unwrap();
        assert_eq!(fs::metadata(path).unwrap().len(), 24, "a header and no packet");
    }
}
