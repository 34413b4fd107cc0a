//! The collector's receivers of senders, each of them, shown what opens them and what must not: no certificate, one that is over, another
//! lane's, another authority's, one for a server, and no TLS at all. Whoever is refused has written nothing.
//! Needs root, Docker and the images of `ci/images`.

use std::{
    error::Error as _,
    fs,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
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
use prost::Message as _;
use stack::{
    Lane,
    certificates::{Authority, Issued, Role},
};
use tokio::runtime::Runtime;
use tonic::{
    Request,
    transport::{Certificate, ClientTlsConfig, Endpoint as Uri, Identity},
};
use ureq::tls::{ClientCert, PrivateKey, RootCerts, TlsConfig};

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

/// A receiver.
#[derive(Clone, Copy, Debug)]
struct Door {
    lane: Lane,
    port: u16,
    speaks: Speaks,
}

/// What is spoken there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    Grpc,
    Http,
}

/// Why a record was not taken.
#[derive(Debug, thiserror::Error)]
enum Refused {
    /// There was none, or it ended.
    #[error("the connection: {0}")]
    Connection(String),
    /// It was read.
    #[error("the answer: {0}")]
    Answer(String),
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let doors = Lane::ALL.into_iter().flat_map(|lane| {
        let grpc = lane.port().map(|port| Door { lane, port, speaks: Speaks::Grpc });
        let http = lane.http_port().map(|port| Door { lane, port, speaks: Speaks::Http });
        grpc.into_iter().chain(http)
    });
    let cells: Vec<(Door, Way)> = doors.flat_map(|door| WAYS.map(|way| (door, way))).collect();
    let missing = missing();
    let started = match &missing {
        None if !arguments.list => Some(Arc::new(Started::new().map_err(|error| format!("{error:#}")))),
        _ => None,
    };
    let trials = cells.into_iter().map(|(door, way)| {
        let name = format!("{}::{:?}::{way:?}", door.lane.word(), door.speaks);
        let (missing, started) = (missing.clone(), started.clone());
        Trial::ignorable_test(name, move || match (missing, started) {
            (None, Some(started)) => {
                let started = started.as_ref().as_ref().map_err(String::as_str)?;
                started
                    .shown(door, way)
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
        let plane = Plane::start(tempfile::tempdir()?, |what| eprintln!("{what}"))?;
        let (store, sink) = Endpoint::elsewhere();
        plane.follow(NODE, sink);
        Ok(Self { plane, store, runtime: Runtime::new()?, stranger })
    }

    /// A record that arrives, or does not.
    fn shown(&self, door: Door, way: Way) -> anyhow::Result<()> {
        let lane = door.lane;
        let id = format!("{NODE}-{}-{:?}-{way:?}", lane.word(), door.speaks);
        let answer = self.send(door, way, &id)?;
        if way == Way::Own {
            answer.map_err(|refused| anyhow::anyhow!("its own sender is refused by {refused}"))?;
            ensure!(self.is_there(lane, &id), "what was taken is not in the store");
            return Ok(());
        }
        match answer {
            // Not by an answer to what the record says: it never came so far.
            Err(Refused::Connection(_)) => {}
            // That TLS is spoken there, and nothing else.
            Err(Refused::Answer(answer)) if way == Way::Plain && answer.contains("400") => {}
            other => bail!("{other:?}"),
        }
        // What is sent behind it is there before it would be missed.
        let last = format!("{id}-last");
        self.send(door, Way::Own, &last)?
            .map_err(|refused| anyhow::anyhow!("its own sender is refused by {refused}"))?;
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

    /// Sends one record.
    fn send(&self, door: Door, way: Way, id: &str) -> anyhow::Result<Result<(), Refused>> {
        let mut to = self.plane.receiver(door.lane).context("a collector")?;
        to.set_port(door.port);
        let shown = self.certificate(door.lane, way)?;
        let authority = fs::read(self.plane.credentials(door.lane).authority)?;
        let scheme = if way == Way::Plain { "http" } else { "https" };
        let uri = format!("{scheme}://{to}");
        match door.speaks {
            Speaks::Grpc => {
                let mut uri = Uri::from_shared(uri)?.timeout(LONG);
                if way != Way::Plain {
                    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
                    if let Some(Issued { certificate, key }) = shown {
                        tls = tls.identity(Identity::from_pem(certificate, key));
                    }
                    uri = uri.tls_config(tls)?;
                }
                self.runtime.block_on(grpc(uri, door.lane, id))
            }
            Speaks::Http => http(&uri, &authority, shown, door.lane, id),
        }
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
    let attribute = |key: &str, value: &str| {
        let value = AnyValue { value: Some(Value::StringValue(value.to_owned())) };
        KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
    };
    let mut attributes = vec![attribute(key(lane), id)];
    if lane == Lane::Claude {
        // Else it is no event, and left out.
        attributes.push(attribute("event.name", "api_request"));
    }
    let record = LogRecord { attributes, ..LogRecord::default() };
    let scope = ScopeLogs { log_records: vec![record], ..ScopeLogs::default() };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { scope_logs: vec![scope], ..ResourceLogs::default() }],
    }
}

/// What the proxy says of whose a record is.
const IDENTITY: [(&str, &str); 4] = [
    ("x-clawker-agent", ""),
    ("x-clawker-project", ""),
    ("x-clawker-container-id", "eA=="),
    ("x-clawker-src-ip", "192.0.2.9"),
];

async fn grpc(uri: Uri, lane: Lane, id: &str) -> anyhow::Result<Result<(), Refused>> {
    let channel = match uri.connect().await {
        Ok(channel) => channel,
        Err(error) => return Ok(Err(Refused::Connection(error.to_string()))),
    };
    let mut request = Request::new(request(lane, id));
    for (name, value) in IDENTITY {
        let name: tonic::metadata::MetadataKey<_> = name.parse()?;
        request.metadata_mut().insert(name, value.parse()?);
    }
    let answer = LogsServiceClient::new(channel).export(request).await;
    // A status that was received has no cause here.
    Ok(answer.map(drop).map_err(|status| match status.source() {
        Some(_) => Refused::Connection(status.to_string()),
        None => Refused::Answer(status.to_string()),
    }))
}

fn http(
    uri: &str,
    authority: &[u8],
    shown: Option<Issued>,
    lane: Lane,
    id: &str,
) -> anyhow::Result<Result<(), Refused>> {
    let roots = RootCerts::new_with_certs(&[ureq::tls::Certificate::from_pem(authority)?]);
    let mut tls = TlsConfig::builder().root_certs(roots);
    if let Some(Issued { certificate, key }) = shown {
        let chain = [ureq::tls::Certificate::from_pem(certificate.as_bytes())?];
        tls =
            tls.client_cert(Some(ClientCert::new_with_certs(&chain, PrivateKey::from_pem(key.as_bytes())?)));
    }
    let agent = ureq::Agent::config_builder().tls_config(tls.build()).timeout_global(Some(LONG));
    let agent = agent.http_status_as_error(false).proxy(None).build().new_agent();
    let mut post = agent.post(format!("{uri}/v1/logs")).header("content-type", "application/x-protobuf");
    for (name, value) in IDENTITY {
        post = post.header(name, value);
    }
    Ok(match post.send(request(lane, id).encode_to_vec()) {
        Ok(answer) if answer.status() == 200 => Ok(()),
        Ok(answer) => Err(Refused::Answer(answer.status().to_string())),
        Err(error) => Err(Refused::Connection(error.to_string())),
    })
}
