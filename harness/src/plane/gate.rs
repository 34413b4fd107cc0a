//! The start gate as agents' images have it: static, whatever C library an image has.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

/// Static programs need a target that is named, and are built below a folder of its name.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds it, if it is not built yet, below the folder that this program was built in.
pub(super) fn build() -> anyhow::Result<PathBuf> {
    let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let this = env::current_exe().context("cannot tell where this program is")?;
    let built = this.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
    let folder = built.unwrap_or(Path::new(workspace)).join("gate");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(workspace)
        .args(["build", "--quiet", "--release", "--package", "gate", "--target", TARGET, "--target-dir"])
        .arg(&folder)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .output()
        .context("cannot run cargo, which builds the start gate")?;
    if !output.status.success() {
        bail!("the start gate was not built: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(folder.join(TARGET).join("release/clawker-gate"))
}
