//! What can go wrong, in words that say where and what to do next.

use std::{io, path::PathBuf};

/// Any failure of the manager.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A state file that is not what this version writes.
    #[error("{path} is not a state file of this version: {problem}. Remove it, then enrol the container again.", path = path.display())]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// Nothing is loaded there.
    #[error("no programs are pinned at {path}. Run `ebpf-manager load` first.", path = .0.display())]
    NotLoaded(PathBuf),
    /// Something is loaded there already.
    #[error("programs are pinned at {path} already. `ebpf-manager unload` removes them, and with them enforcement.", path = .0.display())]
    AlreadyLoaded(PathBuf),
    /// Pinned by another version.
    #[error("the programs pinned at {path} have ABI version {found}, this binary has {expected}. Use the matching binary, or unload and load again.", path = path.display(), expected = abi::ABI_VERSION)]
    AbiVersion {
        /// Where.
        path: PathBuf,
        /// What was found.
        found: u32,
    },
    /// The kernel refused a program.
    #[error("program `{program}` was not loaded: {source}")]
    Program {
        /// Which.
        program: &'static str,
        /// Why; the verifier's words included.
        source: aya::programs::ProgramError,
    },
    /// The object itself.
    #[error(
        "the eBPF object was not loaded: {0}. It needs Linux 5.10 or later, root, and BTF in the kernel."
    )]
    Object(#[from] aya::EbpfError),
    /// A map operation.
    #[error("map `{map}`: {source}")]
    Map {
        /// Which.
        map: &'static str,
        /// Why.
        source: aya::maps::MapError,
    },
    /// A map that has no room.
    #[error("map `{map}` is full: {what} was not stored. Retire containers that are gone, or remove rules.")]
    Full {
        /// Which.
        map: &'static str,
        /// What did not fit.
        what: String,
    },
    /// Not something to enrol.
    #[error("{cgroup} is not enrolled: {problem}", cgroup = cgroup.display())]
    Enrol {
        /// The cgroup.
        cgroup: PathBuf,
        /// Why.
        problem: String,
    },
    /// No such container.
    #[error("no container with cgroup id {0} is enrolled. `ebpf-manager status` lists them.")]
    NotEnrolled(u64),
    /// A rule that cannot be.
    #[error("rule {number}: {problem}")]
    Rule {
        /// Its place in the list, from 1.
        number: usize,
        /// Why.
        problem: String,
    },
    /// A rules file that is not one.
    #[error("{path}: {problem}", path = path.display())]
    RulesFile {
        /// Which.
        path: PathBuf,
        /// With line and column.
        problem: String,
    },
}

impl Error {
    /// For `map_err`: a failure on `path`.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// For `map_err`: a failure on a map.
    pub(crate) fn map(map: &'static str) -> impl FnOnce(aya::maps::MapError) -> Self {
        move |source| Self::Map { map, source }
    }
}

/// What every operation returns.
pub(crate) type Result<T> = std::result::Result<T, Error>;
