//! The system calls that send a datagram.

use std::{
    io::IoSlice,
    net::SocketAddr,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, SpliceFFlags, splice},
    sys::socket::{self, MsgFlags, MultiHeaders, SockaddrLike, SockaddrStorage, setsockopt, sockopt},
    unistd::{self, pipe2},
};

use super::Socket;
use crate::{
    actor::{Stop, option, uring::Ring},
    scenario::types::{DatagramProto, Send, SendVia},
};

/// Most messages that one sendmmsg takes (`UIO_MAXIOV`).
const MOST_MESSAGES: usize = 1024;
/// Most datagrams that the kernel cuts one buffer into (`UDP_MAX_SEGMENTS`).
const MOST_SEGMENTS: usize = 64;
/// Longest buffer that it cuts: one IPv4 packet's payload.
const LONGEST: usize = 65_507;

/// What one call did.
pub struct Sent {
    /// Datagrams.
    pub messages: usize,
    /// Payload bytes.
    pub bytes: usize,
}

/// A way to send, with what it needs.
pub enum Call {
    Send,
    Sendto(SocketAddr, MsgFlags),
    Sendmsg(SocketAddr),
    Sendmmsg(SocketAddr),
    Unspec(SocketAddr),
    Ring(Ring, SocketAddr),
    RingZerocopy(Ring, SocketAddr),
    Gso(SocketAddr),
    Splice(OwnedFd, OwnedFd),
    Cork(SocketAddr, SocketAddr),
}

impl Call {
    /// Sets the socket up for it: options, and `connect()` where it is connected.
    pub fn new(send: &Send, socket: &Socket, dst: SocketAddr) -> Result<Self, Stop> {
        let other = || -> Result<Option<SocketAddr>, Stop> {
            let Some(text) = &send.other else { return Ok(None) };
            let parsed = text.parse().map(Some);
            parsed.map_err(|_| Stop::new("EINVAL", format!("`{text}` is not address:port")))
        };
        // DCCP sends to its peer alone.
        if send.proto == DatagramProto::Dccp {
            socket.connect(dst)?;
            return Ok(Self::Send);
        }
        Ok(match send.via {
            SendVia::Sendto | SendVia::RoutingHeader => Self::Sendto(dst, MsgFlags::empty()),
            SendVia::Sendmsg => Self::Sendmsg(dst),
            SendVia::Sendmmsg => Self::Sendmmsg(dst),
            SendVia::Connected => {
                socket.connect(dst)?;
                Self::Send
            }
            SendVia::ConnectedOther => {
                let other = other()?.ok_or_else(|| {
                    Stop::new("EINVAL", "`via: connected_other` needs an `other` to connect to")
                })?;
                socket.connect(other)?;
                Self::Sendto(dst, MsgFlags::empty())
            }
            SendVia::Unspec => {
                if let Some(other) = other()? {
                    socket.connect(other)?;
                }
                Self::Unspec(dst)
            }
            SendVia::IoUring => Self::Ring(Ring::new(false)?, dst),
            SendVia::IoUringSqpoll => Self::Ring(Ring::new(true)?, dst),
            SendVia::IoUringZerocopy => Self::RingZerocopy(Ring::new(false)?, dst),
            SendVia::Zerocopy => {
                option::zerocopy(&socket.0)?;
                Self::Sendto(dst, option::ZEROCOPY)
            }
            SendVia::Gso => {
                let size = i32::try_from(send.bytes)
                    .map_err(|_| Stop::new("EMSGSIZE", "a segment of this size does not exist"))?;
                setsockopt(&socket.0, sockopt::UdpGsoSegment, &size)
                    .map_err(Stop::errno("setsockopt UDP_SEGMENT"))?;
                Self::Gso(dst)
            }
            SendVia::Splice => {
                socket.connect(dst)?;
                let (read, write) =
                    pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(Stop::errno("pipe2"))?;
                Self::Splice(read, write)
            }
            SendVia::Cork => Self::Cork(dst, other()?.unwrap_or(dst)),
        })
    }

    /// How many of `left` datagrams of `len` bytes go with the next call.
    pub fn at_once(&self, left: usize, len: usize) -> usize {
        match self {
            Self::Sendmmsg(_) => left.min(MOST_MESSAGES),
            Self::Gso(_) => left.min(MOST_SEGMENTS).min((LONGEST / len.max(1)).max(1)),
            _ => 1,
        }
    }

    /// One call for `many` datagrams of `data`.
    pub fn send(&mut self, socket: &Socket, data: &[u8], many: usize) -> Result<Sent, Stop> {
        let one = |result: nix::Result<usize>, call: &str| {
            result.map(|bytes| Sent { messages: 1, bytes }).map_err(Stop::errno(call))
        };
        match self {
            Self::Send => one(socket.send(data), "send"),
            Self::Sendto(dst, flags) => one(socket.send_to(data, *dst, *flags), "sendto"),
            Self::Sendmsg(dst) => one(message(socket, data, *dst), "sendmsg"),
            Self::Sendmmsg(dst) => {
                let messages = messages(socket, data, many, *dst).map_err(Stop::errno("sendmmsg"))?;
                Ok(Sent { messages, bytes: messages * data.len() })
            }
            Self::Unspec(dst) => one(unspec(socket, data, *dst), "sendto AF_UNSPEC"),
            Self::Ring(ring, dst) => one(ring.send_message(&socket.0, data, *dst), "io_uring sendmsg"),
            Self::RingZerocopy(ring, dst) => {
                one(ring.send_zerocopy(&socket.0, data, *dst), "io_uring zero-copy send")
            }
            Self::Gso(dst) => {
                let bytes = socket
                    .send_to(&data.repeat(many), *dst, MsgFlags::empty())
                    .map_err(Stop::errno("sendto with UDP_SEGMENT"))?;
                Ok(Sent { messages: many, bytes })
            }
            Self::Splice(read, write) => {
                unistd::write(write, data).map_err(Stop::errno("write to the pipe"))?;
                let moved = splice(read, None, &socket.0, None, data.len(), SpliceFFlags::empty());
                one(moved, "splice")
            }
            Self::Cork(dst, then) => {
                let (head, tail) = data.split_at(data.len() / 2);
                let first =
                    socket.send_to(head, *dst, option::MORE).map_err(Stop::errno("sendto MSG_MORE"))?;
                one(socket.send_to(tail, *then, MsgFlags::empty()).map(|second| first + second), "sendto")
            }
        }
    }
}

fn message(socket: &Socket, data: &[u8], peer: SocketAddr) -> nix::Result<usize> {
    let peer = SockaddrStorage::from(peer);
    socket::sendmsg(socket.0.as_raw_fd(), &[IoSlice::new(data)], &[], MsgFlags::empty(), Some(&peer))
}

/// `count` messages in one call; how many the kernel took.
fn messages(socket: &Socket, data: &[u8], count: usize, peer: SocketAddr) -> nix::Result<usize> {
    let slices = vec![[IoSlice::new(data)]; count];
    let peers = vec![Some(SockaddrStorage::from(peer)); count];
    let mut headers = MultiHeaders::preallocate(count, None);
    let sent = socket::sendmmsg(socket.0.as_raw_fd(), &mut headers, &slices, &peers, [], MsgFlags::empty())?;
    Ok(sent.count())
}

/// `sendto()` to an address that does not say its family. IPv4 takes it as its own; IPv6 sends to
/// the connected peer.
fn unspec(socket: &Socket, data: &[u8], peer: SocketAddr) -> nix::Result<usize> {
    let peer = SockaddrStorage::from(peer);
    let mut bytes = [0_u8; size_of::<libc::sockaddr_storage>()];
    let len = (peer.len() as usize).min(bytes.len());
    // SAFETY: a sockaddr is readable for its own length, and `bytes` has room for it.
    unsafe { std::ptr::copy_nonoverlapping(peer.as_ptr().cast(), bytes.as_mut_ptr(), len) };
    bytes[..2].copy_from_slice(&(libc::AF_UNSPEC as libc::sa_family_t).to_ne_bytes());
    // SAFETY: data and address are readable for their lengths.
    let sent = unsafe {
        libc::sendto(
            socket.0.as_raw_fd(),
            data.as_ptr().cast(),
            data.len(),
            0,
            bytes.as_ptr().cast(),
            len as libc::socklen_t,
        )
    };
    Errno::result(sent).map(isize::unsigned_abs)
}
