//! One TCP connection.

use std::{
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        self, AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, SockaddrStorage, getsockopt, setsockopt,
        sockopt,
    },
};

use super::{Report, Stop, destination, payload, udp::local};
use crate::scenario::types::{Connect, ConnectVia, End};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// The kernel's own time-out must strike first: its errno says more than ours.
const GRACE: Duration = Duration::from_secs(2);
const CHUNK: usize = 64 * 1024;
/// Between two looks at the send queue, which nothing announces.
const LOOK: Duration = Duration::from_micros(200);

/// Connects, exchanges, and ends as `action` says.
pub fn run(action: &Connect, report: &mut Report) -> Result<(), Stop> {
    let dst = destination(&action.to, None, report)?;
    let timeout = action.timeout.unwrap_or(DEFAULT_TIMEOUT);
    let fd = connect(dst, action.via, timeout, report)?;
    let mut stream = Stream { fd, timeout, report };
    stream.exchange(action.send, action.receive)?;
    if let Some(pause) = action.pause {
        thread::sleep(pause);
    }
    stream.exchange(action.send_after, 0)?;
    match action.end {
        End::Close => {
            socket::shutdown(stream.fd.as_raw_fd(), Shutdown::Write).map_err(Stop::errno("shutdown"))?;
            stream.read_to_end()
        }
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

fn connect(
    dst: SocketAddr,
    via: ConnectVia,
    timeout: Duration,
    report: &mut Report,
) -> Result<OwnedFd, Stop> {
    let family = if dst.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = match via {
        ConnectVia::Connect => SockFlag::SOCK_CLOEXEC,
        ConnectVia::Nonblock => SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
    };
    let fd = socket::socket(family, SockType::Stream, flags, None).map_err(Stop::errno("socket"))?;
    let milliseconds = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    setsockopt(&fd, sockopt::TcpUserTimeout, &milliseconds)
        .map_err(Stop::errno("setsockopt TCP_USER_TIMEOUT"))?;
    let result = match socket::connect(fd.as_raw_fd(), &SockaddrStorage::from(dst)) {
        Err(Errno::EINPROGRESS) => wait_connected(&fd, timeout),
        other => other.map_err(Stop::errno("connect")),
    };
    report.src = local(&fd);
    result.map(|()| fd)
}

fn wait_connected(fd: &OwnedFd, timeout: Duration) -> Result<(), Stop> {
    if wait(fd, PollFlags::POLLOUT, Instant::now() + timeout + GRACE)?.is_none() {
        return Err(Stop::new("timeout", "the connection neither came about nor failed"));
    }
    match getsockopt(fd, sockopt::SocketError).map_err(Stop::errno("getsockopt SO_ERROR"))? {
        0 => Ok(()),
        errno => Err(Stop::errno("connect")(Errno::from_raw(errno))),
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

struct Stream<'a> {
    fd: OwnedFd,
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
        match socket::send(self.fd.as_raw_fd(), data, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
            Ok(len) => {
                self.report.sent += len as u64;
                Ok(len as u64)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(errno) => Err(Stop::errno("send")(errno)),
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
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(errno) => Err(Stop::errno("recv")(errno)),
        }
    }

    /// Reads to the peer's end.
    fn read_to_end(&mut self) -> Result<(), Stop> {
        loop {
            if wait(&self.fd, PollFlags::POLLIN, Instant::now() + self.timeout)?.is_none() {
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
