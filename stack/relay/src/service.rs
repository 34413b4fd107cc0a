//! What senders are answered.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
    logs_service_server::LogsService,
};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{lane::Lane, store::Done};

/// When a sender that found no room is to come again: without it OTLP takes the answer for a final one.
pub const AGAIN: Duration = Duration::from_secs(1);

/// The OTLP service. Requests have their [`Lane`] among their extensions.
pub struct Service;

#[tonic::async_trait]
impl LogsService for Service {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let lane = request.extensions().get::<Lane>().cloned();
        let lane = lane.ok_or_else(|| Status::internal("a request without a lane"))?;
        // A sender that gives up meanwhile has what it sent kept all the same.
        match lane.keep(request.into_inner()).await {
            Ok(Done::Kept { oversized: 0 } | Done::Settled) => {
                Ok(Response::new(ExportLogsServiceResponse::default()))
            }
            Ok(Done::Kept { oversized }) => Ok(Response::new(ExportLogsServiceResponse {
                partial_success: Some(ExportLogsPartialSuccess {
                    rejected_log_records: i64::try_from(oversized).unwrap_or(i64::MAX),
                    error_message: "these records are too large to be kept".to_owned(),
                }),
            })),
            Ok(Done::Full) => Err(Status::with_error_details(
                Code::ResourceExhausted,
                format!("the lane {} has no room until the store has taken some of what it has", lane.name),
                ErrorDetails::with_retry_info(Some(AGAIN)),
            )),
            Ok(Done::TooLarge) => {
                Err(Status::invalid_argument("the request is larger than all the room of its lane"))
            }
            Err(error) => Err(Status::unavailable(error.to_string())),
        }
    }
}
