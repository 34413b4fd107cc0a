//! TCP servers, one task a connection.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
};

use super::tally::{Id, L4, Tally};
use crate::scenario::types::{Reply, Serve};

/// Read and write size.
const CHUNK: usize = 64 * 1024;

/// Listens on `local`.
pub async fn start(local: SocketAddr, serve: &Serve, tally: &Arc<Tally>) -> io::Result<()> {
    let (reply, bytes) = (serve.reply, serve.bytes);
    accept(local, tally, move |stream| answer(stream, reply, bytes)).await
}

/// Listens on `local` and gives each connection to `handle`.
pub async fn accept<F, T>(local: SocketAddr, tally: &Arc<Tally>, handle: F) -> io::Result<()>
where
    F: Fn(Counted) -> T + Send + 'static,
    T: Future<Output = io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind(local).await?;
    let tally = Arc::clone(tally);
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let id = tally.open(L4::Tcp, local, peer);
                    // How a connection ends is the agent's doing, and judged elsewhere.
                    tokio::spawn(handle(Counted { stream, id, tally: Arc::clone(&tally) }));
                }
                // The peer was gone before it was accepted, or descriptors ran out: go on.
                Err(error) => {
                    tracing::warn!(%local, %error, "accept failed");
                    tokio::task::yield_now().await;
                }
            }
        }
    });
    Ok(())
}

async fn answer(mut stream: Counted, reply: Reply, bytes: u64) -> io::Result<()> {
    match reply {
        Reply::Echo => {
            let mut buffer = vec![0; CHUNK];
            loop {
                let len = stream.read(&mut buffer).await?;
                if len == 0 {
                    return stream.shutdown().await;
                }
                stream.write_all(&buffer[..len]).await?;
            }
        }
        Reply::Sink => drain(&mut stream).await,
        Reply::Source => {
            let (mut reader, mut writer) = tokio::io::split(stream);
            let (sent, read) = tokio::join!(pour(&mut writer, bytes), drain(&mut reader));
            sent.and(read)
        }
        Reply::Reset => {
            let mut buffer = vec![0; CHUNK];
            let _ = stream.read(&mut buffer).await?;
            stream.stream.set_zero_linger()
        }
        Reply::Hold => std::future::pending().await,
        Reply::Close => pour(&mut stream, bytes).await,
    }
}

async fn drain(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    while reader.read(&mut buffer).await? > 0 {}
    Ok(())
}

async fn pour(writer: &mut (impl AsyncWrite + Unpin), bytes: u64) -> io::Result<()> {
    let chunk = vec![b's'; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let len = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        writer.write_all(&chunk[..len]).await?;
        left -= len as u64;
    }
    Ok(())
}

/// A connection that tells the tally what passes through it.
pub struct Counted {
    stream: TcpStream,
    id: Id,
    tally: Arc<Tally>,
}

impl Counted {
    /// The first byte that waits, which stays where it is; `None` if the peer ended before one.
    pub async fn first(&self) -> io::Result<Option<u8>> {
        let mut first = [0];
        let count = self.stream.peek(&mut first).await?;
        Ok(first.first().copied().filter(|_| count > 0))
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.tally.add(self.id, buf.filled().len() - before, 0);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let len = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.tally.add(self.id, 0, len);
        Poll::Ready(Ok(len))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
