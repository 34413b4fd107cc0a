//! One gRPC call, written out: a message each way over HTTP/2, and the status in the trailers.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Full};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    runtime,
    time::timeout,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use super::{
    Report, Stop, destination, payload,
    quic::{broken, certificate},
};
use crate::scenario::types::Grpc;

/// How long a call may take in all.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// Calls, and reads the answer to its end. Any status but 0 is an error.
pub fn run(grpc: &Grpc, report: &mut Report) -> Result<(), Stop> {
    let dst = destination(&grpc.to, Some(grpc.family), report)?;
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().map_err(Stop::io("start a runtime"))?;
    runtime.block_on(async {
        let done = timeout(PATIENCE, connected(grpc, dst, report)).await;
        done.unwrap_or_else(|_| Err(Stop::new("timeout", format!("not done after {PATIENCE:?}"))))
    })
}

async fn connected(grpc: &Grpc, dst: SocketAddr, report: &mut Report) -> Result<(), Stop> {
    let stream = TcpStream::connect(dst).await.map_err(Stop::io("connect"))?;
    report.src = stream.local_addr().ok();
    if !grpc.tls {
        return call(grpc, stream, report).await;
    }
    let mut tls = certificate::config().map_err(|error| broken("set TLS up", &error))?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let name = grpc.to.rsplit_once(':').map_or(grpc.to.as_str(), |(name, _)| name).trim_matches(['[', ']']);
    let name = ServerName::try_from(name.to_owned()).map_err(|error| broken("name the server", &error))?;
    let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await;
    call(grpc, stream.map_err(Stop::io("TLS handshake"))?, report).await
}

async fn call(
    grpc: &Grpc,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    report: &mut Report,
) -> Result<(), Stop> {
    let (mut requests, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|error| failed("start HTTP/2", &error))?;
    let driver = tokio::spawn(connection);
    let scheme = if grpc.tls { "https" } else { "http" };
    let message = usize::try_from(grpc.bytes)
        .ok()
        .and_then(message)
        .ok_or_else(|| Stop::new("EMSGSIZE", "bytes does not fit in a message"))?;
    let request = Request::post(format!("{scheme}://{}{}", grpc.to, grpc.path))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(message))
        .map_err(|error| broken("write the request", &error))?;
    let answer = requests.send_request(request).await.map_err(|error| failed("call", &error))?;
    report.sent = grpc.bytes;
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map_err(|error| failed("read the answer", &error))?;
    if head.status != StatusCode::OK {
        return Err(Stop::new("EPROTO", format!("the answer is {}", head.status)));
    }
    // Where there is no message, the status is among the headers.
    let status = body.trailers().and_then(|trailers| trailers.get("grpc-status"));
    let status = status.or_else(|| head.headers.get("grpc-status")).cloned();
    report.received = body.to_bytes().len().saturating_sub(PREFIX) as u64;
    drop(requests);
    // The call is over, and how the connection ends is the peer's.
    let _ = driver.await;
    match status.as_ref().and_then(|status| status.to_str().ok()) {
        Some("0") => Ok(()),
        Some(status) => Err(Stop::new("EPROTO", format!("the status is {status}"))),
        None => Err(Stop::new("EPROTO", "the answer has no status")),
    }
}

fn message(len: usize) -> Option<Bytes> {
    let mut message = vec![0];
    message.extend_from_slice(&u32::try_from(len).ok()?.to_be_bytes());
    message.extend_from_slice(&payload(len));
    Some(message.into())
}

/// The system's word where there is one.
fn failed(what: &'static str, error: &hyper::Error) -> Stop {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && let Some(errno) = io.raw_os_error()
        {
            return Stop::io(what)(io::Error::from_raw_os_error(errno));
        }
        cause = error.source();
    }
    broken(what, error)
}
