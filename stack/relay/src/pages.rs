//! GET /metrics and /healthz over HTTP/1.1. Label values are names of lanes alone.

use std::{
    convert::Infallible,
    fmt::Write as _,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Map, json};
use tokio::{net::TcpListener, sync::Semaphore, time::sleep};

use crate::{forward::State, lane::Lane, store::Counts};

/// Most connections served at once; more wait in the kernel's backlog.
const CONNECTIONS: usize = 16;
/// Longest time for a request to arrive.
const READ: Duration = Duration::from_secs(5);
/// After an error to accept, such as too many open files.
const RETRY: Duration = Duration::from_millis(200);

/// What the pages are made of.
pub type Pages = Arc<[(Lane, Arc<State>)]>;

/// A name, its kind, what it says, and where it is.
type Counted = (&'static str, &'static str, &'static str, fn(&Counts) -> u64);

/// What a lane's file counts.
const COUNTED: [Counted; 7] = [
    ("records_accepted_total", "counter", "Records that are or were kept.", |counts| counts.accepted),
    ("records_delivered_total", "counter", "Of them, those that the endpoint took.", |counts| {
        counts.delivered
    }),
    ("records_rejected_total", "counter", "Of them, those that the endpoint refused for good.", |counts| {
        counts.rejected
    }),
    ("records_pending", "gauge", "Of them, those that are kept still.", |counts| counts.pending),
    ("bytes_pending", "gauge", "Bytes of those.", |counts| counts.bytes),
    (
        "records_refused_total",
        "counter",
        "Records that had no room; senders were told to come again.",
        |counts| counts.refused,
    ),
    (
        "records_oversized_total",
        "counter",
        "Records that are too large to be kept; senders were told.",
        |counts| counts.oversized,
    ),
];

/// Serves the pages until it is cancelled.
pub async fn serve(listener: TcpListener, pages: Pages) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(event = "accept_failed", %error);
                sleep(RETRY).await;
                continue;
            }
        };
        let pages = Arc::clone(&pages);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let pages = Arc::clone(&pages);
                async move { Ok::<_, Infallible>(answer(request, pages).await) }
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

async fn answer(request: Request<Incoming>, pages: Pages) -> Response<Full<Bytes>> {
    // The counts are read from files.
    let made =
        tokio::task::spawn_blocking(move || page(request.method(), request.uri().path(), &pages)).await;
    let (status, kind, text) =
        made.unwrap_or_else(|error| (StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string()));
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn page(method: &Method, path: &str, pages: &[(Lane, Arc<State>)]) -> (StatusCode, &'static str, String) {
    match (method, path) {
        (&Method::GET, "/metrics") => {
            (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics(pages))
        }
        (&Method::GET, "/healthz") => {
            let (ok, text) = health(pages);
            (if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, "application/json", text)
        }
        (&Method::GET, _) => (StatusCode::NOT_FOUND, "text/plain", "/metrics or /healthz\n".to_owned()),
        _ => (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET only\n".to_owned()),
    }
}

/// What is wrong, by lane.
fn health(pages: &[(Lane, Arc<State>)]) -> (bool, String) {
    let mut causes = Map::new();
    for (lane, state) in pages {
        let problem = lane.store.counts().err().map(|error| error.to_string()).or_else(|| state.problem());
        if let Some(problem) = problem {
            causes.insert(lane.name.to_string(), json!(problem));
        }
    }
    let status = if causes.is_empty() { "ok" } else { "degraded" };
    (causes.is_empty(), format!("{}\n", json!({"status": status, "causes": causes})))
}

/// A lane whose file cannot be read is left out of what is counted in it.
fn metrics(pages: &[(Lane, Arc<State>)]) -> String {
    let counts: Vec<_> = pages.iter().map(|(lane, _)| (&lane.name, lane.store.counts().ok())).collect();
    let mut page = String::new();
    for (name, kind, about, of) in COUNTED {
        let rows = counts.iter().filter_map(|(lane, counts)| Some((&***lane, of(counts.as_ref()?))));
        family(&mut page, name, kind, about, rows);
    }
    let rows = pages.iter().map(|(lane, _)| (&*lane.name, lane.store.room()));
    family(&mut page, "bytes_bound", "gauge", "Most bytes that are kept.", rows);
    let rows = pages.iter().map(|(lane, _)| (&*lane.name, lane.under_way.bytes()));
    family(&mut page, "bytes_under_way", "gauge", "Bytes of requests that are being taken in.", rows);
    let rows = pages.iter().map(|(lane, _)| (&*lane.name, lane.under_way.put_off.load(Ordering::Relaxed)));
    family(
        &mut page,
        "requests_put_off_total",
        "counter",
        "Requests that came while more of their lane was under way than there is memory for; senders were told to come again.",
        rows,
    );
    let rows = pages.iter().map(|(lane, state)| (&*lane.name, state.errors.load(Ordering::Relaxed)));
    family(&mut page, "forward_errors_total", "counter", "Requests that the endpoint did not take.", rows);
    let rows = pages.iter().map(|(lane, _)| (&*lane.name, lane.store.set_aside()));
    family(&mut page, "files_set_aside", "gauge", "Damaged files; what was in them was not sent.", rows);
    page
}

fn family<'r>(
    page: &mut String,
    name: &str,
    kind: &str,
    about: &str,
    rows: impl Iterator<Item = (&'r str, u64)>,
) {
    // Writing to a string does not fail.
    let _ = writeln!(page, "# HELP clawker_relay_{name} {about}\n# TYPE clawker_relay_{name} {kind}");
    for (lane, value) in rows {
        let _ = writeln!(page, "clawker_relay_{name}{{lane=\"{lane}\"}} {value}");
    }
}
