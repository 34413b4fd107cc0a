//! Makes a forked child an agent: cgroup, namespaces, files, user, capabilities.
//!
//! Everything that allocates happens before the fork. Between fork and exec only system calls are
//! made, for the child of a process with threads may do nothing else.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
    path::{Path, PathBuf},
    ptr,
    str::FromStr,
};

use caps::Capability;

use super::stage::Part;
use crate::{scenario::types::Agent, world::WorldError};

/// User and group of an agent that names none: `nobody`.
pub(crate) const NOBODY: u32 = 65_534;

/// What Docker gives a container, less NET_RAW, which `enrol` refuses.
const DOCKER_LESS_NET_RAW: [Capability; 13] = [
    Capability::CAP_AUDIT_WRITE,
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_KILL,
    Capability::CAP_MKNOD,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETGID,
    Capability::CAP_SETPCAP,
    Capability::CAP_SETUID,
    Capability::CAP_SYS_CHROOT,
];

/// A step between fork and exec, in the order in which they are taken; each names the one that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, strum::FromRepr)]
#[repr(u8)]
pub enum ConfineError {
    /// Writing to `cgroup.procs`.
    #[error("join its cgroup")]
    Cgroup = 1,
    /// Clearing close-on-exec of a descriptor that it inherits.
    #[error("keep its end of a socket pair")]
    Descriptor,
    /// `setns`.
    #[error("enter its network namespace")]
    Network,
    /// `unshare` of the mount namespace.
    #[error("make a mount namespace")]
    Mounts,
    /// A bind mount over a file below /etc.
    #[error("bind its files below /etc")]
    Files,
    /// Dropping from the bounding set.
    #[error("drop capabilities")]
    Bounding,
    /// Changing groups and user.
    #[error("change its user")]
    User,
    /// Setting permitted, effective and inheritable capabilities.
    #[error("set its capabilities, which must be in the harness's own bounding set")]
    Capabilities,
    /// Raising ambient capabilities.
    #[error("raise its ambient capabilities")]
    Ambient,
    /// Asking for SIGKILL when the harness ends, or the harness ended already.
    #[error("tie its life to the harness")]
    Death,
}

/// The cgroup that a child joins.
#[derive(Clone, Copy, Debug)]
pub enum Cgroup<'a> {
    /// The agent's.
    Own,
    /// The one whose `cgroup.procs` this is.
    Within(BorrowedFd<'a>),
    /// None: it stays in the harness's.
    Outside,
}

/// What a child does to itself before exec.
pub struct Confinement {
    cgroup_procs: OwnedFd,
    netns: OwnedFd,
    binds: Vec<(CString, CString)>,
    start: PathBuf,
    home: PathBuf,
    uid: u32,
    /// Capability bits of the bounding set.
    bounding: u64,
    /// Capability bits that a user other than root really has.
    extra: u64,
}

impl Confinement {
    /// For processes of `agent`.
    pub fn new(
        agent: &Agent,
        cgroup_procs: BorrowedFd<'_>,
        netns: BorrowedFd<'_>,
        binds: Vec<(CString, CString)>,
    ) -> Result<Self, WorldError> {
        let mut extra = 0;
        for name in &agent.caps {
            let upper = name.to_ascii_uppercase();
            let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
            extra |= Capability::from_str(&full)
                .map_err(|_| WorldError::Capability { agent: agent.agent.clone(), name: name.clone() })?
                .bitmask();
        }
        let duplicate =
            |fd: BorrowedFd<'_>| fd.try_clone_to_owned().map_err(WorldError::io("duplicate a descriptor"));
        Ok(Self {
            cgroup_procs: duplicate(cgroup_procs)?,
            netns: duplicate(netns)?,
            binds,
            start: PathBuf::from("/"),
            home: PathBuf::from("/nonexistent"),
            uid: agent.uid.unwrap_or(NOBODY),
            bounding: DOCKER_LESS_NET_RAW.iter().fold(extra, |bits, capability| bits | capability.bitmask()),
            extra,
        })
    }

    /// Starts its programs in `start`, with this `HOME`, instead of in `/` without one.
    pub fn within(self, start: PathBuf, home: PathBuf) -> Self {
        Self { start, home, ..self }
    }

    /// Has its processes join another cgroup from now on.
    pub fn join(&mut self, cgroup_procs: BorrowedFd<'_>) -> Result<(), WorldError> {
        self.cgroup_procs =
            cgroup_procs.try_clone_to_owned().map_err(WorldError::io("duplicate a descriptor"))?;
        Ok(())
    }

    /// Where its programs start, and their home.
    pub(super) fn folders(&self) -> (&Path, &Path) {
        (&self.start, &self.home)
    }

    /// The steps as a closure for `pre_exec`. It owns all memory it needs; the descriptors are those of
    /// `self`, of `cgroup` and of `part`, which must outlive the fork, and of `failures`, which gets the
    /// number of a step that failed. `harness` is the process that the child's life is tied to, if any.
    pub(crate) fn steps(
        &self,
        cgroup: Cgroup<'_>,
        part: Part,
        failures: RawFd,
        harness: Option<u32>,
    ) -> impl FnMut() -> io::Result<()> + Send + Sync + use<> {
        let cgroup_procs = match cgroup {
            Cgroup::Own => Some(self.cgroup_procs.as_raw_fd()),
            Cgroup::Within(procs) => Some(procs.as_raw_fd()),
            Cgroup::Outside => None,
        };
        let netns = self.netns.as_raw_fd();
        let inherited_end = match part {
            Part::Whole => None,
            Part::Make(fd) | Part::Use(fd) => Some(fd),
        };
        let binds = self.binds.clone();
        let (uid, bounding, extra) = (self.uid, self.bounding, self.extra);
        move || {
            let take = |step: ConfineError, result: io::Result<()>| {
                result.inspect_err(|_| {
                    // SAFETY: one byte from the stack to an open pipe.
                    unsafe { libc::write(failures, [step as u8].as_ptr().cast(), 1) };
                })
            };
            if let Some(procs) = cgroup_procs {
                take(ConfineError::Cgroup, join_cgroup(procs))?;
            }
            if let Some(end) = inherited_end {
                take(ConfineError::Descriptor, keep_open(end))?;
            }
            take(ConfineError::Network, enter(netns))?;
            take(ConfineError::Mounts, own_mounts())?;
            for (source, target) in &binds {
                take(ConfineError::Files, bind(source, target))?;
            }
            take(ConfineError::Bounding, drop_bounding(bounding))?;
            take(ConfineError::User, change_user(uid))?;
            let (held, inherited) = if uid == 0 { (bounding, 0) } else { (extra, extra) };
            take(ConfineError::Capabilities, set_capabilities(held, inherited))?;
            take(ConfineError::Ambient, raise_ambient(inherited))?;
            take(ConfineError::Death, harness.map_or(Ok(()), tie_to))
        }
    }
}

fn check(result: libc::c_long) -> io::Result<()> {
    // Builds an error from errno alone, without allocating.
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn join_cgroup(procs: RawFd) -> io::Result<()> {
    // SAFETY: a static byte to an open descriptor. "0" is the writer.
    check(unsafe { libc::write(procs, c"0".as_ptr().cast(), 1) } as libc::c_long)
}

fn keep_open(fd: RawFd) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }.into())
}

fn enter(netns: RawFd) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::setns(netns, libc::CLONE_NEWNET) }.into())
}

/// Slave, not private: nothing done here goes out, but what is unmounted outside goes away here
/// too. A private copy of /run/netns would keep other worlds' namespaces alive.
fn own_mounts() -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) }.into())?;
    let flags = libc::MS_REC | libc::MS_SLAVE;
    // SAFETY: static strings; null where the kernel ignores the argument.
    check(unsafe { libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), flags, ptr::null()) }.into())
}

fn bind(source: &CString, target: &CString) -> io::Result<()> {
    // SAFETY: both strings live through the call; null where the kernel ignores the argument.
    check(
        unsafe { libc::mount(source.as_ptr(), target.as_ptr(), ptr::null(), libc::MS_BIND, ptr::null()) }
            .into(),
    )
}

fn drop_bounding(keep: u64) -> io::Result<()> {
    for capability in 0..64 {
        if keep & (1 << capability) != 0 {
            continue;
        }
        // SAFETY: no pointers.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } < 0 {
            let error = io::Error::last_os_error();
            // Past the last capability that this kernel has.
            return if error.raw_os_error() == Some(libc::EINVAL) { Ok(()) } else { Err(error) };
        }
    }
    Ok(())
}

/// The kernel's calls, not libc's, which would try to tell threads that the child does not have.
fn change_user(uid: u32) -> io::Result<()> {
    // SAFETY: no pointers, or a null list of length 0.
    unsafe {
        check(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0).into())?;
        check(libc::syscall(libc::SYS_setgroups, 0, ptr::null::<libc::gid_t>()))?;
        check(libc::syscall(libc::SYS_setresgid, uid, uid, uid))?;
        check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))
    }
}

fn set_capabilities(held: u64, inheritable: u64) -> io::Result<()> {
    /// `struct __user_cap_header_struct`, which libc does not have.
    #[repr(C)]
    struct Header {
        version: u32,
        pid: libc::c_int,
    }
    /// `struct __user_cap_data_struct`; two of them in version 3, low word first.
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let data = |held: u32, inheritable: u32| Data { effective: held, permitted: held, inheritable };
    let header = Header { version: 0x2008_0522, pid: 0 };
    let words =
        [data(held as u32, inheritable as u32), data((held >> 32) as u32, (inheritable >> 32) as u32)];
    // SAFETY: header and two data words, as version 3 wants them, live through the call.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, words.as_ptr()) })
}

fn raise_ambient(capabilities: u64) -> io::Result<()> {
    for capability in (0..64_u64).filter(|bit| capabilities & (1 << bit) != 0) {
        check(
            // SAFETY: no pointers.
            unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0) }.into(),
        )?;
    }
    Ok(())
}

/// After the change of user, which would clear it.
fn tie_to(harness: u32) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }.into())?;
    // SAFETY: no arguments.
    let parent = unsafe { libc::getppid() };
    if u32::try_from(parent) == Ok(harness) { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
}
