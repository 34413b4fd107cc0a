//! The programs of a container, and attaching them to its cgroup by pinned links.

mod link;

use std::{fs, fs::File, os::fd::AsFd as _, path::Path};

use abi::Identity;
use aya::maps::CgroupStorageKey;
use aya::programs::{
    CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr, CgroupSockAddrAttachType,
    CgroupSockAttachType, CgroupSockopt, CgroupSockoptAttachType, ProgramError, SockOps, links::FdLink,
};

use link::Link;

use crate::{
    Manager,
    error::{Error, Result},
    pins::{found, remove_tree},
};

/// A program that is attached to every container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `cgroup/sock_create`.
    SockCreate,
    /// `cgroup/connect4`.
    Connect4,
    /// `cgroup/connect6`.
    Connect6,
    /// `cgroup/sendmsg4`.
    Sendmsg4,
    /// `cgroup/sendmsg6`.
    Sendmsg6,
    /// `cgroup/recvmsg4`.
    Recvmsg4,
    /// `cgroup/recvmsg6`.
    Recvmsg6,
    /// `cgroup/getpeername4`.
    Getpeername4,
    /// `cgroup/getpeername6`.
    Getpeername6,
    /// `sock_ops`.
    SockOps,
    /// `cgroup_skb/ingress`.
    Ingress,
    /// `cgroup_skb/egress`.
    Egress,
    /// `cgroup/sock_release`.
    SockRelease,
    /// `cgroup/setsockopt`.
    Setsockopt,
}

impl Program {
    /// Every program, in the order of attaching: what counts and ends flows, and what a socket may not
    /// be told, comes before what opens them.
    pub const ALL: &[Self] = &[
        Self::SockRelease,
        Self::Setsockopt,
        Self::SockOps,
        Self::Ingress,
        Self::Egress,
        Self::Recvmsg4,
        Self::Recvmsg6,
        Self::Getpeername4,
        Self::Getpeername6,
        Self::Sendmsg4,
        Self::Sendmsg6,
        Self::Connect4,
        Self::Connect6,
        Self::SockCreate,
    ];

    /// Its name in the object, in pins and in commands.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SockCreate => "sock_create",
            Self::Connect4 => "connect4",
            Self::Connect6 => "connect6",
            Self::Sendmsg4 => "sendmsg4",
            Self::Sendmsg6 => "sendmsg6",
            Self::Recvmsg4 => "recvmsg4",
            Self::Recvmsg6 => "recvmsg6",
            Self::Getpeername4 => "getpeername4",
            Self::Getpeername6 => "getpeername6",
            Self::SockOps => "sock_ops",
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::SockRelease => "sock_release",
            Self::Setsockopt => "setsockopt",
        }
    }

    /// `enum bpf_attach_type`, part of the identity map's key.
    const fn attach_type(self) -> u32 {
        match self {
            Self::Ingress => 0,
            Self::Egress => 1,
            Self::SockCreate => 2,
            Self::SockOps => 3,
            Self::Connect4 => 10,
            Self::Connect6 => 11,
            Self::Sendmsg4 => 14,
            Self::Sendmsg6 => 15,
            Self::Recvmsg4 => 19,
            Self::Recvmsg6 => 20,
            Self::Setsockopt => 22,
            Self::Getpeername4 => 29,
            Self::Getpeername6 => 30,
            Self::SockRelease => 34,
        }
    }

    /// Whether the program asks for its attach point's identity; the others need none.
    const fn reads_identity(self) -> bool {
        !matches!(
            self,
            Self::Recvmsg4
                | Self::Recvmsg6
                | Self::Getpeername4
                | Self::Getpeername6
                | Self::Ingress
                | Self::SockRelease
                | Self::Setsockopt
        )
    }

    /// Attaches the pinned program at `path`.
    fn attach(self, path: &Path, cgroup: &File) -> std::result::Result<Link, ProgramError> {
        let mode = CgroupAttachMode::Single;
        macro_rules! attach {
            ($program:expr $(, $argument:expr)*) => {{
                let mut program = $program;
                let id = program.attach(cgroup $(, $argument)*, mode)?;
                let link = FdLink::try_from(program.take_link(id)?);
                link.map(Link::Aya).map_err(|_| ProgramError::UnexpectedProgramType)
            }};
        }
        match self {
            Self::SockCreate => attach!(CgroupSock::from_pin(path, CgroupSockAttachType::SockCreate)?),
            Self::SockRelease => attach!(CgroupSock::from_pin(path, CgroupSockAttachType::SockRelease)?),
            Self::Connect4 => attach!(CgroupSockAddr::from_pin(path, CgroupSockAddrAttachType::Connect4)?),
            Self::Connect6 => attach!(CgroupSockAddr::from_pin(path, CgroupSockAddrAttachType::Connect6)?),
            Self::Sendmsg4 => attach!(CgroupSockAddr::from_pin(path, CgroupSockAddrAttachType::UDPSendMsg4)?),
            Self::Sendmsg6 => attach!(CgroupSockAddr::from_pin(path, CgroupSockAddrAttachType::UDPSendMsg6)?),
            Self::Recvmsg4 => attach!(CgroupSockAddr::from_pin(path, CgroupSockAddrAttachType::UDPRecvMsg4)?),
            Self::Recvmsg6 => attach!(CgroupSockAddr::from_pin(path, CgroupSockAddrAttachType::UDPRecvMsg6)?),
            Self::Getpeername4 => {
                attach!(CgroupSockAddr::from_pin(path, CgroupSockAddrAttachType::GetPeerName4)?)
            }
            Self::Getpeername6 => {
                attach!(CgroupSockAddr::from_pin(path, CgroupSockAddrAttachType::GetPeerName6)?)
            }
            Self::SockOps => attach!(SockOps::from_pin(path)?),
            Self::Setsockopt => {
                let program = CgroupSockopt::from_pin(path, CgroupSockoptAttachType::Set)?;
                Link::create(program.fd()?.as_fd(), cgroup.as_fd(), self.attach_type())
            }
            Self::Ingress => attach!(
                CgroupSkb::from_pin(path, CgroupSkbAttachType::Ingress)?,
                CgroupSkbAttachType::Ingress
            ),
            Self::Egress => {
                attach!(CgroupSkb::from_pin(path, CgroupSkbAttachType::Egress)?, CgroupSkbAttachType::Egress)
            }
        }
    }
}

impl Manager {
    /// Attaches every program except `leave_out` to a cgroup, and gives each its identity. Until a
    /// program has it, it denies. On failure nothing stays attached.
    pub(crate) fn attach(&self, cgroup: &Path, identity: Identity, leave_out: &[Program]) -> Result<()> {
        let links = self.pins.links(identity.cgroup_id);
        let result = self.attach_all(cgroup, identity, leave_out, &links);
        if result.is_err() {
            // The first error is the one to report.
            let _ = remove_tree(&links);
        }
        result
    }

    fn attach_all(
        &self,
        cgroup: &Path,
        identity: Identity,
        leave_out: &[Program],
        links: &Path,
    ) -> Result<()> {
        let directory = File::open(cgroup).map_err(Error::file(cgroup))?;
        fs::create_dir_all(links).map_err(Error::file(links))?;
        let mut storage = self.pins.identity()?;
        for program in Program::ALL.iter().filter(|program| !leave_out.contains(program)) {
            let name = program.name();
            let link = program
                .attach(&self.pins.program(name), &directory)
                .map_err(Error::program(name, "attached"))?;
            let path = links.join(name);
            link.pin(&path).map_err(Error::pin(path))?;
            if program.reads_identity() {
                let key = CgroupStorageKey::new(identity.cgroup_id, program.attach_type());
                storage.insert(key, identity, 0).map_err(Error::map("identity"))?;
            }
        }
        Ok(())
    }

    /// How many programs are attached to a container; none once its cgroup is gone, with which the kernel drops what it
    /// stored for it. Links stay pinned then, to nothing.
    pub(crate) fn attached(&self, cgroup_id: u64) -> Result<usize> {
        let storage = self.pins.identity()?;
        for program in Program::ALL.iter().filter(|program| program.reads_identity()) {
            let key = CgroupStorageKey::new(cgroup_id, program.attach_type());
            if found("identity", storage.get(key, 0))?.is_some() {
                return Ok(fs::read_dir(self.pins.links(cgroup_id)).map_or(0, Iterator::count));
            }
        }
        Ok(0)
    }

    /// Whether a container that is enrolled has no cgroup any more: nothing is decided or recorded for it.
    ///
    /// # Errors
    /// If a map refuses.
    pub fn is_gone(&self, cgroup_id: u64) -> Result<bool> {
        Ok(self.attached(cgroup_id)? == 0)
    }

    /// Detaches a container's programs.
    pub(crate) fn detach(&self, cgroup_id: u64) -> Result<()> {
        remove_tree(&self.pins.links(cgroup_id))
    }
}
