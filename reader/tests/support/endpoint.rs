//! An OTLP/gRPC endpoint in this process, over a real connection, that answers as it is told.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::logs::v1::{
        ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
        logs_service_server::{LogsService, LogsServiceServer},
    },
    logs::v1::LogRecord,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};
use tonic::{
    Request, Response, Status, async_trait,
    transport::{Server, ServerTlsConfig, server::TcpIncoming},
};

/// Longest wait for something that must happen; only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the endpoint says to a request with records. Without one left it accepts.
pub enum Answer {
    /// This status.
    Refuse(Status),
    /// Accepted but for this many, with this message.
    Partial(i64, &'static str),
    /// Nothing, ever.
    Hang,
}

/// What to say to these records; `None`: accept.
type Judge = Box<dyn FnMut(&[LogRecord]) -> Option<Answer> + Send>;

struct State {
    judge: Mutex<Judge>,
    requests: Mutex<Vec<ExportLogsServiceRequest>>,
    accepted: watch::Sender<Vec<LogRecord>>,
}

/// The endpoint; it is gone when this is dropped.
pub struct Endpoint {
    state: Arc<State>,
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Endpoint {
    /// An endpoint on a free port of the loopback.
    pub async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), answers, None)
    }

    /// One that says what `judge` says.
    pub async fn judging(judge: impl FnMut(&[LogRecord]) -> Option<Answer> + Send + 'static) -> Self {
        Self::with(TcpListener::bind("127.0.0.1:0").await.unwrap(), Box::new(judge), None)
    }

    /// The same, with TLS.
    pub async fn start_tls(tls: ServerTlsConfig) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), [], Some(tls))
    }

    /// An endpoint on this listener.
    pub fn on(
        listener: TcpListener,
        answers: impl IntoIterator<Item = Answer>,
        tls: Option<ServerTlsConfig>,
    ) -> Self {
        let mut answers: VecDeque<_> = answers.into_iter().collect();
        Self::with(listener, Box::new(move |_| answers.pop_front()), tls)
    }

    fn with(listener: TcpListener, judge: Judge, tls: Option<ServerTlsConfig>) -> Self {
        let state = Arc::new(State {
            judge: Mutex::new(judge),
            requests: Mutex::default(),
            accepted: watch::Sender::default(),
        });
        let address = listener.local_addr().unwrap();
        let service = LogsServiceServer::new(Service(Arc::clone(&state)));
        let mut builder = Server::builder();
        if let Some(tls) = tls {
            builder = builder.tls_config(tls).unwrap();
        }
        let server = builder.add_service(service).serve_with_incoming(TcpIncoming::from(listener));
        Self { state, address, server: tokio::spawn(async { server.await.unwrap() }) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Waits until `count` records were accepted; returns all.
    pub async fn accepted(&self, count: usize) -> Vec<LogRecord> {
        let mut accepted = self.state.accepted.subscribe();
        let waited = timeout(PATIENCE, accepted.wait_for(|records| records.len() >= count)).await;
        match waited {
            Ok(records) => records.unwrap().clone(),
            Err(_) => panic!("{} of {count} records came", self.state.accepted.borrow().len()),
        }
    }

    /// Every request with records, accepted or not.
    pub fn requests(&self) -> Vec<ExportLogsServiceRequest> {
        self.state.requests.lock().unwrap().clone()
    }
}

struct Service(Arc<State>);

#[async_trait]
impl LogsService for Service {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let request = request.into_inner();
        let records: Vec<_> = request
            .resource_logs
            .iter()
            .flat_map(|resource| &resource.scope_logs)
            .flat_map(|scope| scope.log_records.clone())
            .collect();
        if records.is_empty() {
            return Ok(Response::new(ExportLogsServiceResponse::default()));
        }
        self.0.requests.lock().unwrap().push(request);
        let answer = self.0.judge.lock().unwrap()(&records);
        let partial_success = match answer {
            Some(Answer::Refuse(status)) => return Err(status),
            Some(Answer::Hang) => std::future::pending().await,
            Some(Answer::Partial(rejected_log_records, message)) => {
                Some(ExportLogsPartialSuccess { rejected_log_records, error_message: message.to_owned() })
            }
            None => None,
        };
        let rejected = partial_success.as_ref().map_or(0, |partial| partial.rejected_log_records);
        let kept = records.len() - usize::try_from(rejected).unwrap();
        self.0.accepted.send_modify(|accepted| accepted.extend(records.into_iter().take(kept)));
        Ok(Response::new(ExportLogsServiceResponse { partial_success }))
    }
}
