//! Which files hold scenarios.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

/// A file or folder that was asked for cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot look for scenarios in {}: {source}; name an existing file or folder", path.display())]
pub struct DiscoverError {
    /// What cannot be read.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// The `*.yaml` and `*.yml` files of folders, at any depth, and the files named themselves,
/// whatever they are called; sorted, each once. Folders that are symbolic links are not followed.
pub fn discover(paths: &[PathBuf]) -> Result<Vec<PathBuf>, DiscoverError> {
    let mut found = BTreeSet::new();
    let mut folders = Vec::new();
    for path in paths {
        let meta = fs::metadata(path).map_err(|source| DiscoverError { path: path.clone(), source })?;
        if meta.is_dir() {
            folders.push(path.clone());
        } else {
            found.insert(path.clone());
        }
    }
    while let Some(folder) = folders.pop() {
        let at = |source| DiscoverError { path: folder.clone(), source };
        for entry in fs::read_dir(&folder).map_err(at)? {
            let entry = entry.map_err(at)?;
            let path = entry.path();
            if entry.file_type().map_err(at)?.is_dir() {
                folders.push(path);
            } else if is_yaml(&path) {
                found.insert(path);
            }
        }
    }
    Ok(found.into_iter().collect())
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_searched_and_files_taken_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("b/c")).unwrap();
        for name in ["z.yaml", "b/c/a.yml", "b/notes.md", "other.txt"] {
            fs::write(root.join(name), "").unwrap();
        }
        let found = discover(&[root.to_owned(), root.join("other.txt"), root.join("z.yaml")]).unwrap();
        assert_eq!(found, [root.join("b/c/a.yml"), root.join("other.txt"), root.join("z.yaml")]);
    }

    #[test]
    fn a_missing_path_is_named() {
        let error = discover(&["/nonexistent/x".into()]).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/x"), "{error}");
    }
}
