//! Telemetry over OTLP, as an agent's exporter sends it: over TLS, trusting whom programs here trust.

use std::{error::Error, fs, io, net::SocketAddr, time::Duration};

use nix::errno::Errno;
use opentelemetry_proto::tonic::collector::{
    logs::v1::{ExportLogsServiceRequest, logs_service_client::LogsServiceClient},
    metrics::v1::{ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient},
};
use prost::Message as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::runtime;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use ureq::tls::{Certificate as Trusted, RootCerts, TlsConfig, parse_pem};

use super::{Report, Stop, quic::broken};
use crate::scenario::types::{Telemetry, TelemetryVia};

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// Whom programs trust, in one file.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A request that is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Whom to.
    pub to: SocketAddr,
    /// How.
    pub via: TelemetryVia,
    /// What, as OTLP has it in JSON.
    pub request: Value,
}

/// Sends it. Any answer but that it was taken is an error, with the answer.
pub fn run(delivery: &Delivery, report: &mut Report) -> Result<(), Stop> {
    report.dst = Some(delivery.to);
    let trusted = fs::read(AUTHORITIES).map_err(Stop::io("read whom to trust"))?;
    match delivery.via {
        TelemetryVia::Http => {
            let body = delivery.request.to_string().into_bytes();
            http(delivery, "application/json", &body, &trusted, report)
        }
        TelemetryVia::Protobuf => {
            let body = Message::read(&delivery.request)?.bytes();
            http(delivery, "application/x-protobuf", &body, &trusted, report)
        }
        TelemetryVia::Grpc => {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(Stop::io("start a runtime"))?.block_on(grpc(delivery, &trusted))
        }
    }
}

/// A request, as the types of the protocol have it.
enum Message {
    Logs(ExportLogsServiceRequest),
    Metrics(ExportMetricsServiceRequest),
}

impl Message {
    fn read(request: &Value) -> Result<Self, Stop> {
        let request = request.clone();
        let read = if Telemetry::signal(&request) == "metrics" {
            serde_json::from_value(request).map(Self::Metrics)
        } else {
            serde_json::from_value(request).map(Self::Logs)
        };
        read.map_err(|error| broken("read the request", &error))
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Logs(request) => request.encode_to_vec(),
            Self::Metrics(request) => request.encode_to_vec(),
        }
    }
}

fn http(
    delivery: &Delivery,
    encoding: &str,
    body: &[u8],
    trusted: &[u8],
    report: &mut Report,
) -> Result<(), Stop> {
    let roots: Vec<Trusted<'static>> = parse_pem(trusted)
        .filter_map(|item| match item {
            Ok(ureq::tls::PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    let agent = ureq::Agent::config_builder()
        .tls_config(TlsConfig::builder().root_certs(RootCerts::new_with_certs(&roots)).build())
        .timeout_global(Some(PATIENCE))
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .new_agent();
    let url = format!("https://{}/v1/{}", delivery.to, Telemetry::signal(&delivery.request));
    let answer = agent.post(url).header("content-type", encoding).send(body);
    let answer = answer.map_err(|error| match error {
        ureq::Error::Io(error) => Stop::io("send the request")(error),
        other => broken("send the request", &other),
    })?;
    report.sent = body.len() as u64;
    if answer.status() != 200 {
        return Err(Stop::new("EPROTO", format!("the answer is {}", answer.status())));
    }
    Ok(())
}

async fn grpc(delivery: &Delivery, trusted: &[u8]) -> Result<(), Stop> {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(trusted));
    let channel: Channel = Endpoint::from_shared(format!("https://{}", delivery.to))
        .and_then(|endpoint| endpoint.tls_config(tls))
        .map_err(|error| broken("set the connection up", &error))?
        .timeout(PATIENCE)
        .connect()
        .await
        .map_err(|error| match kernels(&error) {
            Some(errno) => Stop::errno("connect")(errno),
            None => broken("connect", &error),
        })?;
    let answer = match Message::read(&delivery.request)? {
        Message::Metrics(request) => MetricsServiceClient::new(channel).export(request).await.map(drop),
        Message::Logs(request) => LogsServiceClient::new(channel).export(request).await.map(drop),
    };
    answer.map_err(|status| {
        Stop::new("EPROTO", format!("the answer is {:?}: {}", status.code(), status.message()))
    })
}

/// The kernel's answer, where that is at the bottom of an error.
fn kernels(error: &(dyn Error + 'static)) -> Option<Errno> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(errno) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(Errno::from_raw(errno));
        }
        cause = error.source();
    }
    None
}
