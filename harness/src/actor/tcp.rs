//! One TCP connection.

mod feed;
mod open;

use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{self, MsgFlags, Shutdown, setsockopt, sockopt},
};

use super::{Report, Stop, payload, stage::Stage};
use crate::scenario::types::{Connect, End};
use feed::Feed;
pub use feed::released;
use open::Opened;

/// The kernel's own time-out must strike first: its errno says more than ours.
const GRACE: Duration = Duration::from_secs(2);
const CHUNK: usize = 64 * 1024;
/// Between two looks at the send queue, which nothing announces.
const LOOK: Duration = Duration::from_micros(200);

/// Connects, exchanges, and ends as `action` says.
pub fn run(action: &Connect, stage: &Stage, report: &mut Report) -> Result<(), Stop> {
    let timeout = action.timeout.unwrap_or(Connect::TIMEOUT);
    let Opened { fd, feed, sent } = open::open(action, stage, timeout, report)?;
    report.sent = sent;
    let mut stream = Stream { fd, feed, timeout, report };
    stream.exchange(action.send - sent, action.receive)?;
    if let Some(pause) = action.pause {
        thread::sleep(pause);
    }
    stream.exchange(action.send_after, 0)?;
    match action.end {
        End::Close => stream.close(),
        End::Peer => stream.read_to_end(),
        End::Reset => {
            stream.flush()?;
            let linger = libc::linger { l_onoff: 1, l_linger: 0 };
            setsockopt(&stream.fd, sockopt::Linger, &linger).map_err(Stop::errno("setsockopt SO_LINGER"))
        }
        End::Kill => {
            stream.flush()?;
            // The kernel closes it when the process is killed, and not before.
            std::mem::forget(stream);
            Ok(())
        }
    }
}

/// What is ready; `None` at the deadline.
fn wait(fd: &OwnedFd, events: PollFlags, deadline: Instant) -> Result<Option<PollFlags>, Stop> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(fd.as_fd(), events)];
        match poll(&mut fds, timeout) {
            Ok(0) if Instant::now() >= deadline => return Ok(None),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(Some(fds[0].revents().unwrap_or(PollFlags::empty()))),
            Err(errno) => return Err(Stop::errno("poll")(errno)),
        }
    }
}

/// Answers on an accepted connection: `send` bytes, once `receive` bytes have come or while they do.
pub fn serve(fd: OwnedFd, send: u64, receive: u64, report: &mut Report) -> Result<(), Stop> {
    let mut stream = Stream { fd, feed: Feed::Send, timeout: Connect::TIMEOUT, report };
    stream.exchange(send, receive)?;
    stream.close()
}

struct Stream<'a> {
    fd: OwnedFd,
    feed: Feed,
    timeout: Duration,
    report: &'a mut Report,
}

impl Stream<'_> {
    /// Sends `send` bytes and reads at least `receive`, both at once: a peer that echoes stops
    /// reading when nobody reads what it sends. The time-out is for a lack of progress.
    fn exchange(&mut self, send: u64, receive: u64) -> Result<(), Stop> {
        let data = payload(CHUNK);
        let (mut to_send, mut to_receive) = (send, receive);
        let mut ended = false;
        while to_send > 0 || to_receive > 0 {
            let mut events = PollFlags::empty();
            events.set(PollFlags::POLLIN, !ended);
            events.set(PollFlags::POLLOUT, to_send > 0);
            let deadline = Instant::now() + self.timeout + GRACE;
            let Some(ready) = wait(&self.fd, events, deadline)? else {
                return Err(Stop::new(
                    "timeout",
                    format!("{to_send} bytes not sent, {to_receive} not received"),
                ));
            };
            if to_send > 0 && ready.intersects(PollFlags::POLLOUT | PollFlags::POLLERR | PollFlags::POLLHUP) {
                let len = usize::try_from(to_send).unwrap_or(CHUNK).min(CHUNK);
                to_send -= self.send(&data[..len])?;
            }
            if !ended && ready.intersects(PollFlags::POLLIN | PollFlags::POLLERR | PollFlags::POLLHUP) {
                // Not more than was asked for, so that what a case leaves unread stays unread; while
                // something is still to be sent, anything, for a peer that echoes must not block.
                let limit = if to_send > 0 { CHUNK } else { usize::try_from(to_receive).unwrap_or(CHUNK) };
                match self.receive(limit.min(CHUNK))? {
                    Some(0) => ended = true,
                    Some(len) => to_receive = to_receive.saturating_sub(len),
                    None => {}
                }
            }
            if ended && to_send == 0 && to_receive > 0 {
                return Err(Stop::new("EOF", format!("the peer closed, {to_receive} bytes short")));
            }
        }
        Ok(())
    }

    fn send(&mut self, data: &[u8]) -> Result<u64, Stop> {
        match self.feed.send(&self.fd, data) {
            Ok(len) => {
                self.report.sent += len as u64;
                Ok(len as u64)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(errno) => Err(Stop::errno(self.feed.call())(errno)),
        }
    }

    /// Reads at most `limit` bytes. `Some(0)` at the end, `None` if there is nothing yet.
    fn receive(&mut self, limit: usize) -> Result<Option<u64>, Stop> {
        let mut buffer = [0; CHUNK];
        match socket::recv(self.fd.as_raw_fd(), &mut buffer[..limit], MsgFlags::MSG_DONTWAIT) {
            Ok(len) => {
                self.report.received += len as u64;
                Ok(Some(len as u64))
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {
                if matches!(self.feed, Feed::Zerocopy) {
                    released(&self.fd);
                }
                Ok(None)
            }
            Err(errno) => Err(Stop::errno("recv")(errno)),
        }
    }

    /// Ends its own direction, then reads to the peer's end.
    fn close(&mut self) -> Result<(), Stop> {
        socket::shutdown(self.fd.as_raw_fd(), Shutdown::Write).map_err(Stop::errno("shutdown"))?;
        self.read_to_end()
    }

    /// Reads to the peer's end.
    fn read_to_end(&mut self) -> Result<(), Stop> {
        loop {
            if wait(&self.fd, PollFlags::POLLIN, Instant::now() + self.timeout + GRACE)?.is_none() {
                return Err(Stop::new("timeout", "the peer did not close"));
            }
            if self.receive(CHUNK)? == Some(0) {
                return Ok(());
            }
        }
    }

    /// Waits until the peer has acknowledged everything, so that a reset or a kill that follows
    /// takes nothing back.
    fn flush(&mut self) -> Result<(), Stop> {
        let deadline = Instant::now() + self.timeout + GRACE;
        loop {
            let mut queued: libc::c_int = 0;
            // SAFETY: TIOCOUTQ (SIOCOUTQ for sockets) writes one int.
            let done = unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut queued) };
            Errno::result(done).map_err(Stop::errno("ioctl SIOCOUTQ"))?;
            if queued == 0 {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Stop::new("timeout", format!("{queued} bytes were not acknowledged")));
            }
            thread::sleep(LOOK);
        }
    }
}
