//! What stands for the collector's second receiver and the store behind it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use libtest_mimic::Failed;
use opentelemetry_proto::tonic::{
    collector::logs::v1::{
        ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
        logs_service_server::{LogsService, LogsServiceServer},
    },
    common::v1::any_value::Value,
    logs::v1::LogRecord,
};
use tokio::runtime::Runtime;
use tonic::{
    Request, Response, Status,
    transport::{Certificate, Identity, Server, ServerTlsConfig, server::TcpIncoming},
};

use super::Certificates;

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Takes everything.
    Take,
    /// Says INTERNAL, permanent, as the collector does whose store is down.
    Down,
    /// Says so of a request with this number in it, and takes the others.
    Poison(i64),
    /// Takes a request with this number in it but for one record.
    Partial(i64),
}

/// A running endpoint.
pub struct Endpoint {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    manner: Mutex<Manner>,
    taken: Mutex<Vec<(i64, String)>>,
}

impl Endpoint {
    pub fn start(runtime: &Runtime, certificates: &Certificates, manner: Manner) -> Result<Self, Failed> {
        let shared = Arc::new(Shared { manner: Mutex::new(manner), taken: Mutex::default() });
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(certificates.pem("right.crt"), certificates.pem("right.key")))
            .client_ca_root(Certificate::from_pem(certificates.pem("right-ca.crt")));
        let _entered = runtime.enter();
        let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into())?;
        let address = incoming.local_addr()?;
        let service =
            LogsServiceServer::new(Service(Arc::clone(&shared))).max_decoding_message_size(16 << 20);
        let served = Server::builder().tls_config(tls)?.add_service(service).serve_with_incoming(incoming);
        runtime.spawn(served);
        Ok(Self { address, shared })
    }

    pub fn set(&self, manner: Manner) {
        *self.shared.manner.lock().expect("no test panics with it") = manner;
    }

    /// The number and identity of each record that was taken, in order.
    pub fn taken(&self) -> Vec<(i64, String)> {
        self.shared.taken.lock().expect("no test panics with it").clone()
    }

    /// By identity, the number; each identity is of one number alone.
    pub fn events(&self) -> Result<HashMap<String, i64>, Failed> {
        let mut events = HashMap::new();
        for (number, id) in self.taken() {
            let before = events.insert(id.clone(), number);
            if before.is_some_and(|before| before != number) {
                return Err(format!("{id} names {before:?} and {number}").into());
            }
        }
        Ok(events)
    }
}

struct Service(Arc<Shared>);

#[tonic::async_trait]
impl LogsService for Service {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let resources = request.into_inner().resource_logs;
        let scopes = resources.into_iter().flat_map(|resource| resource.scope_logs);
        let records: Vec<_> =
            scopes.flat_map(|scope| scope.log_records).map(|record| read(&record)).collect();
        let has = |number| records.iter().any(|(of, _)| *of == number);
        let manner = *self.0.manner.lock().expect("no test panics with it");
        let mut answer = ExportLogsServiceResponse::default();
        match manner {
            Manner::Down => {
                return Err(Status::internal("not retryable error: Permanent error: connection refused"));
            }
            Manner::Poison(number) if has(number) => {
                return Err(Status::internal(
                    "not retryable error: Permanent error: mapper_parsing_exception",
                ));
            }
            Manner::Partial(number) if has(number) => {
                let error_message = "one has no place".to_owned();
                answer.partial_success =
                    Some(ExportLogsPartialSuccess { rejected_log_records: 1, error_message });
            }
            Manner::Take | Manner::Poison(_) | Manner::Partial(_) => {}
        }
        self.0.taken.lock().expect("no test panics with it").extend(records);
        Ok(Response::new(answer))
    }
}

fn read(record: &LogRecord) -> (i64, String) {
    let value = |key: &str| {
        let mut of_key = record.attributes.iter().filter(|pair| pair.key == key);
        let value = of_key.next().and_then(|pair| pair.value.as_ref()?.value.clone());
        assert!(of_key.next().is_none(), "{key} is there twice");
        value
    };
    match (value("number"), value("event_id")) {
        (Some(Value::IntValue(number)), Some(Value::StringValue(id))) => (number, id),
        other => panic!("a record with a number and an identity, not {other:?}"),
    }
}
