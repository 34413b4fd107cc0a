//! Waiting for the end of a child process without a loop that sleeps.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
    process::Child,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

/// A child process as a descriptor, which is readable once the process has ended.
pub(crate) struct PidFd(OwnedFd);

impl PidFd {
    /// Of a child that was not waited for yet.
    ///
    /// # Errors
    /// If no descriptor is left.
    pub(crate) fn open(child: &Child) -> io::Result<Self> {
        let pid = child.id() as libc::pid_t;
        // SAFETY: no pointers; the child is not reaped yet, so the id is its own.
        let raw = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
        // SAFETY: `raw` was just opened and belongs to nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(raw as i32) }))
    }

    /// Waits for the process to end; false: it had not at `deadline`.
    pub(crate) fn ended_by(&self, deadline: Instant) -> bool {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Round up: a wait that is cut short to 0 ms would spin.
            let wait = if left.is_zero() { left } else { left + Duration::from_millis(1) };
            let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) | Err(Errno::EINTR) if !left.is_zero() => {}
                ready => return ready.is_ok_and(|count| count > 0),
            }
        }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
