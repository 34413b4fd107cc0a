//! The OTLP service: what becomes of one request.

use std::{sync::Arc, time::Duration};

use opentelemetry_proto::tonic::{
    collector::logs::v1::{
        ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
        logs_service_server::LogsService,
    },
    logs::v1::ResourceLogs,
};
use tonic::{Request, Response, Status};

use super::{Answer, Manner, Store, document};

/// What [`Answer::Slow`] takes.
const SLOW: Duration = Duration::from_millis(500);

/// Stores what comes, in the manner that is set.
#[derive(Clone)]
pub struct Service {
    pub store: Arc<Store>,
    pub manner: Arc<Manner>,
}

#[tonic::async_trait]
impl LogsService for Service {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let mut resources = request.into_inner().resource_logs;
        let records = records(&resources);
        // As a collector does it: without a record there is nothing that could go wrong.
        let answer = if records == 0 { Answer::Accept } else { self.manner.show() };
        match answer {
            Answer::Reject => return Err(Status::invalid_argument("the endpoint takes none of it")),
            // The exporter of a collector whose store is down, word by word.
            Answer::Internal => {
                let words = "not retryable error: Permanent error: the store is down";
                return Err(Status::internal(words));
            }
            Answer::Partial => keep(&mut resources, records / 2),
            // Not stored and then answered late: what is cut off in between would be there, and rejected later.
            Answer::Slow => tokio::time::sleep(SLOW).await,
            Answer::Accept => {}
        }
        let rejected = records - self::records(&resources);
        self.store.add(resources.into_iter().map(document::of_resource).collect());
        let partial_success = (rejected > 0).then(|| ExportLogsPartialSuccess {
            rejected_log_records: i64::try_from(rejected).unwrap_or(i64::MAX),
            error_message: "the endpoint takes half of it".to_owned(),
        });
        Ok(Response::new(ExportLogsServiceResponse { partial_success }))
    }
}

fn records(resources: &[ResourceLogs]) -> usize {
    let scopes = resources.iter().flat_map(|resource| &resource.scope_logs);
    scopes.map(|scope| scope.log_records.len()).sum()
}

/// Keeps the first `most` records of all.
fn keep(resources: &mut [ResourceLogs], most: usize) {
    let mut left = most;
    for scope in resources.iter_mut().flat_map(|resource| &mut resource.scope_logs) {
        scope.log_records.truncate(left);
        left -= scope.log_records.len();
    }
}
