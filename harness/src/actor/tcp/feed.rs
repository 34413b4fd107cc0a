//! How a connection's bytes are handed to the kernel.

use std::{
    fs::File,
    io::Write,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, SpliceFFlags, splice},
    sys::{
        memfd::{MFdFlags, memfd_create},
        sendfile::sendfile,
        socket::{self, MsgFlags},
    },
    unistd::{self, pipe2},
};

use super::CHUNK;
use crate::actor::{Stop, option, payload, uring::Ring};

/// By which call.
pub enum Feed {
    /// `send()`.
    Send,
    /// An io_uring's send.
    Ring(Ring),
    /// `send(MSG_ZEROCOPY)`.
    Zerocopy,
    /// `splice()` from a pipe; `held` bytes are in it.
    Splice { read: OwnedFd, write: OwnedFd, held: usize },
    /// `sendfile()` from a file of one chunk.
    Sendfile(File),
}

impl Feed {
    /// From a new pipe.
    pub fn splice() -> Result<Self, Stop> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(Stop::errno("pipe2"))?;
        Ok(Self::Splice { read, write, held: 0 })
    }

    /// From a file in memory.
    pub fn sendfile() -> Result<Self, Stop> {
        let fd = memfd_create(c"payload", MFdFlags::MFD_CLOEXEC).map_err(Stop::errno("memfd_create"))?;
        let mut file = File::from(fd);
        file.write_all(&payload(CHUNK)).map_err(|error| Stop::new("EIO", error.to_string()))?;
        Ok(Self::Sendfile(file))
    }

    /// The call's name.
    pub const fn call(&self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Ring(_) => "io_uring send",
            Self::Zerocopy => "send MSG_ZEROCOPY",
            Self::Splice { .. } => "splice",
            Self::Sendfile(_) => "sendfile",
        }
    }

    /// Hands over `data` or the beginning of it; how many bytes the kernel took.
    pub fn send(&mut self, to: &OwnedFd, data: &[u8]) -> nix::Result<usize> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match self {
            Self::Send => socket::send(to.as_raw_fd(), data, flags),
            Self::Ring(ring) => ring.send(to, data),
            Self::Zerocopy => {
                let sent = socket::send(to.as_raw_fd(), data, flags | option::ZEROCOPY);
                released(to);
                // No room for another notification: room comes as they are read.
                sent.map_err(|errno| if errno == Errno::ENOBUFS { Errno::EAGAIN } else { errno })
            }
            Self::Splice { read, write, held } => {
                if *held == 0 {
                    *held = unistd::write(write, data)?;
                }
                let moved = splice(read, None, to, None, *held, SpliceFFlags::SPLICE_F_NONBLOCK)?;
                *held -= moved;
                Ok(moved)
            }
            Self::Sendfile(file) => sendfile(to, file, Some(&mut 0), data.len().min(CHUNK)),
        }
    }
}

/// Reads the kernel's notices of zero-copy buffers that it has given back, so that they do not keep
/// the socket ready.
pub fn released(fd: &OwnedFd) {
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    while socket::recvmsg::<()>(fd.as_raw_fd(), &mut [], None, flags).is_ok() {}
}
