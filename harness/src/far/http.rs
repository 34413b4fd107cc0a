//! HTTP/1.1 servers, in the clear or over TLS.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc};

use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::{certificate, tally::Tally, tcp};
use crate::scenario::types::Serve;

/// Serves on `local`; with a `name`, over TLS with a self-signed certificate for it.
pub async fn start(
    local: SocketAddr,
    serve: &Serve,
    name: Option<&str>,
    tally: &Arc<Tally>,
) -> io::Result<()> {
    let status = StatusCode::from_u16(serve.status.unwrap_or(200)).map_err(io::Error::other)?;
    let length = usize::try_from(serve.bytes).map_err(io::Error::other)?;
    let body = Bytes::from(vec![b's'; length]);
    match name {
        None => tcp::accept(local, tally, move |stream| converse(stream, status, body.clone())).await,
        Some(name) => {
            let acceptor = TlsAcceptor::from(Arc::new(certificate::config(name, &[])?));
            let handle = move |stream| {
                let (acceptor, body) = (acceptor.clone(), body.clone());
                async move { converse(acceptor.accept(stream).await?, status, body).await }
            };
            tcp::accept(local, tally, handle).await
        }
    }
}

/// Answers every request on one connection with `status` and `body`, after reading it whole.
async fn converse<S>(stream: S, status: StatusCode, body: Bytes) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let body = body.clone();
        async move {
            // A broken request body ends the connection by itself.
            let _ = request.into_body().collect().await;
            let mut response = Response::new(Full::new(body));
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        }
    });
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.map_err(io::Error::other)
}
