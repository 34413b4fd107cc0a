//! The connection to a lane's endpoint. Made on first use, made again when it is lost.

use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use tokio::time::timeout;
use tonic::{
    Request, Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{self, Channel, ClientTlsConfig, Endpoint},
};
use tonic_prost::ProstCodec;

/// Longest time for a connection to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest time for an answer: that of a store which is slow to index, not of a network.
const ANSWER: Duration = Duration::from_secs(35);
/// What is called.
const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// An OTLP/gRPC logs client.
#[derive(Clone, Debug)]
pub struct Client {
    logs: Grpc<Channel>,
}

/// `ExportLogsServiceRequest`, whose parts are encoded already: on the wire a message is the same as its bytes.
#[derive(Clone, PartialEq, prost::Message)]
struct Whole {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    resource_logs: Vec<Bytes>,
}

impl Client {
    /// A client of the endpoint at `url`. Nothing is connected yet; needs a tokio runtime around it.
    ///
    /// # Errors
    /// If that is no address, or the certificates cannot be used.
    pub fn new(url: &str, tls: ClientTlsConfig) -> Result<Self, transport::Error> {
        let channel = Endpoint::from_shared(url.to_owned())?
            .connect_timeout(CONNECT)
            .tcp_keepalive(Some(ANSWER))
            .http2_keep_alive_interval(ANSWER)
            .keep_alive_while_idle(true)
            .tls_config(tls)?;
        Ok(Self { logs: Grpc::new(channel.connect_lazy()) })
    }

    /// Sends records, each a `ResourceLogs`, and waits for the answer: how many are refused for good, and why.
    ///
    /// # Errors
    /// Anything but an answer.
    pub async fn export(&mut self, resource_logs: Vec<Bytes>) -> Result<(u64, String), Status> {
        let sent = resource_logs.len() as u64;
        // The channel's own limit ends with the first byte of an answer.
        let answer = timeout(ANSWER, self.answer(Whole { resource_logs })).await;
        let answer =
            answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("there was no answer in time")))?;
        let partial = answer.partial_success.unwrap_or_default();
        let rejected = u64::try_from(partial.rejected_log_records).unwrap_or(0).min(sent);
        Ok((rejected, partial.error_message))
    }

    async fn answer(&mut self, whole: Whole) -> Result<ExportLogsServiceResponse, Status> {
        let ready = self.logs.ready().await;
        ready.map_err(|error| Status::unavailable(format!("the connection is not ready: {error}")))?;
        let codec = ProstCodec::<Whole, ExportLogsServiceResponse>::default();
        let answer = self.logs.unary(Request::new(whole), PathAndQuery::from_static(EXPORT), codec).await?;
        Ok(answer.into_inner())
    }
}
