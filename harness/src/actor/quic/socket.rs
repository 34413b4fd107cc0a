//! The socket of a QUIC endpoint: it tells of the first error, and then sends nothing more.

use std::{
    io::{self, IoSliceMut},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use nix::errno::Errno;
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit, UdpSocketState},
};
use tokio::{io::Interest, sync::Notify};

/// An unconnected UDP socket.
#[derive(Debug)]
pub struct Socket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    error: OnceLock<Errno>,
    failed: Notify,
}

impl Socket {
    /// A socket that may send to `dst`; within a runtime.
    pub fn bind(dst: SocketAddr) -> io::Result<Self> {
        let any = match dst {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = UdpSocket::bind(any)?;
        // It makes the socket non-blocking, too.
        let state = UdpSocketState::new((&socket).into())?;
        let io = tokio::net::UdpSocket::from_std(socket)?;
        Ok(Self { io, state, error: OnceLock::new(), failed: Notify::new() })
    }

    /// Its own address and port.
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// Waits for the first error of a send.
    pub async fn failed(&self) -> Errno {
        loop {
            // Registered before the look, so that no error comes in between.
            let failed = self.failed.notified();
            if let Some(errno) = self.error.get() {
                return *errno;
            }
            failed.await;
        }
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable(self))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if let Some(errno) = self.error.get() {
            return Err((*errno).into());
        }
        let sent = self.io.try_io(Interest::WRITABLE, || self.state.try_send((&self.io).into(), transmit));
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            // A probe of the path's MTU.
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => Ok(()),
            Err(error) => {
                let _ = self.error.set(Errno::from_raw(error.raw_os_error().unwrap_or_default()));
                self.failed.notify_one();
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_recv_ready(cx))?;
            let read = self.io.try_io(Interest::READABLE, || self.state.recv((&self.io).into(), bufs, meta));
            if let Ok(len) = read {
                return Poll::Ready(Ok(len));
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.local()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

/// Wakes one task when the socket takes more: the one connection that it has.
#[derive(Debug)]
struct Writable(Arc<Socket>);

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.io.poll_send_ready(cx)
    }
}
