//! QUIC servers: one that echoes every stream, and one of HTTP/3.

use std::{io, net::SocketAddr, sync::Arc};

use hyper::{
    Response, StatusCode,
    body::{Buf, Bytes},
};
use quinn::{Connection, Endpoint, ServerConfig, crypto::rustls::QuicServerConfig};
use tokio::io::AsyncWriteExt;

use super::{
    certificate,
    tally::{L4, Tally},
};
use crate::scenario::types::Serve;

/// Echoes every stream on `local`, as the host `name`.
pub fn start_echo(local: SocketAddr, name: &str, tally: &Arc<Tally>) -> io::Result<()> {
    accept(local, name, b"echo", tally, echo)
}

/// Serves HTTP/3 on `local`, as the host `name`: a body is sent back as it comes, and then
/// `serve.bytes`.
pub fn start_http3(local: SocketAddr, name: &str, serve: &Serve, tally: &Arc<Tally>) -> io::Result<()> {
    let status = StatusCode::from_u16(serve.status.unwrap_or(200)).map_err(io::Error::other)?;
    let length = usize::try_from(serve.bytes).map_err(io::Error::other)?;
    let body = Bytes::from(vec![b's'; length]);
    accept(local, name, b"h3", tally, move |connection| http3(connection, status, body.clone()))
}

/// Gives each connection to `handle`, and tells the tally of it when it has ended.
fn accept<F, T>(
    local: SocketAddr,
    name: &str,
    protocol: &[u8],
    tally: &Arc<Tally>,
    handle: F,
) -> io::Result<()>
where
    F: Fn(Connection) -> T + Send + 'static,
    T: Future<Output = io::Result<()>> + Send + 'static,
{
    let tls =
        QuicServerConfig::try_from(certificate::config(name, &[protocol])?).map_err(io::Error::other)?;
    let endpoint = Endpoint::server(ServerConfig::with_crypto(Arc::new(tls)), local)?;
    let tally = Arc::clone(tally);
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let peer = incoming.remote_address();
            let id = tally.open(L4::Udp, local, peer);
            // A handshake that fails is the agent's doing, and judged elsewhere.
            let Ok(connecting) = incoming.accept() else { continue };
            let tally = Arc::clone(&tally);
            let Ok(connection) = connecting.await else { continue };
            let handled = handle(connection.clone());
            tokio::spawn(async move {
                let _ = handled.await;
                connection.closed().await;
                let stats = connection.stats();
                let bytes = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
                tally.add(id, bytes(stats.udp_rx.bytes), bytes(stats.udp_tx.bytes));
            });
        }
    });
    Ok(())
}

async fn echo(connection: Connection) -> io::Result<()> {
    loop {
        let (mut send, mut receive) = connection.accept_bi().await?;
        tokio::spawn(async move {
            tokio::io::copy(&mut receive, &mut send).await?;
            send.shutdown().await
        });
    }
}

async fn http3(connection: Connection, status: StatusCode, body: Bytes) -> io::Result<()> {
    let mut connection =
        h3::server::Connection::new(h3_quinn::Connection::new(connection)).await.map_err(io::Error::other)?;
    while let Some(request) = connection.accept().await.map_err(io::Error::other)? {
        let body = body.clone();
        tokio::spawn(async move {
            let (_, mut stream) = request.resolve_request().await.map_err(io::Error::other)?;
            let mut response = Response::new(());
            *response.status_mut() = status;
            stream.send_response(response).await.map_err(io::Error::other)?;
            while let Some(mut chunk) = stream.recv_data().await.map_err(io::Error::other)? {
                let chunk = chunk.copy_to_bytes(chunk.remaining());
                stream.send_data(chunk).await.map_err(io::Error::other)?;
            }
            if !body.is_empty() {
                stream.send_data(body).await.map_err(io::Error::other)?;
            }
            stream.finish().await.map_err(io::Error::other)
        });
    }
    Ok(())
}
