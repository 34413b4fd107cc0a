//! The endpoint keeps what it is sent, in the shape of the collector's exporter, and wakes who waits.

use std::{
    thread,
    time::{Duration, Instant},
};

use harness::endpoint::{Answer, Endpoint};
use opentelemetry_proto::tonic::{
    collector::logs::v1::{ExportLogsServiceRequest, logs_service_client::LogsServiceClient},
    common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value as Any},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};
use serde_json::{Value, json};

const STREAM: &str = "clawker-egress";

fn any(value: Any) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

fn attribute(key: &str, value: Any) -> KeyValue {
    KeyValue { key: key.to_owned(), value: any(value), ..KeyValue::default() }
}

fn request(stream: &str, records: Vec<LogRecord>) -> ExportLogsServiceRequest {
    let attributes = vec![
        attribute("service.name", Any::StringValue(stream.to_owned())),
        attribute("process.pid", Any::IntValue(7)),
    ];
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_logs: vec![ScopeLogs { log_records: records, ..ScopeLogs::default() }],
            ..ResourceLogs::default()
        }],
    }
}

fn numbered(number: i64) -> LogRecord {
    LogRecord { attributes: vec![attribute("number", Any::IntValue(number))], ..LogRecord::default() }
}

fn export(endpoint: &Endpoint, requests: Vec<ExportLogsServiceRequest>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = LogsServiceClient::connect(endpoint.uri().unwrap()).await.unwrap();
        for request in requests {
            let answer = client.export(request).await.unwrap().into_inner();
            assert_eq!(answer.partial_success, None);
        }
    });
}

#[test]
fn documents_have_the_shape_of_ss4o() {
    let endpoint = Endpoint::start().unwrap();
    let list = KeyValueList { values: vec![attribute("inner", Any::BoolValue(true))] };
    let array = ArrayValue { values: vec![AnyValue { value: Some(Any::IntValue(1)) }] };
    let record = LogRecord {
        time_unix_nano: 1_700_000_000_123_456_789,
        observed_time_unix_nano: 1_700_000_001_000_000_000,
        severity_number: 9,
        severity_text: "INFO".to_owned(),
        body: any(Any::StringValue("flow".to_owned())),
        attributes: vec![
            attribute("verdict", Any::StringValue("DENIED".to_owned())),
            attribute("dst_port", Any::IntValue(443)),
            attribute("dst_host_ambiguous", Any::BoolValue(false)),
            attribute("ratio", Any::DoubleValue(0.5)),
            attribute("list", Any::KvlistValue(list)),
            attribute("array", Any::ArrayValue(array)),
        ],
        ..LogRecord::default()
    };
    export(&endpoint, vec![request(STREAM, vec![record.clone(), record])]);
    let documents = endpoint.documents(STREAM, |_| true);
    let expected = json!({
        "@timestamp": "2023-11-14T22:13:20.123456789Z",
        "observedTimestamp": "2023-11-14T22:13:21Z",
        "body": "flow",
        "severity": {"text": "INFO", "number": 9},
        "attributes": {
            "verdict": "DENIED", "dst_port": 443, "dst_host_ambiguous": false, "ratio": 0.5,
            "list": {"inner": true}, "array": [1],
            "data_stream": {"dataset": "default", "namespace": "namespace", "type": "record"},
        },
        "resource": {"service.name": STREAM, "process.pid": "7"},
    });
    assert_eq!(documents, [expected.clone(), expected], "duplicates are kept");
    assert_eq!(endpoint.documents("clawker-envoy", |_| true), Vec::<Value>::new());
    assert_eq!(endpoint.documents(STREAM, |document| document["body"] == "other"), Vec::<Value>::new());
}

#[test]
fn waiting_ends_with_the_document_and_not_before() {
    let endpoint = Endpoint::start().unwrap();
    let is = |number: i64| move |document: &Value| document["attributes"]["number"] == number;
    let soon = Instant::now() + Duration::from_millis(50);
    assert_eq!(endpoint.wait_for(STREAM, is(2), soon), None);
    assert!(Instant::now() >= soon);
    let late = Instant::now() + Duration::from_secs(20);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| endpoint.wait_for(STREAM, is(2), late));
        export(
            &endpoint,
            vec![
                request(STREAM, vec![numbered(1)]),
                request("clawker-envoy", vec![numbered(2)]),
                request(STREAM, vec![numbered(2), numbered(3)]),
            ],
        );
        let found = waiting.join().unwrap().expect("the document");
        assert_eq!(found["resource"]["service.name"], STREAM);
    });
    assert!(Instant::now() < late);
    assert!(endpoint.wait_for(STREAM, is(1), Instant::now()).is_some(), "what is there is found at once");
}

#[test]
fn a_hundred_thousand_documents_are_no_burden() {
    let endpoint = Endpoint::start().unwrap();
    let start = Instant::now();
    let batch = |first: i64| request(STREAM, (first..first + 1000).map(numbered).collect());
    export(&endpoint, (0..100).map(|i| batch(i * 1000)).collect());
    let stored = start.elapsed();
    let last = |document: &Value| document["attributes"]["number"] == 99_999;
    assert!(endpoint.wait_for(STREAM, last, Instant::now() + Duration::from_secs(20)).is_some());
    let numbers =
        endpoint.documents(STREAM, |document| document["attributes"]["number"].as_i64() >= Some(99_990));
    assert_eq!(numbers.len(), 10);
    eprintln!("100,000 documents stored in {stored:?}, searched in {:?}", start.elapsed() - stored);
    assert!(stored < Duration::from_secs(60), "{stored:?}");
}

/// What became of one request with `records` records: what was rejected, or the status.
fn try_export(endpoint: &Endpoint, records: i64) -> Result<i64, tonic::Code> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let connected = LogsServiceClient::connect(endpoint.uri().unwrap()).await;
        let mut client = connected.map_err(|_| tonic::Code::Unavailable)?;
        let answer = client.export(request(STREAM, (0..records).map(numbered).collect())).await;
        let partial = answer.map_err(|status| status.code())?.into_inner().partial_success;
        Ok(partial.map_or(0, |partial| partial.rejected_log_records))
    })
}

#[test]
fn answers_are_as_they_are_set() {
    let endpoint = Endpoint::start().unwrap();
    let soon = || Instant::now() + Duration::from_millis(10);
    for (answer, told, stored) in [
        (Answer::Accept, Ok(0), 5),
        (Answer::Reject, Err(tonic::Code::InvalidArgument), 0),
        (Answer::Slow, Ok(0), 5),
        (Answer::Partial, Ok(3), 2),
        (Answer::Internal, Err(tonic::Code::Internal), 0),
    ] {
        endpoint.answer(answer);
        let before = endpoint.received();
        assert_eq!(try_export(&endpoint, 0), Ok(0), "{answer}: a probe");
        assert!(!endpoint.has_answered(soon()), "{answer}: a probe meets no answer");
        assert_eq!(try_export(&endpoint, 5), told, "{answer}");
        assert_eq!(endpoint.received() - before, stored, "{answer}");
        assert!(endpoint.has_answered(soon()), "{answer}");
    }
}

#[test]
fn it_goes_away_and_comes_back_to_the_same_port() {
    let endpoint = Endpoint::start().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut client = runtime.block_on(LogsServiceClient::connect(endpoint.uri().unwrap())).unwrap();
    runtime.block_on(client.export(request(STREAM, vec![numbered(1)]))).unwrap();
    let away = Duration::from_millis(300);
    let began = Instant::now();
    endpoint.leave(away);
    assert!(endpoint.is_away());
    assert_eq!(try_export(&endpoint, 1), Err(tonic::Code::Unavailable), "its listener is closed");
    assert!(runtime.block_on(client.export(request(STREAM, vec![]))).is_err(), "its connection is cut");
    while try_export(&endpoint, 1).is_err() {
        assert!(began.elapsed() < away + Duration::from_secs(5), "it does not come back");
        thread::sleep(Duration::from_millis(5));
    }
    assert!(began.elapsed() >= away && !endpoint.is_away());
    assert_eq!(endpoint.received(), 2);
}
