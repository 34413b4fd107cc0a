//! System calls by way of an io_uring.

use std::{
    io::IoSlice,
    net::SocketAddr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use nix::{
    errno::Errno,
    sys::socket::{SockaddrLike, SockaddrStorage},
};

use super::Stop;

/// Entries of the submission queue; one is in use at a time.
const ENTRIES: u32 = 4;
/// How long the kernel's polling thread spins before it sleeps, ms.
const SQPOLL_IDLE_MS: u32 = 50;

/// A ring that makes one call at a time.
pub struct Ring(Box<IoUring>);

impl Ring {
    /// A new ring; with `sqpoll`, a kernel thread takes the calls.
    pub fn new(sqpoll: bool) -> Result<Self, Stop> {
        let mut builder = IoUring::builder();
        if sqpoll {
            builder.setup_sqpoll(SQPOLL_IDLE_MS);
        }
        builder.build(ENTRIES).map(|ring| Self(Box::new(ring))).map_err(|error| {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
            Stop::errno("io_uring_setup")(errno)
        })
    }

    /// `socket()`, of the default protocol; since Linux 5.19.
    pub fn socket(&mut self, family: i32, kind: i32) -> nix::Result<OwnedFd> {
        // SAFETY: a call without memory.
        let raw = unsafe { self.call(&opcode::Socket::new(family, kind, 0).build()) }?;
        let raw = i32::try_from(raw).map_err(|_| Errno::EBADF)?;
        // SAFETY: the kernel has just opened it for this process, and nobody else has it.
        Ok(unsafe { OwnedFd::from_raw_fd(raw) })
    }

    /// `connect()`, waiting for its end.
    pub fn connect(&mut self, fd: &OwnedFd, peer: SocketAddr) -> nix::Result<()> {
        let peer = SockaddrStorage::from(peer);
        let entry = opcode::Connect::new(types::Fd(fd.as_raw_fd()), peer.as_ptr(), peer.len()).build();
        // SAFETY: `peer` lives until the call has ended.
        unsafe { self.call(&entry) }.map(drop)
    }

    /// `send()`.
    pub fn send(&mut self, fd: &OwnedFd, data: &[u8]) -> nix::Result<usize> {
        let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(types::Fd(fd.as_raw_fd()), data.as_ptr(), len)
            .flags(libc::MSG_NOSIGNAL)
            .build();
        // SAFETY: `data` lives until the call has ended.
        unsafe { self.call(&entry) }
    }

    /// `sendmsg()` with an address.
    pub fn send_message(&mut self, fd: &OwnedFd, data: &[u8], peer: SocketAddr) -> nix::Result<usize> {
        let peer = SockaddrStorage::from(peer);
        let slices = [IoSlice::new(data)];
        // SAFETY: all zero is a valid msghdr.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = peer.as_ptr().cast_mut().cast();
        message.msg_namelen = peer.len();
        message.msg_iov = slices.as_ptr().cast_mut().cast();
        message.msg_iovlen = 1;
        let entry = opcode::SendMsg::new(types::Fd(fd.as_raw_fd()), &raw const message).build();
        // SAFETY: the message and what it points to live until the call has ended.
        unsafe { self.call(&entry) }
    }

    /// Zero-copy send with an address.
    pub fn send_zerocopy(&mut self, fd: &OwnedFd, data: &[u8], peer: SocketAddr) -> nix::Result<usize> {
        let peer = SockaddrStorage::from(peer);
        let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let entry = opcode::SendZc::new(types::Fd(fd.as_raw_fd()), data.as_ptr(), len)
            .dest_addr(peer.as_ptr())
            .dest_addr_len(peer.len())
            .build();
        // SAFETY: data and address live until the kernel has given the buffer back.
        unsafe { self.call(&entry) }
    }

    /// Makes one call and waits until the kernel is done with its memory.
    ///
    /// # Safety
    /// What `entry` points to must live until this returns.
    unsafe fn call(&mut self, entry: &squeue::Entry) -> nix::Result<usize> {
        // SAFETY: the caller's promise.
        unsafe { self.0.submission().push(entry) }.map_err(|_| Errno::EBUSY)?;
        let mut result = None;
        loop {
            match self.0.submit_and_wait(1) {
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => continue,
                Err(error) => return Err(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))),
                Ok(_) => {}
            }
            let mut more = false;
            for done in self.0.completion() {
                // A zero-copy send completes twice: with its result, and when the buffer is free.
                result.get_or_insert(done.result());
                more = cqueue::more(done.flags());
            }
            if let Some(value) = result.filter(|_| !more) {
                return usize::try_from(value).map_err(|_| Errno::from_raw(-value));
            }
        }
    }
}
