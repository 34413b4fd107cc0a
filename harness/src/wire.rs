//! What arrived at the far side: an AF_PACKET capture on the far end of every veth.
//!
//! It sees what left the agents after every hook, so it is the witness that the chain under test
//! cannot influence. It must not know rules, documents or hosts: it counts packets and bytes.
//!
//! A packet is what the veth handed over: with segmentation offload, one TCP packet can carry up
//! to 64 KiB. Bytes are exact either way.

mod captures;
mod frames;
mod packet;
mod stream;
mod summary;

use std::{
    io::{self, IoSliceMut, Read},
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use nix::{
    cmsg_space,
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{self, ControlMessageOwned, LinkAddr, MsgFlags, recvmsg, sockopt},
        time::TimeSpec,
    },
};
use serde::Serialize;

pub use captures::{Captures, Keep};
pub use frames::Frames;

use crate::event::WireCount;
use summary::Ledger;
pub(crate) use summary::PROTOCOLS;

/// Room for packets that arrive between two rounds of the capture thread, bytes.
const SOCKET_BUFFER: usize = 64 << 20;
/// Time between two rounds, ms. Waking for every packet would slow down what is measured.
const ROUND_MS: u8 = 20;
/// The longest packet that a veth hands over: 64 KiB of IP and the Ethernet header.
const LONGEST: usize = 128 << 10;

/// Both directions of one TCP connection, in payload bytes, each counted once. A byte that arrived
/// and was never acknowledged (a reset came first) was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TcpConnection {
    /// The agent's address and port.
    pub agent: SocketAddr,
    /// The far side's.
    pub far: SocketAddr,
    /// From the agent, acknowledged or not.
    pub arrived: u64,
    /// From the agent, acknowledged by the far side.
    pub bytes_out: u64,
    /// To the agent, acknowledged by it.
    pub bytes_in: u64,
}

/// Everything captured up to a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WireSummary {
    /// What came from the agents, by destination, in order of first appearance. ARP, neighbour discovery,
    /// reports of groups that kernels join by themselves, resets without payload, and the kernel's ICMP errors about
    /// datagrams that the far side sent are left out.
    pub counts: Vec<WireCount>,
    /// TCP connections, in order of first appearance.
    pub connections: Vec<TcpConnection>,
    /// Agent and far end of every UDP flow that agents sent, in order of first appearance.
    pub datagrams: Vec<(SocketAddr, SocketAddr)>,
    /// Packets that the kernel could not hand to the capture; anything but 0 makes the rest a lower
    /// bound, and is a failure of the environment.
    pub kernel_drops: u64,
}

/// A running capture. Dropping it ends it.
pub struct Wire {
    capture: Arc<Mutex<Capture>>,
    stop: Option<io::PipeWriter>,
    thread: Option<thread::JoinHandle<()>>,
}

struct Capture {
    sockets: Vec<OwnedFd>,
    ledger: Ledger,
    frames: Frames,
    drops: u64,
    buffer: Vec<u8>,
}

/// Opens a capture socket on link number `link` of the calling thread's namespace.
pub(crate) fn capture_socket(link: u32) -> io::Result<OwnedFd> {
    // Protocol 0 receives nothing, so that no packet of another link slips in before the bind.
    // SAFETY: a plain system call without pointers.
    let raw = unsafe {
        libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0)
    };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `raw` was just opened and belongs to nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    socket::setsockopt(&fd, sockopt::RcvBufForce, &SOCKET_BUFFER)?;
    // The socket is read in rounds; the kernel knows when each packet came.
    socket::setsockopt(&fd, sockopt::ReceiveTimestampns, &true)?;
    // SAFETY: all zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = i32::try_from(link).map_err(io::Error::other)?;
    // SAFETY: `address` is a sockaddr_ll of the length given, and lives through the call.
    let bound = unsafe {
        libc::bind(
            fd.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if bound < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(fd)
}

impl Wire {
    /// Captures from `sockets` until dropped.
    pub(crate) fn start(sockets: Vec<OwnedFd>) -> io::Result<Self> {
        let (mut stopped, stop) = io::pipe()?;
        let capture = Arc::new(Mutex::new(Capture {
            sockets,
            ledger: Ledger::default(),
            frames: Frames::default(),
            drops: 0,
            buffer: vec![0; LONGEST],
        }));
        let shared = Arc::clone(&capture);
        let thread = thread::Builder::new().name("wire".to_owned()).spawn(move || {
            loop {
                let mut fds = [PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
                if poll(&mut fds, PollTimeout::from(ROUND_MS)).is_ok_and(|ready| ready > 0) {
                    // The writer is gone: end of file.
                    let _ = stopped.read(&mut [0]);
                    return;
                }
                shared.lock().unwrap_or_else(PoisonError::into_inner).drain();
            }
        })?;
        Ok(Self { capture, stop: Some(stop), thread: Some(thread) })
    }

    /// What was captured; whatever was in a socket when this was called is included.
    pub(crate) fn summary(&self) -> WireSummary {
        let mut capture = self.capture.lock().unwrap_or_else(PoisonError::into_inner);
        capture.drain();
        let (counts, connections) = capture.ledger.summary();
        let datagrams = capture.ledger.datagrams();
        WireSummary { counts, connections, datagrams, kernel_drops: capture.drops }
    }

    /// Takes the frames captured up to now.
    pub(crate) fn frames(&self) -> Frames {
        let mut capture = self.capture.lock().unwrap_or_else(PoisonError::into_inner);
        capture.drain();
        std::mem::take(&mut capture.frames)
    }
}

impl Wire {
    /// Forgets what was captured up to now. What it lost stays counted.
    pub(crate) fn forget(&self) {
        let mut capture = self.capture.lock().unwrap_or_else(PoisonError::into_inner);
        capture.drain();
        capture.ledger = Ledger::default();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Capture {
    /// Reads every socket until it is empty.
    fn drain(&mut self) {
        for socket in &self.sockets {
            while let Some(received) = receive(socket.as_fd(), &mut self.buffer) {
                let frame = &self.buffer[..received.length];
                self.frames.add(received.time, frame);
                if let Some(packet) = packet::parse(frame) {
                    if received.outgoing {
                        self.ledger.count_inbound(&packet)
                    } else {
                        self.ledger.count_outbound(&packet)
                    }
                }
            }
            self.drops += drops_since_last(socket.as_fd());
        }
    }
}

/// One packet in the buffer.
struct Received {
    length: usize,
    /// Since 1970.
    time: Duration,
    /// The far side sent it.
    outgoing: bool,
}

/// One packet into `buffer`. `None` when there is no more.
fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Option<Received> {
    loop {
        let mut control = cmsg_space!(TimeSpec);
        let mut parts = [IoSliceMut::new(buffer)];
        match recvmsg::<LinkAddr>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT)
        {
            Ok(message) => {
                let time = message.cmsgs().into_iter().flatten().find_map(|control| match control {
                    ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
                    _ => None,
                });
                return Some(Received {
                    length: message.bytes,
                    time: time.unwrap_or_default(),
                    outgoing: message.address.is_some_and(|from| from.pkttype() == libc::PACKET_OUTGOING),
                });
            }
            // A link that went down is reported once, and packets before it are still there.
            Err(Errno::EINTR | Errno::ENETDOWN) => {}
            Err(_) => return None,
        }
    }
}

/// Packets dropped since this was last asked: the kernel resets its counter on each read.
fn drops_since_last(socket: BorrowedFd<'_>) -> u64 {
    // SAFETY: all zero is a valid tpacket_stats.
    let mut stats: libc::tpacket_stats = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    // SAFETY: `stats` is writable for `len` bytes.
    let got = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut stats).cast(),
            &raw mut len,
        )
    };
    if got == 0 { u64::from(stats.tp_drops) } else { 0 }
}
