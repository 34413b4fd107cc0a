//! Builds the eBPF object and embeds it, so that a plain `cargo build` is all there is to do.
//!
//! `aya-build` wants rustup's nightly with rust-src. That is one of two ways here; the other is a
//! distribution's compiler that ships its library sources (Debian: rustc-web and rust-web-src).

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

const BPF_LINKER: &str = "bpf-linker-0.10.3";
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";

fn main() {
    for path in ["../programs", "../abi/src", "../abi/Cargo.toml", "../policy/src", "../policy/Cargo.toml"] {
        println!("cargo:rerun-if-changed={path}");
    }
    println!("cargo:rerun-if-env-changed=CLAWKER_BPF_LINKER");
    println!("cargo:rerun-if-env-changed=CLAWKER_CACHE");
    if let Err(problem) = build() {
        println!("cargo::error=the eBPF programs were not built: {problem}");
    }
}

/// A compiler for `bpfel-unknown-none` with the sources of `core`.
enum Toolchain {
    /// `rustup run nightly cargo`.
    Nightly,
    /// This cargo, with the distribution's compiler.
    System,
}

fn build() -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let target = out.join("bpf");
    let linker = bpf_linker()?;
    let mut cargo = match toolchain()? {
        Toolchain::Nightly => {
            let mut rustup = Command::new("rustup");
            rustup.args(["run", "nightly", "cargo"]).env_remove("RUSTC");
            rustup
        }
        Toolchain::System => {
            let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            cargo.env("RUSTC", SYSTEM_RUSTC).env("RUSTC_BOOTSTRAP", "1");
            cargo
        }
    };
    // The outer build's flags are for the host.
    for name in [
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTUP_TOOLCHAIN",
        "CARGO_BUILD_TARGET",
        "RUSTDOC",
    ] {
        cargo.env_remove(name);
    }
    let mut flags = OsString::from("-Clinker=");
    flags.push(&linker);
    flags.push("\u{1f}-Clink-arg=--btf\u{1f}-Cdebuginfo=2\u{1f}-Cpanic=abort");
    let output = cargo
        .current_dir("../programs")
        .args([
            "build",
            "--release",
            "--target",
            "bpfel-unknown-none",
            "-Z",
            "build-std=core",
            "--target-dir",
        ])
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .output()
        .map_err(|error| format!("cargo did not start: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).replace('\n', "\ncargo::error="));
    }
    println!(
        "cargo:rustc-env=CLAWKER_OBJECT={}",
        target.join("bpfel-unknown-none/release/programs").display()
    );
    Ok(())
}

fn toolchain() -> Result<Toolchain, String> {
    let library =
        |sysroot: &str| Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").is_dir();
    let sysroot = |command: &mut Command| {
        let output = command.args(["--print", "sysroot"]).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    // A pinned RUSTUP_TOOLCHAIN would override `run nightly`.
    let mut nightly = Command::new("rustup");
    nightly.args(["run", "nightly", "rustc"]).env_remove("RUSTUP_TOOLCHAIN");
    if sysroot(&mut nightly).is_some_and(|root| library(&root)) {
        return Ok(Toolchain::Nightly);
    }
    if sysroot(&mut Command::new(SYSTEM_RUSTC)).is_some_and(|root| library(&root)) {
        return Ok(Toolchain::System);
    }
    Err(format!(
        "no compiler with library sources: neither rustup's nightly with rust-src nor {SYSTEM_RUSTC} with its sources. Run ci/setup."
    ))
}

fn bpf_linker() -> Result<PathBuf, String> {
    let cache = env::var_os("CLAWKER_CACHE")
        .map(PathBuf::from)
        .or_else(|| env::var_os("XDG_CACHE_HOME").map(|dir| PathBuf::from(dir).join("clawker")))
        .or_else(|| env::var_os("HOME").map(|dir| PathBuf::from(dir).join(".cache/clawker")));
    let in_cache = cache.map(|dir| dir.join(BPF_LINKER).join("bin/bpf-linker"));
    let in_path = env::var_os("PATH")
        .into_iter()
        .flat_map(|path| env::split_paths(&path).map(|dir| dir.join("bpf-linker")).collect::<Vec<_>>());
    env::var_os("CLAWKER_BPF_LINKER")
        .map(PathBuf::from)
        .into_iter()
        .chain(in_cache)
        .chain(in_path)
        .find(|path| path.is_file())
        .ok_or_else(|| format!("{BPF_LINKER} is neither in the cache nor in PATH. Run ci/setup."))
}
