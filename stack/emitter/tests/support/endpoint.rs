//! An OTLP/gRPC endpoint in this process, over a real connection, that answers as it is told.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{
    collector::logs::v1::{
        ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
        logs_service_server::{LogsService, LogsServiceServer},
    },
    common::v1::any_value::Value,
    logs::v1::LogRecord,
};
use tokio::{net::TcpListener, runtime::Runtime};
use tonic::{
    Request, Response, Status, async_trait,
    transport::{Server, server::TcpIncoming},
};

/// Only a failing test waits that long.
pub const LONG: Duration = Duration::from_secs(20);

/// What is said to a request: so many are rejected, or none is heard; `None`: all are taken.
type Judge = dyn FnMut(&[LogRecord]) -> Option<Result<i64, Status>> + Send;

struct Service {
    judge: Arc<Mutex<Box<Judge>>>,
    taken: Arc<Mutex<Vec<LogRecord>>>,
}

#[async_trait]
impl LogsService for Service {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let records: Vec<LogRecord> = request
            .into_inner()
            .resource_logs
            .into_iter()
            .flat_map(|resource| resource.scope_logs)
            .flat_map(|scope| scope.log_records)
            .collect();
        let answer = self.judge.lock().unwrap()(&records);
        let rejected_log_records = answer.transpose()?.unwrap_or(0);
        if rejected_log_records == 0 {
            self.taken.lock().unwrap().extend(records);
        }
        let error_message = "rejected".to_owned();
        let partial_success = Some(ExportLogsPartialSuccess { rejected_log_records, error_message });
        Ok(Response::new(ExportLogsServiceResponse { partial_success }))
    }
}

/// An endpoint, gone when this is dropped.
pub struct Endpoint {
    _runtime: Runtime,
    pub address: SocketAddr,
    pub taken: Arc<Mutex<Vec<LogRecord>>>,
}

impl Endpoint {
    pub fn start(judge: impl FnMut(&[LogRecord]) -> Option<Result<i64, Status>> + Send + 'static) -> Self {
        Self::on("127.0.0.1:0".parse().unwrap(), judge)
    }

    pub fn on(
        address: SocketAddr,
        judge: impl FnMut(&[LogRecord]) -> Option<Result<i64, Status>> + Send + 'static,
    ) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
        let address = listener.local_addr().unwrap();
        let taken = Arc::<Mutex<Vec<LogRecord>>>::default();
        let service = Service { judge: Arc::new(Mutex::new(Box::new(judge))), taken: Arc::clone(&taken) };
        let server = Server::builder().add_service(LogsServiceServer::new(service));
        runtime.spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        Self { _runtime: runtime, address, taken }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits for so many records; returns all.
    pub fn taken(&self, count: usize) -> Vec<LogRecord> {
        until(|| self.taken.lock().unwrap().len() >= count);
        self.taken.lock().unwrap().clone()
    }
}

/// Waits until that is so.
pub fn until(holds: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "it does not come about");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// An attribute as text.
pub fn text(record: &LogRecord, key: &str) -> Option<String> {
    match record.attributes.iter().find(|pair| pair.key == key)?.value.clone()?.value? {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The line for people.
pub fn body(record: &LogRecord) -> String {
    match record.body.clone().unwrap().value {
        Some(Value::StringValue(text)) => text,
        other => panic!("{other:?}"),
    }
}
