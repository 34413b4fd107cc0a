//! A scenario to start from.

use std::{
    fs,
    io::{self, Write as _},
    path::{Component, Path},
};

use anyhow::bail;

/// The starter; `@SCHEMA@` and `@FILE@` are put in.
const STARTER: &str = include_str!("template.yaml");
/// Where scenarios are.
const FOLDER: &str = "scenarios";

/// Writes `scenarios/<name>.yaml` below the current folder, and says what to do with it.
///
/// # Errors
/// If the name leads elsewhere, something is there already, or it cannot be written.
pub fn write(name: &Path) -> anyhow::Result<String> {
    let plain = |part: Component<'_>| match part {
        Component::Normal(part) => part.to_str().is_some_and(|text| {
            !text.starts_with('.') && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        }),
        _ => false,
    };
    if name.as_os_str().is_empty() || !name.components().all(plain) {
        bail!(
            "`{}` cannot be the name of a scenario; it is a path below {FOLDER}/ of letters, digits, `-` and `_`, \
             such as sendmsg/ntp",
            name.display()
        );
    }
    let folder = Path::new(FOLDER);
    if !folder.is_dir() {
        bail!("there is no folder {FOLDER}/ here; change to the one that holds it, or make it");
    }
    // `ntp`, `ntp.yaml` and `ntp.yml` are one name; a dot within is the author's.
    let stem = name.to_string_lossy();
    let stem = stem.strip_suffix(".yaml").or_else(|| stem.strip_suffix(".yml")).unwrap_or(&stem);
    let file = folder.join(format!("{stem}.yaml"));
    let up = "../".repeat(Path::new(stem).components().count() - 1);
    let schema = if up.is_empty() { "./schema.json".to_owned() } else { format!("{up}schema.json") };
    let text = STARTER.replace("@SCHEMA@", &schema).replace("@FILE@", &file.display().to_string());
    create(&file, &text).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            anyhow::anyhow!("{} is there already, and is left as it is; choose another name", file.display())
        }
        _ => anyhow::Error::new(error).context(format!("cannot write {}", file.display())),
    })?;
    Ok(told(&file))
}

fn create(file: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::File::create_new(file)?.write_all(text.as_bytes())
}

fn told(file: &Path) -> String {
    let file = file.display();
    format!("{file} is written, and passes as it is:\n  harness run {file}\n  harness explain {file}")
}
