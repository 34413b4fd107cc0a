//! The connection to the endpoint. Made on first use, made again when it is lost.

use std::{fs, io, net::IpAddr, path::PathBuf, time::Duration};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use tokio::time::timeout;
use tonic::{
    Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use tonic_prost::ProstCodec;

use super::letter::Request;
use crate::{TlsOptions, observe::chain};

/// Longest time for a connection to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest time for an answer: that of a store which is slow to index, not of a network.
const ANSWER: Duration = Duration::from_secs(30);

/// What is called.
const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// An OTLP/gRPC logs client.
#[derive(Clone, Debug)]
pub struct Client {
    logs: Grpc<Channel>,
}

/// Why the endpoint as given cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not a URL.
    #[error("--endpoint {endpoint}: {cause}; give http://host:port or https://host:port", cause = chain(cause))]
    Endpoint {
        /// As given.
        endpoint: String,
        /// Why.
        cause: tonic::transport::Error,
    },
    /// Neither http nor https.
    #[error("--endpoint {0} is neither http:// nor https://")]
    Scheme(String),
    /// TLS without an authority.
    #[error("--endpoint {0} needs --tls-ca: the reader trusts the authority of its lane, no public one")]
    NoAuthority(String),
    /// TLS files for a plain endpoint.
    #[error("--endpoint {0} is plain, but TLS files are given; use https://, or leave them out")]
    PlainWithTls(String),
    /// A PEM file.
    #[error("cannot read {path}: {cause}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The PEM files do not make a configuration.
    #[error("the TLS files cannot be used: {cause}", cause = chain(.0))]
    Tls(tonic::transport::Error),
}

impl Client {
    /// A client of `endpoint`. Nothing is connected yet; needs a tokio runtime around it.
    ///
    /// # Errors
    /// Where endpoint and TLS files do not fit, or cannot be read.
    pub fn new(endpoint: &str, tls: &TlsOptions) -> Result<Self, ClientError> {
        let failed = |cause| ClientError::Endpoint { endpoint: endpoint.to_owned(), cause };
        let mut channel = Endpoint::from_shared(endpoint.to_owned())
            .map_err(failed)?
            .connect_timeout(CONNECT)
            .tcp_keepalive(Some(ANSWER))
            .http2_keep_alive_interval(ANSWER)
            .keep_alive_while_idle(true);
        let given = tls.ca.is_some() || tls.cert.is_some() || tls.key.is_some();
        match channel.uri().scheme_str() {
            Some("http") if given => return Err(ClientError::PlainWithTls(endpoint.to_owned())),
            Some("http") => warn_if_remote(&channel),
            Some("https") => {
                channel = channel.tls_config(config(endpoint, tls)?).map_err(ClientError::Tls)?
            }
            _ => return Err(ClientError::Scheme(endpoint.to_owned())),
        }
        Ok(Self { logs: Grpc::new(channel.connect_lazy()) })
    }

    /// Sends one request and waits for the answer.
    ///
    /// # Errors
    /// Anything but an answer.
    pub async fn export(&mut self, request: Request) -> Result<ExportLogsServiceResponse, Status> {
        // The channel's own limit ends with the first byte of an answer.
        let answer = timeout(ANSWER, self.answer(request)).await;
        answer.unwrap_or_else(|_| {
            Err(Status::deadline_exceeded(format!("no answer within {} s", ANSWER.as_secs())))
        })
    }

    async fn answer(&mut self, request: Request) -> Result<ExportLogsServiceResponse, Status> {
        self.logs
            .ready()
            .await
            .map_err(|error| Status::unavailable(format!("the connection is not ready: {error}")))?;
        let codec = ProstCodec::<Request, ExportLogsServiceResponse>::default();
        let answer =
            self.logs.unary(tonic::Request::new(request), PathAndQuery::from_static(EXPORT), codec).await?;
        Ok(answer.into_inner())
    }
}

fn config(endpoint: &str, tls: &TlsOptions) -> Result<ClientTlsConfig, ClientError> {
    let read =
        |path: &PathBuf| fs::read(path).map_err(|cause| ClientError::File { path: path.clone(), cause });
    let authority = tls.ca.as_ref().ok_or_else(|| ClientError::NoAuthority(endpoint.to_owned()))?;
    let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(authority)?));
    Ok(match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => config.identity(Identity::from_pem(read(cert)?, read(key)?)),
        _ => config,
    })
}

fn warn_if_remote(endpoint: &Endpoint) {
    let host = endpoint.uri().host().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if !loopback {
        tracing::warn!(
            event = "plaintext_endpoint",
            host,
            "evidence leaves this machine readable and unauthenticated; use https:// with --tls-ca",
        );
    }
}
