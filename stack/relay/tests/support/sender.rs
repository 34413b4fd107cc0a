//! Who sends.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use hyper::body::{Body, Bytes, Frame};
use libtest_mimic::Failed;
use opentelemetry_proto::tonic::{
    collector::logs::v1::{
        ExportLogsServiceRequest, ExportLogsServiceResponse, logs_service_client::LogsServiceClient,
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
};
use prost::Message as _;
use tokio::sync::oneshot;
use tonic::{
    Request, Status,
    codegen::{Service as _, http},
    transport::{Certificate, Channel, ClientTlsConfig, Identity},
};

use super::{Certificates, Relay};

/// A sender of one lane.
#[derive(Clone)]
pub struct Sender {
    client: LogsServiceClient<Channel>,
    channel: Channel,
    lane: &'static str,
}

impl Sender {
    /// With a certificate of that authority, if any.
    pub fn new(
        relay: &Relay,
        certificates: &Certificates,
        lane: &'static str,
        authority: Option<&str>,
    ) -> Result<Self, Failed> {
        let mut tls =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificates.pem("right-ca.crt")));
        if let Some(authority) = authority {
            let pem = |extension: &str| certificates.pem(&format!("{authority}.{extension}"));
            tls = tls.identity(Identity::from_pem(pem("crt"), pem("key")));
        }
        let channel = Channel::from_shared(format!("https://{}", relay.receive))?.tls_config(tls)?;
        let channel = channel.connect_lazy();
        Ok(Self { client: LogsServiceClient::new(channel.clone()), channel, lane })
    }

    pub async fn send(
        &mut self,
        request: ExportLogsServiceRequest,
    ) -> Result<ExportLogsServiceResponse, Status> {
        let mut request = Request::new(request);
        request.metadata_mut().insert("clawker-lane", self.lane.parse().expect("a word"));
        Ok(self.client.export(request).await?.into_inner())
    }

    /// Sends a request but for its last byte, which follows once `rest` is told.
    pub async fn send_slowly(
        &mut self,
        request: &ExportLogsServiceRequest,
        rest: oneshot::Receiver<()>,
    ) -> Result<Status, Failed> {
        let message = request.encode_to_vec();
        let mut bytes = vec![0];
        bytes.extend(u32::try_from(message.len())?.to_be_bytes());
        bytes.extend(message);
        let last = bytes.split_off(bytes.len() - 1);
        let body = tonic::body::Body::new(Slow { first: Some(bytes.into()), rest, last: Some(last.into()) });
        let post = http::Request::post("/opentelemetry.proto.collector.logs.v1.LogsService/Export")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("clawker-lane", self.lane)
            .body(body)?;
        std::future::poll_fn(|context| self.channel.poll_ready(context)).await?;
        let (answer, mut body) = self.channel.call(post).await?.into_parts();
        if let Some(status) = Status::from_header_map(&answer.headers) {
            return Ok(status);
        }
        loop {
            let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
            let trailers = frame.ok_or("an answer without a status")??.into_trailers();
            if let Some(status) = trailers.ok().as_ref().and_then(Status::from_header_map) {
                return Ok(status);
            }
        }
    }
}

/// A body in two parts.
struct Slow {
    first: Option<Bytes>,
    rest: oneshot::Receiver<()>,
    last: Option<Bytes>,
}

impl Body for Slow {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if self.last.is_some() {
            let _ = std::task::ready!(Pin::new(&mut self.rest).poll(context));
        }
        Poll::Ready(self.last.take().map(|last| Ok(Frame::data(last))))
    }
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// A record that can be told from others, and claims to be another event; of `size` bytes or a little more.
pub fn numbered(number: i64, size: usize) -> LogRecord {
    LogRecord {
        time_unix_nano: 1_700_000_000_000_000_000,
        body: Some(AnyValue { value: Some(Value::StringValue("x".repeat(size))) }),
        attributes: vec![
            pair("number", Value::IntValue(number)),
            pair("event_id", Value::StringValue("claimed".to_owned())),
            pair("agent", Value::StringValue("scout".to_owned())),
        ],
        ..LogRecord::default()
    }
}

pub fn request(log_records: Vec<LogRecord>) -> ExportLogsServiceRequest {
    let scope = ScopeLogs { log_records, ..ScopeLogs::default() };
    let resource = ResourceLogs { scope_logs: vec![scope], ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![resource] }
}
