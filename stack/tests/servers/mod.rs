//! The servers themselves, as `ci/images` fetched or built them.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// Folders of the cache whose names begin so.
pub fn cached(prefix: &str) -> impl Iterator<Item = PathBuf> {
    let cache = env::var_os("CLAWKER_CACHE")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cache/clawker")));
    let folders = cache.and_then(|cache| fs::read_dir(cache).ok()).into_iter().flatten().flatten();
    let of_name = folders.filter(move |folder| folder.file_name().to_string_lossy().starts_with(prefix));
    // What is being fetched is called so.
    of_name.map(|folder| folder.path()).filter(|path| path.extension().is_none_or(|end| end != "part"))
}

/// A server's binary: of this machine, or what its image, called `image`, is made of. Or why there is none.
pub fn binary(name: &str, image: &str) -> Result<PathBuf, String> {
    let in_path =
        env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    let prefix = format!("image-{image}-");
    let folders = in_path.into_iter().chain(cached(&prefix));
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| format!("needs {name} in PATH, or its image: `ci/images {image}`"))
}
