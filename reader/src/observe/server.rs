//! GET /metrics, /healthz and /containers over HTTP/1.1.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore, time::sleep};

use super::Pages;

/// Most connections served at once; more wait in the kernel's backlog.
const CONNECTIONS: usize = 32;
/// Longest time for a request to arrive.
const READ: Duration = Duration::from_secs(5);
/// After an error to accept, such as too many open files.
const RETRY: Duration = Duration::from_millis(200);

/// Serves the pages until it is cancelled.
pub async fn serve(listener: TcpListener, pages: Pages) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(event = "accept_failed", %error);
                sleep(RETRY).await;
                continue;
            }
        };
        let pages = pages.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = answer(&request, &pages);
                async move { Ok::<_, Infallible>(response) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(READ)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(event = "page_not_served", %error);
            }
            drop(slot);
        });
    }
}

fn answer(request: &Request<Incoming>, pages: &Pages) -> Response<Full<Bytes>> {
    let (status, kind, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => {
            (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", pages.metrics())
        }
        (&Method::GET, "/healthz") => {
            let (ok, text) = pages.health();
            (if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, "application/json", text)
        }
        (&Method::GET, "/containers") => match pages.containers() {
            Some(text) => (StatusCode::OK, "application/json", text),
            None => (
                StatusCode::NOT_FOUND,
                "text/plain",
                "no container runtime is asked; see --docker\n".to_owned(),
            ),
        },
        (&Method::GET, _) => {
            (StatusCode::NOT_FOUND, "text/plain", "/metrics, /healthz or /containers\n".to_owned())
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET only\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
