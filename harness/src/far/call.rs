//! The far side as a client: it comes to an agent that listens.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::mpsc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, UdpSocket},
    time::timeout,
};

use super::Far;

/// How long one call may take in all.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is sent and how much is waited for, in payload bytes.
#[derive(Clone, Copy)]
pub struct Exchange {
    /// To the agent.
    pub send: u64,
    /// From it.
    pub receive: u64,
}

/// A call under way.
pub struct Call(mpsc::Receiver<io::Result<()>>);

impl Call {
    /// Waits for its end, or does not where the agent has `failed` already; what went wrong with it.
    pub fn problem(self, failed: bool) -> Option<String> {
        let done = if failed {
            match self.0.try_recv() {
                Ok(done) => Ok(done),
                Err(mpsc::TryRecvError::Empty) => return None,
                Err(mpsc::TryRecvError::Disconnected) => Err(mpsc::RecvError),
            }
        } else {
            self.0.recv()
        };
        match done {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("its task panicked".to_owned()),
        }
    }
}

impl Far {
    /// Connects from `from` to `to`, sends, reads, and closes.
    pub fn call_tcp(&self, from: IpAddr, to: SocketAddr, exchange: Exchange) -> Call {
        self.call(async move {
            let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.bind(SocketAddr::new(from, 0))?;
            let mut stream = socket.connect(to).await?;
            stream.write_all(&payload(exchange.send)?).await?;
            stream.read_exact(&mut payload(exchange.receive)?).await?;
            stream.shutdown().await?;
            // To the agent's end, so that it is not reset.
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop)
        })
    }

    /// Sends one datagram from `from` to `to`; waits for an answer if it is to be of any length.
    pub fn call_udp(&self, from: IpAddr, to: SocketAddr, exchange: Exchange) -> Call {
        self.call(async move {
            let socket = UdpSocket::bind(SocketAddr::new(from, 0)).await?;
            socket.send_to(&payload(exchange.send)?, to).await?;
            if exchange.receive == 0 {
                return Ok(());
            }
            let mut buffer = vec![0; usize::from(u16::MAX)];
            let (len, _) = socket.recv_from(&mut buffer).await?;
            if len as u64 == exchange.receive {
                return Ok(());
            }
            Err(io::Error::other(format!("the answer has {len} bytes, not {}", exchange.receive)))
        })
    }

    fn call(&self, call: impl Future<Output = io::Result<()>> + Send + 'static) -> Call {
        let (send, receive) = mpsc::channel();
        drop(self.handle.spawn(async move {
            let done = timeout(PATIENCE, call).await;
            drop(send.send(done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))));
        }));
        Call(receive)
    }
}

fn payload(len: u64) -> io::Result<Vec<u8>> {
    Ok(vec![b'c'; usize::try_from(len).map_err(io::Error::other)?])
}
