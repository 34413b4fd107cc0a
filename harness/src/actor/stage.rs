//! The actor's side of what it does together with others: what it is told, where it holds, and
//! sockets that one process makes and another uses.

use std::{
    io::{self, BufRead, IoSlice, IoSliceMut},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{self, ControlMessage, ControlMessageOwned, MsgFlags},
};
use serde::{Deserialize, Serialize};

use super::{Action, Line, Stop, say};
use crate::scenario::types::Origin;

/// One line on the actor's standard input: what to do, and which part of it.
#[derive(Serialize, Deserialize)]
pub struct Order {
    /// What.
    pub action: Action,
    /// Which part.
    pub part: Part,
}

/// Which part of an action a process does. A descriptor is an inherited end of a socket pair.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// All of it.
    Whole,
    /// Make the socket, and pass it on.
    Make(RawFd),
    /// Take the socket, and use it.
    Use(RawFd),
}

/// How a process takes part.
pub struct Stage {
    part: Part,
}

/// Reads the order. Whatever follows it on standard input says to go on, once a line.
pub fn order() -> Result<(Action, Stage), String> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(|error| error.to_string())?;
    let Order { action, part } = serde_json::from_str(&line).map_err(|error| error.to_string())?;
    Ok((action, Stage { part }))
}

/// Tells the harness that half is done, and waits for its word.
pub fn hold() {
    say(&Line::Holding);
    let mut line = String::new();
    // End of file: the harness is gone, and this process with it.
    let _ = io::stdin().lock().read_line(&mut line);
}

impl Stage {
    /// The socket of an action: made here, there, or half-way.
    pub fn socket(
        &self,
        origin: Origin,
        make: impl FnOnce() -> Result<OwnedFd, Stop>,
    ) -> Result<OwnedFd, Stop> {
        match (self.part, origin) {
            (Part::Make(to), _) => {
                pass(to, &make()?)?;
                Err(Stop::new("ok", "made the socket, and passed it on"))
            }
            (Part::Use(from), _) => take(from),
            (Part::Whole, Origin::MovedIn | Origin::MovedOut | Origin::Before) => {
                let fd = make()?;
                hold();
                Ok(fd)
            }
            (Part::Whole, _) => make(),
        }
    }

    /// The socket is connected, and has sent nothing yet.
    pub fn connected(&self, origin: Origin) {
        if origin.is_connected() {
            hold();
        }
    }
}

fn pass(to: RawFd, fd: &OwnedFd) -> Result<(), Stop> {
    let fds = [fd.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    socket::sendmsg::<()>(to, &[IoSlice::new(b"s")], &rights, MsgFlags::MSG_NOSIGNAL, None)
        .map(drop)
        .map_err(Stop::errno("sendmsg SCM_RIGHTS"))
}

fn take(from: RawFd) -> Result<OwnedFd, Stop> {
    let mut byte = [0];
    let mut slices = [IoSliceMut::new(&mut byte)];
    let mut space = cmsg_space!([RawFd; 1]);
    let message = socket::recvmsg::<()>(from, &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)
        .map_err(Stop::errno("recvmsg SCM_RIGHTS"))?;
    let rights = message.cmsgs().map_err(Stop::errno("recvmsg SCM_RIGHTS"))?.find_map(|one| match one {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    let raw = rights.ok_or_else(|| Stop::errno("recvmsg SCM_RIGHTS")(Errno::EPIPE))?;
    // SAFETY: the kernel has just opened it for this process, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}
