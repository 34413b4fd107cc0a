//! What can go wrong, in words that say where and what to do next.
//!
//! A message holds its causes, each once, because most are read in a log of one line. So no variant
//! gives its cause as `source()`: whoever prints the chain would print it twice.

use std::{io, net::SocketAddr, path::PathBuf};

use emitter::chain;

/// Any failure of the manager.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder.
    #[error("{path}: {cause}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Something could not be pinned.
    #[error("{path} was not pinned: {cause}. --pin-dir must be on a bpffs; `mount -t bpf bpf /sys/fs/bpf` mounts one.", path = path.display(), cause = chain(cause))]
    Pin {
        /// Where.
        path: PathBuf,
        /// Why.
        cause: aya::pin::PinError,
    },
    /// A resolver view's address.
    #[error("the resolver view cannot listen on {address}: {cause}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// A resolver view's address that cannot be.
    #[error("{address} cannot be a resolver view's address: {problem}")]
    Resolver {
        /// Which.
        address: SocketAddr,
        /// Why.
        problem: &'static str,
    },
    /// A state file that is not what this version writes.
    #[error("{path} is not a state file of this version: {problem}. Remove it, then enrol the container again.", path = path.display())]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// A file of the reader's spool that cannot be counted.
    #[error("{path} cannot be counted: {problem}. Use the manager and the reader of one release; a reader that starts sets damaged files aside.", path = path.display())]
    Spool {
        /// Which.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// An export of the document store that is not one.
    #[error("{path}: line {line}: {problem}. Each line is one document, as JSON.", path = path.display())]
    Documents {
        /// Which.
        path: PathBuf,
        /// From 1.
        line: u64,
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
    #[error("the programs pinned at {path} have ABI version {found}, this binary has {expected}. Use the matching binary, or `ebpf-manager unload --force` and load again.", path = path.display(), expected = abi::ABI_VERSION)]
    AbiVersion {
        /// Where.
        path: PathBuf,
        /// What was found.
        found: u32,
    },
    /// A program.
    #[error("program `{program}` was not {action}: {cause}", cause = chain(cause))]
    Program {
        /// Which.
        program: &'static str,
        /// What was to be done with it: `loaded`, `attached`, `run`.
        action: &'static str,
        /// Why; the verifier's words included.
        cause: aya::programs::ProgramError,
    },
    /// The object itself.
    #[error(
        "the eBPF object was not loaded: {cause}. It needs Linux 5.10 or later, root, and BTF in the kernel.",
        cause = chain(.0)
    )]
    Object(aya::EbpfError),
    /// A map operation.
    #[error("map `{map}`: {cause}", cause = chain(cause))]
    Map {
        /// Which.
        map: &'static str,
        /// Why.
        cause: aya::maps::MapError,
    },
    /// A map that has no room.
    #[error("map `{map}` is full: {what} was not stored. Retire containers that are gone, or remove rules.")]
    Full {
        /// Which.
        map: &'static str,
        /// What did not fit.
        what: String,
    },
    /// Another daemon.
    #[error("another `ebpf-manager run`{who} serves this set. Stop it first, or give this one its own --pin-dir and --state-dir.", who = .pid.map_or(String::new(), |pid| format!(" (process {pid})")))]
    Running {
        /// Its process.
        pid: Option<u32>,
    },
    /// Containers that unloading would leave without enforcement.
    #[error(
        "programs are attached to {containers} container(s). Retire them first, or unload with --force: nothing is enforced or recorded for them then."
    )]
    StillEnrolled {
        /// How many.
        containers: usize,
    },
    /// A container that retiring would leave without enforcement.
    #[error(
        "{cgroup} has processes: once it is retired, nothing of theirs is denied or recorded any more. End the container first, or retire with --force.", cgroup = .0.display()
    )]
    Populated(PathBuf),
    /// Not something to enrol.
    #[error("{cgroup} cannot be enrolled: {problem}", cgroup = cgroup.display())]
    Enrol {
        /// The cgroup.
        cgroup: PathBuf,
        /// Why.
        problem: String,
    },
    /// No such container.
    #[error("no container with cgroup id {0} is enrolled. `ebpf-manager status` lists them.")]
    NotEnrolled(u64),
    /// A rule names a listener, and the container was enrolled without a proxy.
    #[error("a rule has a listener, and container {0} has no proxy. Retire it and enrol it with --proxy.")]
    NoProxy(u64),
    /// A rule has path rules that nobody would enforce.
    #[error("the rule for {0} has path rules, which the proxy enforces: give it the `listener` of one.")]
    PathsUnread(String),
    /// A file of rules.
    #[error(transparent)]
    Rules(rules::Error),
}

/// What kind of failure an [`Error`] is: the exit codes of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file, the kernel, the machine.
    Failed,
    /// What was asked for cannot be: a rules file, an address.
    Request,
    /// It cannot be as things stand: nothing loaded, not enrolled, enrolled already, another daemon.
    Refused,
}

impl Error {
    /// What kind of failure this is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::File { .. }
            | Self::Pin { .. }
            | Self::Listen { .. }
            | Self::State { .. }
            | Self::Rules(rules::Error::File { .. })
            | Self::Spool { .. }
            | Self::Program { .. }
            | Self::Object(_)
            | Self::Map { .. }
            | Self::Full { .. } => Kind::Failed,
            Self::Resolver { .. } | Self::PathsUnread(_) | Self::Rules(_) | Self::Documents { .. } => {
                Kind::Request
            }
            Self::NotLoaded(_)
            | Self::AlreadyLoaded(_)
            | Self::AbiVersion { .. }
            | Self::Running { .. }
            | Self::StillEnrolled { .. }
            | Self::Populated(_)
            | Self::Enrol { .. }
            | Self::NoProxy(_)
            | Self::NotEnrolled(_) => Kind::Refused,
        }
    }

    /// For `map_err`: a failure on `path`.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::File { path, cause }
    }

    /// For `map_err`: a failure to pin at `path`.
    pub(crate) fn pin(path: PathBuf) -> impl FnOnce(aya::pin::PinError) -> Self {
        move |cause| Self::Pin { path, cause }
    }

    /// For `map_err`: what was to be done with a program.
    pub(crate) fn program(
        program: &'static str,
        action: &'static str,
    ) -> impl FnOnce(aya::programs::ProgramError) -> Self {
        move |cause| Self::Program { program, action, cause }
    }

    /// For `map_err`: a failure on a map.
    pub(crate) fn map(map: &'static str) -> impl FnOnce(aya::maps::MapError) -> Self {
        move |cause| Self::Map { map, cause }
    }
}

/// What every operation returns.
pub(crate) type Result<T> = std::result::Result<T, Error>;
