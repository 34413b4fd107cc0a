//! Who sends.

use libtest_mimic::Failed;
use opentelemetry_proto::tonic::{
    collector::logs::v1::{
        ExportLogsServiceRequest, ExportLogsServiceResponse, logs_service_client::LogsServiceClient,
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
};
use tonic::{
    Request, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Identity},
};

use super::{Certificates, Relay};

/// A sender of one lane.
#[derive(Clone)]
pub struct Sender {
    client: LogsServiceClient<Channel>,
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
        Ok(Self { client: LogsServiceClient::new(channel.connect_lazy()), lane })
    }

    pub async fn send(
        &mut self,
        request: ExportLogsServiceRequest,
    ) -> Result<ExportLogsServiceResponse, Status> {
        let mut request = Request::new(request);
        request.metadata_mut().insert("clawker-lane", self.lane.parse().expect("a word"));
        Ok(self.client.export(request).await?.into_inner())
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
