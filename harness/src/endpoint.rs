//! An OTLP/gRPC logs endpoint in this process, in place of collector and OpenSearch.
//!
//! It keeps each log record as the document that the collector's OpenSearch exporter would write in
//! ss4o mode, under the stream that the resource's `service.name` names. It must not know what a
//! document should say, and removes no duplicates: delivery is at least once, and whoever counts
//! must count distinct `event_id`.

mod document;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Instant,
};

use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
    logs_service_server::{LogsService, LogsServiceServer},
};
use serde_json::Value;
use tokio::{net::TcpListener, sync::oneshot};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

/// Largest request taken, bytes. The default of 4 MiB would limit the sender's batches.
const LARGEST: usize = 64 << 20;

/// A running endpoint. Dropping it closes its connections.
pub struct Endpoint {
    address: SocketAddr,
    store: Arc<Store>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Endpoint {
    /// Listens on a free port of 127.0.0.1, in the namespace of the calling thread.
    pub fn start() -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let store = Arc::new(Store::default());
        let service = Service(Arc::clone(&store));
        let (stop, stopped) = oneshot::channel::<()>();
        let (failed, failure) = mpsc::channel();
        let body = move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(failed.send(error)),
            };
            runtime.block_on(async {
                match TcpListener::from_std(listener) {
                    Ok(listener) => {
                        drop(failed);
                        serve(listener, service, stopped).await;
                    }
                    Err(error) => drop(failed.send(error)),
                }
            });
        };
        let thread = thread::Builder::new().name("endpoint".to_owned()).spawn(body)?;
        match failure.recv() {
            Ok(error) => Err(error),
            // Nothing was sent before the sender was dropped: it runs.
            Err(mpsc::RecvError) => Ok(Self { address, store, stop: Some(stop), thread: Some(thread) }),
        }
    }

    /// `http://127.0.0.1:<port>`, for an OTLP/gRPC exporter.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The documents of `stream` that satisfy `filter`, in order of arrival.
    #[must_use]
    pub fn documents(&self, stream: &str, filter: impl Fn(&Value) -> bool) -> Vec<Value> {
        let documents = self.store.snapshot(stream, 0);
        documents.iter().filter(|document| filter(document)).map(|document| Value::clone(document)).collect()
    }

    /// Documents of all streams, those that came twice included.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.store.lock().values().map(|documents| documents.len() as u64).sum()
    }

    /// The documents of `stream` from number `from` on, as soon as there is one; none if there is none
    /// before `deadline`.
    #[must_use]
    pub fn news(&self, stream: &str, from: usize, deadline: Instant) -> Vec<Value> {
        self.store.wait_for_more(stream, from, deadline);
        self.store.snapshot(stream, from).iter().map(|document| Value::clone(document)).collect()
    }

    /// The first document of `stream` that satisfies `predicate`, which is asked once a document, as
    /// soon as one arrives; `None` if there was none before `deadline`.
    pub fn wait_for(
        &self,
        stream: &str,
        predicate: impl Fn(&Value) -> bool,
        deadline: Instant,
    ) -> Option<Value> {
        let mut seen = 0;
        loop {
            let news = self.store.snapshot(stream, seen);
            if let Some(found) = news.iter().find(|document| predicate(document)) {
                return Some(Value::clone(found));
            }
            seen += news.len();
            if !self.store.wait_for_more(stream, seen, deadline) {
                return None;
            }
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves until told to stop, then drops what is still connected.
async fn serve(listener: TcpListener, service: Service, stopped: oneshot::Receiver<()>) {
    let service = LogsServiceServer::new(service).max_decoding_message_size(LARGEST);
    // Answers are small, and the sender waits for each.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::select! {
        ended = Server::builder().add_service(service).serve_with_incoming(incoming) => {
            if let Err(error) = ended {
                tracing::error!(%error, "the endpoint ended");
            }
        }
        _ = stopped => {}
    }
}

#[derive(Default)]
struct Store {
    streams: Mutex<HashMap<String, Vec<Arc<Value>>>>,
    arrived: Condvar,
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Arc<Value>>>> {
        // Documents are only ever appended whole: valid even if a holder panicked.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Documents of `stream` from number `from` on. Predicates run on this copy, outside the lock.
    fn snapshot(&self, stream: &str, from: usize) -> Vec<Arc<Value>> {
        self.lock()
            .get(stream)
            .and_then(|documents| documents.get(from..))
            .map(<[_]>::to_vec)
            .unwrap_or_default()
    }

    /// Waits until `stream` has more than `seen` documents; `false` at the deadline.
    fn wait_for_more(&self, stream: &str, seen: usize, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let none_yet =
            |streams: &mut HashMap<String, Vec<_>>| streams.get(stream).is_none_or(|d| d.len() <= seen);
        let waited = self.arrived.wait_timeout_while(self.lock(), left, none_yet);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn add(&self, documents: Vec<(String, Vec<Arc<Value>>)>) {
        let mut streams = self.lock();
        for (stream, documents) in documents {
            streams.entry(stream).or_default().extend(documents);
        }
        self.arrived.notify_all();
    }
}

struct Service(Arc<Store>);

#[tonic::async_trait]
impl LogsService for Service {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let resources = request.into_inner().resource_logs;
        self.0.add(resources.into_iter().map(document::of_resource).collect());
        Ok(Response::new(ExportLogsServiceResponse { partial_success: None }))
    }
}
