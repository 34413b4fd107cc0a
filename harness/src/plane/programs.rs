//! Our own programs as they are in containers: static, whatever C library an image has.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

/// Static programs need a target that is named, and are built below a folder of its name.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Where they are.
#[derive(Debug)]
pub(super) struct Programs {
    /// The start gate, which agents' images have.
    pub gate: PathBuf,
    /// The relay.
    pub relay: PathBuf,
}

/// Builds them, if they are not built yet, below the folder that this program was built in.
pub(super) fn build() -> anyhow::Result<Programs> {
    let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let this = env::current_exe().context("cannot tell where this program is")?;
    let built = this.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
    let folder = built.unwrap_or(Path::new(workspace)).join("static");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(workspace)
        .args(["build", "--quiet", "--release", "--package", "gate", "--package", "relay"])
        .args(["--target", TARGET, "--target-dir"])
        .arg(&folder)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .output()
        .context("cannot run cargo, which builds the start gate and the relay")?;
    if !output.status.success() {
        bail!("the start gate and the relay were not built: {}", String::from_utf8_lossy(&output.stderr));
    }
    let program = |name: &str| folder.join(TARGET).join("release").join(name);
    Ok(Programs { gate: program("clawker-gate"), relay: program("relay") })
}
