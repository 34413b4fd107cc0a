//! An OTLP endpoint over mutual TLS that acknowledges everything and counts the documents. It reads no document, so
//! that it takes as little of the machine as an endpoint can.

use std::{
    convert::Infallible,
    fs,
    future::Future,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use anyhow::Context as _;
use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{net::TcpListener, runtime::Runtime};
use tonic::{
    Response, Status,
    body::Body,
    codegen::{Service, http},
    server::{Grpc, NamedService, UnaryService},
    transport::{Certificate, Identity, Server, ServerTlsConfig, server::TcpIncoming},
};
use tonic_prost::ProstCodec;

/// `ExportLogsServiceRequest`, of which only the number of documents is read.
#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_logs: Vec<ResourceLogs>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResourceLogs {
    #[prost(message, repeated, tag = "2")]
    scope_logs: Vec<ScopeLogs>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ScopeLogs {
    #[prost(bytes = "bytes", repeated, tag = "2")]
    log_records: Vec<Bytes>,
}

/// `ExportLogsServiceResponse` that says nothing: all is accepted.
#[derive(Clone, PartialEq, prost::Message)]
struct Accepted {}

/// What an endpoint counts.
#[derive(Debug, Default)]
struct Counts {
    documents: AtomicU64,
    bytes: AtomicU64,
}

/// The endpoint; it is gone when this is dropped.
pub struct Endpoint {
    counts: Arc<Counts>,
    /// Where it listens.
    pub url: String,
    /// Files that a client needs.
    pub tls: TlsFiles,
    _runtime: Runtime,
}

/// PEM files for a client.
pub struct TlsFiles {
    /// Authority of the endpoint's certificate.
    pub ca: PathBuf,
    /// The client's certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    _dir: tempfile::TempDir,
}

impl Endpoint {
    /// Starts one on a free port of the loopback.
    ///
    /// # Errors
    /// If it cannot listen or make certificates.
    pub fn start() -> anyhow::Result<Self> {
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let cert = CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, &authority)?;
        let dir = tempfile::tempdir()?;
        let write = |name: &str, text: String| {
            let path = dir.path().join(name);
            fs::write(&path, text).map(|()| path)
        };
        let (ca, cert_pem, key_pem) = (authority.pem(), cert.pem(), key.serialize_pem());
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(&cert_pem, &key_pem))
            .client_ca_root(Certificate::from_pem(&ca));
        let files = TlsFiles {
            ca: write("ca", ca)?,
            cert: write("cert", cert_pem)?,
            key: write("key", key_pem)?,
            _dir: dir,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).context("cannot listen")?;
        let url = format!("https://localhost:{}", listener.local_addr()?.port());
        let counts = Arc::<Counts>::default();
        let logs = Logs(Arc::clone(&counts));
        let server = {
            let _inside = runtime.enter();
            Server::builder()
                .tls_config(tls)?
                .add_service(logs)
                .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        };
        runtime.spawn(server);
        Ok(Self { counts, url, tls: files, _runtime: runtime })
    }

    /// Documents acknowledged since the start.
    pub fn documents(&self) -> u64 {
        self.counts.documents.load(Relaxed)
    }

    /// Bytes of documents acknowledged since the start.
    pub fn bytes(&self) -> u64 {
        self.counts.bytes.load(Relaxed)
    }
}

#[derive(Clone)]
struct Logs(Arc<Counts>);

impl NamedService for Logs {
    const NAME: &'static str = "opentelemetry.proto.collector.logs.v1.LogsService";
}

type Answer<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl Service<http::Request<Body>> for Logs {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let logs = self.clone();
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).unary(logs, request).await) })
    }
}

impl UnaryService<Request> for Logs {
    type Response = Accepted;
    type Future = Answer<Response<Accepted>, Status>;

    fn call(&mut self, request: tonic::Request<Request>) -> Self::Future {
        let request = request.into_inner();
        let records = request.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
        for record in records.flat_map(|scope| &scope.log_records) {
            self.0.documents.fetch_add(1, Relaxed);
            self.0.bytes.fetch_add(record.len() as u64, Relaxed);
        }
        Box::pin(async { Ok(Response::new(Accepted {})) })
    }
}
