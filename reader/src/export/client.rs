//! The connection to the endpoint. Made on first use, made again when it is lost.

use std::time::Duration;

use emitter::{ChannelError, channel};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use tokio::time::timeout;
use tonic::{Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;

use super::letter::Request;
use crate::TlsOptions;

/// Longest time for an answer: that of a store which is slow to index, not of a network.
const ANSWER: Duration = Duration::from_secs(30);

/// What is called.
const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// An OTLP/gRPC logs client.
#[derive(Clone, Debug)]
pub struct Client {
    logs: Grpc<Channel>,
}

impl Client {
    /// A client of `endpoint`. Nothing is connected yet; needs a tokio runtime around it.
    ///
    /// # Errors
    /// Where endpoint and TLS files do not fit, or cannot be read.
    pub fn new(endpoint: &str, tls: &TlsOptions) -> Result<Self, ChannelError> {
        let channel = channel("--endpoint", endpoint, "--tls-ca", &tls.into())?;
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
