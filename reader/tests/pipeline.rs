//! From the spool to a real gRPC endpoint: completeness, what counts as an answer, what becomes of a record that the
//! endpoint cannot take.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use abi::{LossPoint, Record};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use reader::{
    Fault, TlsOptions,
    attribute::{Attributor, DomainNames, Enrolments, Owners},
    export::{Client, DeadLetters, Exporter},
    observe::{Counters, Health},
    spool::{Producer, Spool, Stored},
};
use support::{
    attribute,
    endpoint::{Answer, Endpoint},
    enrol, enrol_as, ports, record,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};
use tonic::{
    Code, Status,
    body::Body,
    codegen::{Service, http},
    server::NamedService,
    transport::{Server, server::TcpIncoming},
};

struct OneName;

impl DomainNames for OneName {
    fn name(&mut self, domain: u32) -> Option<Arc<str>> {
        (domain == 5).then(|| "api.test".into())
    }
}

struct Pipeline {
    spool: Arc<Spool>,
    counters: Arc<Counters>,
    health: Arc<Health>,
    exporting: JoinHandle<()>,
    state: tempfile::TempDir,
}

fn pipeline(url: &str, tls: &TlsOptions, batch: usize, fault: Fault) -> Pipeline {
    let state = tempfile::tempdir().unwrap();
    enrol(state.path());
    let spool = Arc::new(Spool::open(&state.path().join("spool"), 100_000).unwrap().0);
    let counters = Arc::<Counters>::default();
    let health = Arc::<Health>::default();
    let exporter = Exporter {
        client: Client::new(url, tls).unwrap(),
        spool: Arc::clone(&spool),
        attributor: Attributor::new(
            Owners::new(Enrolments::new(state.path(), Arc::clone(&counters)), None, Arc::clone(&counters)),
            Box::new(OneName),
            "node".to_owned(),
            fault,
        ),
        counters: Arc::clone(&counters),
        health: Arc::clone(&health),
        dead_letters: DeadLetters::new(state.path()),
        endpoint: Default::default(),
        batch,
        in_flight: 4,
        flush: Duration::from_millis(20),
        fault,
    };
    Pipeline { spool, counters, health, exporting: tokio::spawn(exporter.run()), state }
}

/// Stores a record that lies behind all before it.
fn store(producer: &mut Producer<'_>, record: &Record) {
    static POSITION: AtomicU64 = AtomicU64::new(0);
    let stored = producer.push(record, POSITION.fetch_add(1, Relaxed), 0);
    assert!(matches!(stored, Stored::At(_)), "{stored:?}");
}

impl Pipeline {
    fn push(&self, ports: std::ops::Range<u16>) {
        let mut producer = self.spool.producer();
        for port in ports {
            store(&mut producer, &record(port));
        }
    }

    /// Closes the spool and waits for the exporter to be through with it.
    async fn finish(&mut self) {
        self.spool.close();
        timeout(Duration::from_secs(20), &mut self.exporting).await.expect("the exporter ends").unwrap();
        assert_eq!(self.spool.depth(), 0);
    }

    /// Waits until the export's cause, empty if there is none, is as wanted.
    async fn export_cause(&self, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            let cause = self.health.report(0).causes.get("export").cloned().unwrap_or_default();
            if wanted(&cause) {
                return cause;
            }
            assert!(std::time::Instant::now() < deadline, "the cause still is {cause:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Ports of what the endpoint has, each once: what it takes twice is one event.
async fn stored(endpoint: &Endpoint) -> Vec<u16> {
    let records = endpoint.accepted(0).await;
    let events: BTreeMap<String, LogRecord> =
        records.into_iter().map(|record| (attribute(&record, "event_id"), record)).collect();
    ports(&events.into_values().collect::<Vec<_>>())
}

async fn until(wanted: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !wanted() {
        assert!(std::time::Instant::now() < deadline, "waited in vain");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn every_record_arrives_once() {
    let endpoint = Endpoint::start([]).await;
    let mut pipeline = pipeline(&endpoint.url(), &TlsOptions::default(), 512, Fault::None);
    pipeline.push(0..5000);
    let records = endpoint.accepted(5000).await;
    pipeline.finish().await;

    assert_eq!(ports(&records), (0..5000).collect::<Vec<_>>());
    let ids: BTreeSet<_> = records.iter().map(|record| attribute(record, "event_id")).collect();
    let id = |sequence| format!("node-{:016x}-{sequence}", pipeline.spool.nonce());
    assert_eq!(ids, (0..5000).map(id).collect());
    let counted = pipeline.counters.read();
    assert_eq!((counted.exported, counted.export_errors), (5000, 0));
    assert_eq!(counted.attributions["known"], 5000);
    assert!(endpoint.requests().iter().all(|r| r.resource_logs[0].scope_logs[0].log_records.len() <= 512));
}

#[tokio::test]
async fn a_document_says_who_and_where_and_when() {
    let endpoint = Endpoint::start([]).await;
    let mut pipeline = pipeline(&endpoint.url(), &TlsOptions::default(), 512, Fault::None);
    let offset = reader::clock::Offset::measure().unwrap();
    pipeline.push(443..444);
    let records = endpoint.accepted(1).await;
    pipeline.finish().await;

    let said = ["agent", "project", "container_id", "attribution", "dst_host"]
        .map(|name| attribute(&records[0], name));
    assert_eq!(said, ["scout", "demo", "c0ffee", "known", "api.test"]);
    let drift = records[0].time_unix_nano.abs_diff(offset.wall_of(record(443).end_ns));
    assert!(drift < 1_000_000_000, "the end in wall-clock time is off by {drift} ns");
    assert!(records[0].observed_time_unix_nano >= offset.now_unix_ns());
    let resource = endpoint.requests()[0].resource_logs[0].resource.clone().unwrap();
    assert_eq!(resource.attributes.len(), 1);
    assert_eq!(resource.attributes[0].key, "service.name");
    assert!(format!("{:?}", resource.attributes[0].value).contains("\"clawker-egress\""));
}

/// Whoever starts a container chooses its labels; they are values on the whole way, never syntax.
#[tokio::test]
async fn labels_arrive_byte_for_byte() {
    let (long, controls) = ("é".repeat(2048), "\u{1f}".repeat(4096));
    let labels = [
        "",
        " ",
        "nul\0inside",
        "two\r\nlines\ttab",
        "\"quoted\" 'twice' \\",
        "e\u{301} is not \u{e9}",
        "\u{202e}turned around\u{2066}",
        "👩\u{200d}🚀\u{feff}\u{ffff}",
        "\u{1b}[31m\u{7f}\u{85}\u{2028}",
        "${x} {{x}} %s $(id)",
        "../../4242",
        "<script>alert(1)</script>&amp;",
        "\",\"agent\":\"scout",
        "null",
        &long,
        &controls,
    ];
    let endpoint = Endpoint::start([]).await;
    let mut pipeline = pipeline(&endpoint.url(), &TlsOptions::default(), 512, Fault::None);
    for (cgroup_id, label) in (1..).zip(labels) {
        enrol_as(pipeline.state.path(), cgroup_id, label, &format!("of {label}"));
        let mut record = record(443);
        record.flow.cgroup_id = cgroup_id;
        store(&mut pipeline.spool.producer(), &record);
    }
    let records = endpoint.accepted(labels.len()).await;
    pipeline.finish().await;
    for (record, label) in records.iter().zip(labels) {
        let said = ["attribution", "agent", "project"].map(|name| attribute(record, name));
        assert_eq!(said, ["known", label, &format!("of {label}")]);
    }
}

#[tokio::test]
async fn no_error_is_an_answer_internal_least_of_all() {
    let down = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&down);
    let endpoint = Endpoint::judging(move |_| {
        switch.load(Relaxed).then(|| {
            let words = "not retryable error: Permanent error: the store is down";
            Answer::Refuse(Status::new(Code::Internal, words))
        })
    })
    .await;
    let mut pipeline = pipeline(&endpoint.url(), &TlsOptions::default(), 10, Fault::None);
    pipeline.push(0..25);
    let cause = pipeline.export_cause(|cause| cause.contains("Permanent")).await;
    assert_eq!(cause, "Internal: not retryable error: Permanent error: the store is down");
    // More often than a lone record is tried.
    until(|| pipeline.counters.read().export_errors > 20).await;
    assert_eq!(pipeline.spool.depth(), 25, "nothing is forgotten without an answer");
    down.store(false, Relaxed);
    endpoint.accepted(25).await;
    pipeline.finish().await;

    assert_eq!(stored(&endpoint).await, (0..25).collect::<Vec<_>>());
    let counted = pipeline.counters.read();
    assert_eq!(counted.exported, 25);
    assert!(counted.losses.values().all(|count| *count == 0), "{counted:?}");
    pipeline.export_cause(str::is_empty).await;
}

/// Refuses every request with one of these ports.
async fn poisoned_by(ports: &'static [u16]) -> Endpoint {
    Endpoint::judging(move |records| {
        let poison = support::ports(records).iter().any(|port| ports.contains(port));
        poison.then(|| Answer::Refuse(Status::new(Code::InvalidArgument, "mapper_parsing_exception")))
    })
    .await
}

#[tokio::test]
async fn a_record_that_the_endpoint_cannot_take_blocks_nothing() {
    for poison in [&[30][..], &[0, 1, 40, 63]] {
        let endpoint = poisoned_by(poison).await;
        let mut pipeline = pipeline(&endpoint.url(), &TlsOptions::default(), 64, Fault::None);
        pipeline.push(0..64);
        pipeline.push(64..200);
        pipeline.finish().await;

        let expected: Vec<u16> = (0..200).filter(|port| !poison.contains(port)).collect();
        assert_eq!(stored(&endpoint).await, expected);
        let counted = pipeline.counters.read();
        assert_eq!(counted.losses[&LossPoint::BackendRejected], poison.len() as u64);
        assert_eq!(counted.exported, expected.len() as u64);
        let kept = std::fs::read_to_string(pipeline.state.path().join(DeadLetters::FILE)).unwrap();
        let kept: Vec<serde_json::Value> = kept.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let mut ports: Vec<_> =
            kept.iter().map(|line| line["documents"][0]["dst_port"].as_u64().unwrap()).collect();
        ports.sort_unstable();
        assert_eq!(ports, poison.iter().map(|port| u64::from(*port)).collect::<Vec<_>>());
        assert_eq!(kept[0]["why"], "InvalidArgument: mapper_parsing_exception");
    }
}

/// Records that nobody takes are not given up one by one only because each of them is refused.
#[tokio::test]
async fn an_endpoint_that_refuses_everything_costs_nothing() {
    let endpoint = Endpoint::judging({
        let mut taken = 0;
        move |records| {
            taken += 1;
            // It works at first, is out of order for some time, and works again.
            (4..40).contains(&taken).then(|| {
                assert!(!records.is_empty());
                Answer::Refuse(Status::new(Code::InvalidArgument, "no"))
            })
        }
    })
    .await;
    let mut pipeline = pipeline(&endpoint.url(), &TlsOptions::default(), 8, Fault::None);
    pipeline.push(0..200);
    pipeline.finish().await;
    assert_eq!(stored(&endpoint).await, (0..200).collect::<Vec<_>>());
    assert_eq!(pipeline.counters.read().losses[&LossPoint::BackendRejected], 0);
}

#[tokio::test]
async fn an_endpoint_that_takes_little_gets_little() {
    let endpoint = Endpoint::judging(|records| {
        (records.len() > 5).then(|| Answer::Refuse(Status::new(Code::ResourceExhausted, "too large")))
    })
    .await;
    let mut pipeline = pipeline(&endpoint.url(), &TlsOptions::default(), 64, Fault::None);
    pipeline.push(0..200);
    pipeline.finish().await;
    assert_eq!(stored(&endpoint).await, (0..200).collect::<Vec<_>>());
    assert!(pipeline.counters.read().losses.values().all(|count| *count == 0));
}

/// It rejects the records of one container, and says only how many.
#[tokio::test]
async fn rejections_are_counted_under_their_container_as_soon_as_that_can_be_known() {
    let endpoint = Endpoint::judging(|records| {
        let bad = records.iter().filter(|record| attribute(record, "cgroup_id") == "7").count();
        (bad > 0).then(|| Answer::Partial(bad.try_into().unwrap(), "no such container"))
    })
    .await;
    let mut pipeline = pipeline(&endpoint.url(), &TlsOptions::default(), 10, Fault::None);
    let mixed = |ports: std::ops::Range<u16>| {
        let mut producer = pipeline.spool.producer();
        for port in ports {
            let mut record = record(port);
            record.flow.cgroup_id = if port % 2 == 0 { 7 } else { 8 };
            store(&mut producer, &record);
        }
    };
    mixed(0..10);
    until(|| pipeline.spool.depth() == 0).await;
    mixed(10..40);
    pipeline.finish().await;
    let counted = pipeline.counters.read();
    assert_eq!((counted.losses[&LossPoint::BackendRejected], counted.exported), (20, 20));
    let folder = pipeline.state.path().join("spool");
    drop(pipeline.spool);
    let (_, recovered) = Spool::open(&folder, 1).unwrap();
    let rejected = |cgroup_id| recovered.outcomes.get(&cgroup_id).map_or(0, |o| o.rejected.total);
    assert_eq!([0, 7, 8].map(rejected), [5, 15, 0], "of the first answer it is not known whose they were");
}

#[tokio::test]
async fn a_partial_success_is_an_answer_and_its_rejections_are_losses() {
    let endpoint =
        Endpoint::start([Answer::Partial(3, "mapper_parsing_exception"), Answer::Partial(0, "slow down")])
            .await;
    let mut pipeline = pipeline(&endpoint.url(), &TlsOptions::default(), 10, Fault::None);
    pipeline.push(0..20);
    endpoint.accepted(17).await;
    pipeline.finish().await;

    let counted = pipeline.counters.read();
    assert_eq!(counted.losses[&LossPoint::BackendRejected], 3);
    assert_eq!((counted.exported, counted.export_errors), (17, 0));
    assert_eq!(endpoint.requests().len(), 2, "nothing is sent twice");
}

/// Begins to answer every request, and ends none: a proxy whose upstream stalls.
#[derive(Clone)]
struct Stalls(watch::Sender<u32>);

impl NamedService for Stalls {
    const NAME: &'static str = "opentelemetry.proto.collector.logs.v1.LogsService";
}

impl Service<http::Request<Body>> for Stalls {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        self.0.send_modify(|asked| *asked += 1);
        let never = stream::pending::<Result<Frame<Bytes>, Status>>();
        let answer = http::Response::builder().header("content-type", "application/grpc");
        ready(Ok(answer.body(Body::new(StreamBody::new(never))).unwrap()))
    }
}

#[tokio::test]
async fn an_answer_that_never_ends_is_none_and_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = watch::Sender::new(0);
    let server = Server::builder().add_service(Stalls(asked.clone()));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let pipeline = pipeline(&url, &TlsOptions::default(), 512, Fault::None);
    pipeline.push(0..3);
    for request in 1..3 {
        timeout(Duration::from_secs(20), asked.subscribe().wait_for(|asked| *asked >= request))
            .await
            .unwrap_or_else(|_| panic!("request {request} does not come"))
            .unwrap();
        // Its answer has begun by now, or begins while the clock is still.
        tokio::time::sleep(Duration::from_millis(100)).await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(31)).await;
        tokio::time::resume();
        pipeline.export_cause(|cause| cause.contains("no answer within 30 s")).await;
    }
    assert_eq!(pipeline.spool.depth(), 3, "nothing is forgotten without an answer");
}

#[tokio::test]
async fn an_endpoint_that_comes_late_gets_everything() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut pipeline = pipeline(&format!("http://{address}"), &TlsOptions::default(), 512, Fault::None);
    pipeline.push(0..1000);
    pipeline.export_cause(|cause| cause.contains("refused")).await;
    assert_eq!(pipeline.spool.depth(), 1000);

    let endpoint = Endpoint::on(TcpListener::bind(address).await.unwrap(), [], None);
    let records = endpoint.accepted(1000).await;
    pipeline.finish().await;
    assert_eq!(ports(&records), (0..1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_label_fault_exchanges_the_labels() {
    let endpoint = Endpoint::start([]).await;
    let mut pipeline = pipeline(&endpoint.url(), &TlsOptions::default(), 512, Fault::LabelSwapped);
    pipeline.push(0..1);
    let records = endpoint.accepted(1).await;
    pipeline.finish().await;
    assert_eq!(["agent", "project"].map(|name| attribute(&records[0], name)), ["demo", "scout"]);
}

mod mutual_tls {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use tonic::transport::{Certificate, Identity, ServerTlsConfig};

    use super::*;

    /// An authority, and PEM files of a certificate it signed for `localhost`.
    struct Lane {
        dir: tempfile::TempDir,
        authority: String,
        cert: String,
        key: String,
    }

    fn lane() -> Lane {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let cert = params.signed_by(&key, &authority).unwrap();
        let lane = Lane {
            dir: tempfile::tempdir().unwrap(),
            authority: authority.pem(),
            cert: cert.pem(),
            key: key.serialize_pem(),
        };
        for (name, pem) in [("ca", &lane.authority), ("cert", &lane.cert), ("key", &lane.key)] {
            std::fs::write(lane.dir.path().join(name), pem).unwrap();
        }
        lane
    }

    fn server(lane: &Lane) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(Identity::from_pem(&lane.cert, &lane.key))
            .client_ca_root(Certificate::from_pem(&lane.authority))
    }

    #[tokio::test]
    async fn the_lane_s_own_certificate_is_accepted_and_another_lane_s_is_not() {
        let (ours, theirs) = (lane(), lane());
        let endpoint = Endpoint::start_tls(server(&ours)).await;
        let url = format!("https://localhost:{}", endpoint.port());
        let file = |lane: &Lane, name: &str| Some(lane.dir.path().join(name));

        let stranger =
            TlsOptions { ca: file(&ours, "ca"), cert: file(&theirs, "cert"), key: file(&theirs, "key") };
        let refused = pipeline(&url, &stranger, 512, Fault::None);
        refused.push(0..1);
        refused.export_cause(|cause| !cause.is_empty() && !cause.starts_with("starting")).await;
        assert_eq!(refused.spool.depth(), 1);
        assert!(endpoint.requests().is_empty());

        let member = TlsOptions { ca: file(&ours, "ca"), cert: file(&ours, "cert"), key: file(&ours, "key") };
        let mut accepted = pipeline(&url, &member, 512, Fault::None);
        accepted.push(0..1);
        endpoint.accepted(1).await;
        accepted.finish().await;
        refused.exporting.abort();
    }

    #[tokio::test]
    async fn options_that_do_not_fit_are_refused() {
        let refusal = |url: &str, tls: &TlsOptions| Client::new(url, tls).unwrap_err().to_string();
        let none = TlsOptions::default();
        assert!(refusal("https://localhost:1", &none).contains("--tls-ca"));
        assert!(refusal("ftp://localhost:1", &none).contains("neither http"));
        let with_ca = TlsOptions { ca: Some("/nowhere/ca.pem".into()), ..TlsOptions::default() };
        assert!(refusal("http://localhost:1", &with_ca).contains("is plain"));
        assert!(refusal("https://localhost:1", &with_ca).contains("/nowhere/ca.pem"));
    }
}
