//! The collector's receivers of senders, each of them, shown what opens them and what must not: no certificate, one that is over, another
//! lane's, another authority's, one for a server, and no TLS at all. Whoever is refused has written nothing.
//! Needs root, Docker and the images of `ci/images`.

use std::{
    error::Error as _,
    fs,
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use harness::{
    docker::Docker,
    endpoint::Endpoint,
    event::Tier,
    lab::available,
    plane::{self, Plane},
};
use libtest_mimic::{Arguments, Completion, Trial};
use opentelemetry_proto::tonic::{
    collector::logs::v1::{ExportLogsServiceRequest, logs_service_client::LogsServiceClient},
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
};
use stack::{
    Lane,
    certificates::{Authority, Issued, Role},
};
use tokio::runtime::Runtime;
use tonic::{
    Request, Status,
    transport::{Certificate, ClientTlsConfig, Endpoint as Uri, Identity},
};

/// Longer than an answer takes, and its document.
const LONG: Duration = Duration::from_secs(30);
/// Of a certificate.
const HOUR: Duration = Duration::from_secs(3600);
/// How a sender comes.
const WAYS: [Way; 7] =
    [Way::Own, Way::Plain, Way::None, Way::Over, Way::OtherLane, Way::Stranger, Way::Server];

/// What a sender shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A certificate of the lane's.
    Own,
    /// No TLS.
    Plain,
    /// TLS, and no certificate.
    None,
    /// One of the lane's that held until an hour ago.
    Over,
    /// One of another lane's.
    OtherLane,
    /// One of an authority that nobody here knows, of the same name.
    Stranger,
    /// One of the lane's own authority, for a server.
    Server,
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let lanes = Lane::ALL.into_iter().filter(|lane| lane.port().is_some());
    let cells: Vec<(Lane, Way)> = lanes.flat_map(|lane| WAYS.map(|way| (lane, way))).collect();
    let missing = missing();
    let started = match &missing {
        None if !arguments.list => Some(Arc::new(Started::new().map_err(|error| format!("{error:#}")))),
        _ => None,
    };
    let trials = cells.into_iter().map(|(lane, way)| {
        let name = format!("{}::{way:?}", lane.word());
        let (missing, started) = (missing.clone(), started.clone());
        Trial::ignorable_test(name, move || match (missing, started) {
            (None, Some(started)) => {
                let started = started.as_ref().as_ref().map_err(String::as_str)?;
                started
                    .shown(lane, way)
                    .map(|()| Completion::Completed)
                    .map_err(|error| format!("{error:#}").into())
            }
            (reason, _) => Ok(Completion::Ignored { reason }),
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// Why there is no collector here.
fn missing() -> Option<String> {
    let availability = available();
    if availability.tier < Tier::Lab {
        return Some(availability.reason);
    }
    Docker::connect()
        .and_then(|docker| docker.has_images(&plane::IMAGES))
        .err()
        .map(|error| error.to_string())
}

/// A plane, and what arrives in its store.
struct Started {
    plane: Plane,
    store: Endpoint,
    runtime: Runtime,
    stranger: Authority,
}

impl Started {
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let stranger = Authority::open(folder.path(), "egress")?;
        let plane = Plane::start(tempfile::tempdir()?, |what| eprintln!("starting {what}"))?;
        let (store, sink) = Endpoint::elsewhere();
        plane.follow(NODE, sink);
        Ok(Self { plane, store, runtime: Runtime::new()?, stranger })
    }

    /// A record that arrives, or does not.
    fn shown(&self, lane: Lane, way: Way) -> anyhow::Result<()> {
        let id = format!("{NODE}-{}-{way:?}", lane.word());
        let answer = self.runtime.block_on(self.send(lane, way, &id))?;
        if way == Way::Own {
            answer.map_err(|status| anyhow::anyhow!("its own sender is refused: {status}"))?;
            ensure!(self.is_there(lane, &id), "what was taken is not in the store");
            return Ok(());
        }
        let refused = answer.err().context("it was taken")?;
        // Not by an answer to what the record says: it never came so far.
        ensure!(refused.source().is_some(), "it was answered: {refused}");
        // What is sent behind it is there before it would be missed.
        let last = format!("{id}-last");
        self.runtime.block_on(self.send(lane, Way::Own, &last))??;
        ensure!(self.is_there(lane, &last), "what was taken is not in the store");
        let written = documents::ALL.iter().flat_map(|stream| {
            self.store.documents(stream.name, |document| tag(lane, document) == Some(&id))
        });
        ensure!(written.count() == 0, "it was refused, and is in the store");
        Ok(())
    }

    fn is_there(&self, lane: Lane, id: &str) -> bool {
        let is = |document: &serde_json::Value| tag(lane, document) == Some(id);
        self.store.wait_for(&lane.stream(), is, Instant::now() + LONG).is_some()
    }

    /// Sends one record; the answer, if there was one, or why there was no connection.
    async fn send(&self, lane: Lane, way: Way, id: &str) -> anyhow::Result<Result<(), Status>> {
        let to = self.address(lane)?;
        let scheme = if way == Way::Plain { "http" } else { "https" };
        let mut uri = Uri::from_shared(format!("{scheme}://{to}"))?.timeout(LONG);
        if way != Way::Plain {
            let authority = fs::read(self.plane.credentials(lane).authority)?;
            let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
            if let Some(shown) = self.certificate(lane, way)? {
                tls = tls.identity(Identity::from_pem(shown.certificate, shown.key));
            }
            uri = uri.tls_config(tls)?;
        }
        let refused = |error: tonic::transport::Error| Status::from_error(Box::new(error));
        let channel = match uri.connect().await {
            Ok(channel) => channel,
            Err(error) => return Ok(Err(refused(error))),
        };
        let mut request = Request::new(request(lane, id));
        // As the proxy has them.
        for (name, value) in
            [("agent", ""), ("project", ""), ("container-id", "eA=="), ("src-ip", "192.0.2.9")]
        {
            let name: tonic::metadata::MetadataKey<_> = format!("x-clawker-{name}").parse()?;
            request.metadata_mut().insert(name, value.parse()?);
        }
        Ok(LogsServiceClient::new(channel).export(request).await.map(drop))
    }

    fn address(&self, lane: Lane) -> anyhow::Result<SocketAddr> {
        self.plane.receiver(lane).context("a receiver")
    }

    fn certificate(&self, lane: Lane, way: Way) -> anyhow::Result<Option<Issued>> {
        let folder = self.plane.certificates();
        let own = Authority::open(folder, lane.word())?;
        let other = if lane == Lane::Egress { Lane::Envoy } else { Lane::Egress };
        let names = &[lane.word()];
        Ok(Some(match way {
            Way::Own => own.issue(names, Role::Client, HOUR)?,
            // It begins an hour before it is made.
            Way::Over => own.issue(names, Role::Client, Duration::ZERO)?,
            Way::OtherLane => Authority::open(folder, other.word())?.issue(names, Role::Client, HOUR)?,
            Way::Stranger => self.stranger.issue(names, Role::Client, HOUR)?,
            Way::Server => own.issue(names, Role::Server, HOUR)?,
            Way::Plain | Way::None => return Ok(None),
        }))
    }
}

/// What these records are known by.
const NODE: &str = "lanes";

/// An attribute of each lane's table that is free text.
const fn key(lane: Lane) -> &'static str {
    match lane {
        Lane::Egress => "event_id",
        Lane::Envoy => "path",
        Lane::Coredns => "qname",
        Lane::Claude => "model",
        Lane::Cp => "node",
        Lane::Overseer => "event",
    }
}

fn tag(lane: Lane, document: &serde_json::Value) -> Option<&str> {
    document["attributes"][key(lane)].as_str()
}

fn request(lane: Lane, id: &str) -> ExportLogsServiceRequest {
    let value = AnyValue { value: Some(Value::StringValue(id.to_owned())) };
    let attribute = KeyValue { key: key(lane).to_owned(), value: Some(value), ..KeyValue::default() };
    let record = LogRecord { attributes: vec![attribute], ..LogRecord::default() };
    let scope = ScopeLogs { log_records: vec![record], ..ScopeLogs::default() };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { scope_logs: vec![scope], ..ResourceLogs::default() }],
    }
}
