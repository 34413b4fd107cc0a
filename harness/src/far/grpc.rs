//! gRPC servers, in the clear or over TLS, whichever comes: they send a call's message back.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc};

use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Frame, Incoming},
    header::HeaderValue,
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::{
    certificate,
    tally::Tally,
    tcp::{self, Counted},
};
use crate::scenario::types::Serve;

/// First byte of a TLS handshake; HTTP/2 in the clear begins with a letter.
const HANDSHAKE: u8 = 22;

/// Serves on `local`, as the host `name`.
pub async fn start(local: SocketAddr, serve: &Serve, name: &str, tally: &Arc<Tally>) -> io::Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(certificate::config(name, &[b"h2"])?));
    let status = serve.grpc_status;
    let handle = move |stream: Counted| {
        let acceptor = acceptor.clone();
        async move {
            if stream.first().await? == Some(HANDSHAKE) {
                converse(acceptor.accept(stream).await?, status).await
            } else {
                converse(stream, status).await
            }
        }
    };
    tcp::accept(local, tally, handle).await
}

async fn converse<S>(stream: S, status: u8) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| async move {
        // A broken call ends by itself.
        let message = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        Ok::<_, Infallible>(answer(message, status))
    });
    let served = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
    served.await.map_err(io::Error::other)
}

/// The message, and the status in the trailers; of a failure there is no message, and the status is a header.
fn answer(message: Bytes, status: u8) -> Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>> {
    let number = HeaderValue::from(u16::from(status));
    let mut frames = Vec::new();
    if status == 0 {
        let trailers = [("grpc-status".parse(), number.clone())];
        let trailers = trailers.into_iter().filter_map(|(name, value)| Some((name.ok()?, value))).collect();
        frames = vec![Ok(Frame::data(message)), Ok(Frame::trailers(trailers))];
    }
    let mut response = Response::new(StreamBody::new(stream::iter(frames)));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    if status != 0 {
        response.headers_mut().insert("grpc-status", number);
    }
    response
}
