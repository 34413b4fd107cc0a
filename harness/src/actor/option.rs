//! Socket options and flags that the bindings have no name for.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::{errno::Errno, sys::socket::MsgFlags};

use super::Stop;

/// `MSG_ZEROCOPY`.
pub const ZEROCOPY: MsgFlags = MsgFlags::from_bits_retain(libc::MSG_ZEROCOPY);
/// `MSG_FASTOPEN`.
pub const FASTOPEN: MsgFlags = MsgFlags::from_bits_retain(libc::MSG_FASTOPEN);
/// `MSG_MORE`.
pub const MORE: MsgFlags = MsgFlags::from_bits_retain(libc::MSG_MORE);

/// Permits `MSG_ZEROCOPY`.
pub fn zerocopy(fd: &OwnedFd) -> Result<(), Stop> {
    set(fd, libc::SOL_SOCKET, libc::SO_ZEROCOPY, &1_i32, "SO_ZEROCOPY")
}

/// `setsockopt` with a plain value.
pub fn set<T>(
    fd: &OwnedFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
    what: &str,
) -> Result<(), Stop> {
    // SAFETY: `value` is readable for its size; the callers pass C structures and integers.
    let set = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    Errno::result(set).map(drop).map_err(Stop::errno(&format!("setsockopt {what}")))
}
