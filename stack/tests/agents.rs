//! The lane of agents, in a real collector: what becomes of what they send, and that nothing else of it does.

mod servers;

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, ExitCode},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use serde_json::{Value, json};
use stack::{
    AGENTS_MEMORY, AGENTS_VARIABLE, Collector,
    certificates::{Authority, Role},
};
use tempfile::TempDir;
use ureq::{
    Agent,
    tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig},
};

/// Longer than the collector takes for anything here.
const LONG: Duration = Duration::from_secs(30);
/// What no document, no series and no file may have.
const SECRET: &str = "the launch codes are 4711";
/// A label that is hard to write down.
const LABEL: &str = "a \"b\" \\n\n\t}{ü#";

fn main() -> ExitCode {
    let test = |name, body: fn(&Running) -> Result<(), Failed>| {
        Trial::ignorable_test(name, move || match Running::start()? {
            Ok(running) => body(&running).map(|()| Completion::Completed),
            Err(reason) => Ok(Completion::Ignored { reason: Some(reason) }),
        })
    };
    let trials = vec![
        test("events are what the table has", events),
        test("text in any place of an event is nowhere", text_in_events),
        test("text in any place of a metric is nowhere", text_in_metrics),
        test("nothing of what captures add is told", captures),
        test("what an agent says of itself is a claim", claims),
        test("an attribute twice is not the lane's", twice),
        test("values that are no values harm nobody", poison),
        test("counters add up, with labels byte for byte", counters),
        test("labels of a metric are of a few", few_series),
        test("a request without an identity is refused", nobody),
        test("a flood of records that say nothing costs no more than its bound, and nobody else", flood),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A collector of its own, with the lane's own receiver, processors and exporter of metrics; its events are in a file.
struct Running {
    collector: Child,
    folder: TempDir,
    url: String,
    metrics: String,
    /// Where it tells of itself.
    own: String,
    agent: Agent,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.collector.kill();
        let _ = self.collector.wait();
    }
}

impl Running {
    fn start() -> Result<Result<Self, String>, Failed> {
        let otelcol = match servers::binary("otelcol", "collector") {
            Ok(otelcol) => otelcol,
            Err(reason) => return Ok(Err(reason)),
        };
        let folder = tempfile::tempdir()?;
        let path = folder.path().to_str().ok_or("a path in UTF-8")?.to_owned();
        let server = Authority::open(folder.path(), "collector")?;
        server.issue(&["127.0.0.1"], Role::Server, LONG * 100)?.write(folder.path(), "server")?;
        let client =
            Authority::open(folder.path(), "claude")?.issue(&["claude"], Role::Client, LONG * 100)?;
        let [grpc, http, metrics, own] = ports()?;
        let metrics = format!("127.0.0.1:{metrics}");
        let whole = Collector {
            login: None,
            store: "https://opensearch.test:9200".to_owned(),
            relay: None,
            certificates: path.clone(),
            resolver_log: String::new(),
            state: String::new(),
            metrics: metrics.clone(),
        }
        .agents_config();
        let config = lane(&whole, &path, [grpc, http, own]).to_string();
        fs::write(folder.path().join("config.yaml"), config)?;
        let log = fs::File::create(folder.path().join("log"))?;
        let collector = Command::new(otelcol)
            .current_dir(folder.path())
            .args(["--config", "config.yaml"])
            .env(AGENTS_VARIABLE.0, AGENTS_VARIABLE.1)
            .stderr(log)
            .spawn()?;
        let certificate = Certificate::from_pem(client.certificate.as_bytes())?;
        let client = ClientCert::new_with_certs(&[certificate], PrivateKey::from_pem(client.key.as_bytes())?);
        let authority = Certificate::from_pem(server.certificate().as_bytes())?;
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&[authority]))
            .client_cert(Some(client))
            .build();
        let agent = Agent::config_builder().tls_config(tls).http_status_as_error(false).proxy(None);
        let running = Self {
            collector,
            folder,
            url: format!("https://127.0.0.1:{http}"),
            metrics,
            own: format!("127.0.0.1:{own}"),
            agent: agent.build().new_agent(),
        };
        let deadline = Instant::now() + LONG;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, http)).is_err() {
            if Instant::now() > deadline {
                return Err(running.told().into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Ok(running))
    }

    fn told(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Sends a request as the proxy does for this agent; the answer's status.
    fn send_of(&self, request: &Value, labels: Option<(&str, &str)>) -> Result<u16, Failed> {
        let signal = if request.get("resourceMetrics").is_some() { "metrics" } else { "logs" };
        let mut post =
            self.agent.post(format!("{}/v1/{signal}", self.url)).header("content-type", "application/json");
        if let Some((agent, project)) = labels {
            post = post
                .header("x-clawker-agent", STANDARD.encode(agent))
                .header("x-clawker-project", STANDARD.encode(project))
                .header("x-clawker-container-id", STANDARD.encode("one"))
                .header("x-clawker-src-ip", "198.18.0.2");
        }
        Ok(post.send(request.to_string())?.status().as_u16())
    }

    fn send(&self, request: &Value) -> Result<u16, Failed> {
        self.send_of(request, Some((LABEL, "")))
    }

    /// The documents so far, as soon as there are so many.
    fn documents(&self, count: usize) -> Result<Vec<Value>, Failed> {
        let deadline = Instant::now() + LONG;
        loop {
            let documents = records(&self.file());
            if documents.len() >= count {
                return Ok(documents);
            }
            if Instant::now() > deadline {
                return Err(format!("{} of {count} documents\n{}", documents.len(), self.told()).into());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn file(&self) -> String {
        fs::read_to_string(self.folder.path().join("claude.json")).unwrap_or_default()
    }

    /// What Prometheus would be told.
    fn series(&self) -> Result<String, Failed> {
        self.page(&self.metrics)
    }

    /// How many `logs` or `datapoints` it dropped because they are none of Claude Code's, as it tells Prometheus.
    fn dropped(&self, kind: &str) -> Result<f64, Failed> {
        let name = format!("otelcol_processor_filter_{kind}_filtered{{");
        let page = self.page(&self.own)?;
        let rows = page.lines().filter(|line| line.starts_with(&name));
        Ok(rows.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    fn page(&self, of: &str) -> Result<String, Failed> {
        let url = format!("http://{of}/metrics");
        // As Prometheus asks: for exemplars too, if there are any.
        let accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
        let mut answer = self.agent.get(url).header("accept", accept).call()?;
        Ok(answer.body_mut().read_to_string()?)
    }

    /// That a request of every kind is still taken, and that nothing anywhere has the text.
    fn is_well_and_silent(&self) -> Result<(), Failed> {
        let before = self.documents(0)?.len();
        for request in [fixture("api_request"), fixture("metrics")] {
            assert_eq!(self.send(&request)?, 200);
        }
        self.documents(before + 1)?;
        let silent = |place: &str, text: &str| {
            // As it is, as JSON has it, and as identifiers and bytes are written.
            let forms = [SECRET.to_owned(), SECRET.replace(' ', "_"), hex(SECRET), STANDARD.encode(SECRET)];
            for form in forms {
                let form: String = form.chars().take(16).collect();
                if let Some(at) = text.find(&form) {
                    let around = text.get(at.saturating_sub(300)..text.len().min(at + 300));
                    return Err(Failed::from(format!("{place} has it: …{}…", around.unwrap_or(text))));
                }
            }
            Ok(())
        };
        silent("a document", &self.file())?;
        silent("a series", &self.series()?)?;
        silent("the collector's log", &self.told())
    }
}

/// The configuration with that lane alone.
fn lane(whole: &Value, folder: &str, [grpc, http, own]: [u16; 3]) -> Value {
    let mut receiver = whole["receivers"]["otlp/claude"].clone();
    for (protocol, port) in [("grpc", grpc), ("http", http)] {
        receiver["protocols"][protocol]["endpoint"] = json!(format!("127.0.0.1:{port}"));
    }
    let mut pipelines = json!({});
    for name in ["logs/claude", "metrics/claude"] {
        pipelines[name] = whole["service"]["pipelines"][name].clone();
    }
    pipelines["logs/claude"]["exporters"] = json!(["file"]);
    let mut telemetry = whole["service"]["telemetry"].clone();
    telemetry["metrics"]["readers"][0]["pull"]["exporter"]["prometheus"]["port"] = json!(own);
    json!({
        "receivers": {"otlp/claude": receiver},
        "processors": whole["processors"],
        "exporters": {
            "file": {"path": format!("{folder}/claude.json"), "flush_interval": "20ms"},
            "prometheus": whole["exporters"]["prometheus"],
        },
        "service": {"pipelines": pipelines, "telemetry": telemetry},
    })
}

/// Ports that nobody has.
fn ports() -> Result<[u16; 4], Failed> {
    let listeners = [0; 4].map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
    let mut ports = [0; 4];
    for (port, listener) in ports.iter_mut().zip(listeners) {
        *port = listener?.local_addr()?.port();
    }
    Ok(ports)
}

fn fixture(name: &str) -> Value {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/claude-code"));
    let text = fs::read(path.join(format!("{name}.json"))).expect("a fixture");
    serde_json::from_slice(&text).expect("JSON")
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(document: &Value) -> BTreeMap<String, Value> {
    pairs(&document["record"]["attributes"])
}

/// What a file of OTLP requests, one a line, has: each record, and the resource and scope that it is of.
fn records(text: &str) -> Vec<Value> {
    let mut records = Vec::new();
    // The last line may be half written.
    for request in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        for resource in list(&request["resourceLogs"]) {
            for scope in list(&resource["scopeLogs"]) {
                for record in list(&scope["logRecords"]) {
                    records.push(json!({
                        "resource": resource["resource"]["attributes"],
                        "scope": scope["scope"],
                        "record": record,
                    }));
                }
            }
        }
    }
    records
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Attributes by their keys.
fn pairs(attributes: &Value) -> BTreeMap<String, Value> {
    let pair = |attribute: &Value| Some((attribute["key"].as_str()?.to_owned(), attribute["value"].clone()));
    list(attributes).iter().filter_map(pair).collect()
}

/// Every place below `value`, as a JSON pointer.
fn places(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| places(value, &format!("{at}/{key}"), all))
        }
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(i, value)| places(value, &format!("{at}/{i}"), all));
        }
        _ => {}
    }
}

/// Sends a request with the text in each of its places, as a text, as a key, nested, as bytes, and as numbers are.
fn text_everywhere(running: &Running, request: &Value) -> Result<(), Failed> {
    let mut all = Vec::new();
    places(request, "", &mut all);
    let list = json!({"arrayValue": {"values": [{"stringValue": SECRET}, {"doubleValue": "NaN"}]}});
    let nested = json!({"kvlistValue": {"values": [{"key": SECRET, "value": list}]}});
    let word = SECRET.replace(' ', "_");
    let mut taken = 0;
    for place in all {
        for value in [
            json!(SECRET),
            json!({"stringValue": SECRET}),
            nested.clone(),
            json!({"bytesValue": STANDARD.encode(SECRET)}),
        ] {
            let mut request = request.clone();
            if let Some(there) = request.pointer_mut(&place) {
                *there = value;
            }
            taken += u32::from(running.send(&request)? == 200);
        }
        // Beside what is there, under the text's own name.
        for (key, value) in [
            (
                "attributes",
                json!([{"key": SECRET, "value": {"stringValue": "x"}}, {"key": word, "value": nested}]),
            ),
            ("schemaUrl", json!(SECRET)),
            ("severityText", json!(word)),
            ("eventName", json!(word)),
            ("name", json!(word)),
            ("version", json!(word)),
            ("unit", json!(word)),
            ("description", json!(SECRET)),
            ("traceId", json!(hex(SECRET)[..32])),
            ("spanId", json!(hex(SECRET)[..16])),
            (
                "exemplars",
                json!([{"asInt": "1", "traceId": hex(SECRET)[..32], "spanId": hex(SECRET)[..16],
                "filteredAttributes": [{"key": word, "value": {"stringValue": SECRET}}]}]),
            ),
            ("metadata", json!([{"key": word, "value": {"stringValue": SECRET}}])),
        ] {
            let mut request = request.clone();
            if let Some(Value::Object(there)) = request.pointer_mut(&place) {
                there.insert(key.to_owned(), value);
                taken += u32::from(running.send(&request)? == 200);
            }
        }
    }
    // Most of these are requests that a sender may make. What is like a word in a place of one passes: no rule could tell.
    assert!(taken > 200, "{taken} were taken");
    running.is_well_and_silent()
}

fn text_in_events(running: &Running) -> Result<(), Failed> {
    text_everywhere(running, &fixture("tool_result"))
}

fn text_in_metrics(running: &Running) -> Result<(), Failed> {
    let mut request = fixture("metrics");
    let metrics =
        request.pointer_mut("/resourceMetrics/0/scopeMetrics/0/metrics").and_then(Value::as_array_mut);
    metrics.expect("metrics").retain(|metric| {
        ["claude_code.cost.usage", "claude_code.code_edit_tool.decision"]
            .iter()
            .any(|name| metric["name"] == **name)
    });
    text_everywhere(running, &request)
}

fn captures(running: &Running) -> Result<(), Failed> {
    assert_eq!(running.send(&fixture("with_prompts"))?, 200);
    running.documents(5)?;
    running.is_well_and_silent()
}

fn events(running: &Running) -> Result<(), Failed> {
    assert_eq!(running.send(&fixture("session"))?, 200);
    let mut documents = running.documents(5)?;
    for document in &mut documents {
        // When it was is of the moment.
        for time in ["timeUnixNano", "observedTimeUnixNano"] {
            assert!(document["record"].as_object_mut().and_then(|record| record.remove(time)).is_some());
        }
    }
    insta::assert_json_snapshot!("documents of claude", documents);
    Ok(())
}

fn claims(running: &Running) -> Result<(), Failed> {
    let mut request = fixture("api_request");
    let claim = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    for (place, claims) in [
        (
            "/resourceLogs/0/resource/attributes",
            vec![
                claim("service.name", "clawker-egress"),
                claim("project", "other"),
                claim("data_stream.dataset", "x"),
            ],
        ),
        (
            "/resourceLogs/0/scopeLogs/0/logRecords/0/attributes",
            vec![
                claim("agent", "another"),
                claim("container_id", "another"),
                claim("src_ip", "203.0.113.1"),
                claim("lane.agent", "YW5vdGhlcg=="),
                claim("data_stream", "clawker-egress"),
                claim("data_stream.dataset", "egress"),
                claim("elasticsearch.index", "clawker-egress"),
                claim("claimed.agent", "nobody"),
                claim("verdict", "ALLOWED"),
            ],
        ),
    ] {
        let there = request.pointer_mut(place).and_then(Value::as_array_mut).expect("attributes");
        // First and last, whichever of two counts.
        for one in claims {
            there.insert(0, one.clone());
            there.push(one);
        }
    }
    assert_eq!(running.send_of(&request, Some(("scout", "demo")))?, 200);
    let documents = running.documents(1)?;
    let attributes = attributes(&documents[0]);
    let text = |name: &str| attributes.get(name).and_then(|value| value["stringValue"].as_str());
    for (name, value) in [
        ("agent", Some("scout")),
        ("project", Some("demo")),
        ("container_id", Some("one")),
        ("src_ip", Some("198.18.0.2")),
        ("claimed.agent", Some("another")),
        ("claimed.project", Some("other")),
        ("claimed.service_name", Some("clawker-egress")),
        ("data_stream", None),
        ("data_stream.dataset", None),
        ("elasticsearch.index", None),
        ("verdict", None),
        ("lane.agent", None),
    ] {
        assert_eq!(text(name), value, "{name}");
    }
    assert_eq!(
        pairs(&documents[0]["resource"]).get("service.name"),
        Some(&json!({"stringValue": "clawker-claude"}))
    );
    Ok(())
}

fn twice(running: &Running) -> Result<(), Failed> {
    let mut request = fixture("api_request");
    let there = request
        .pointer_mut("/resourceLogs/0/scopeLogs/0/logRecords/0/attributes")
        .and_then(Value::as_array_mut);
    let there = there.expect("attributes");
    for name in ["agent", "project", "lane.agent", "model", "event.name"] {
        for value in ["one", SECRET, "three"] {
            there.push(json!({"key": name, "value": {"stringValue": value}}));
        }
    }
    assert_eq!(running.send(&request)?, 200);
    let documents = running.documents(1)?;
    let keys: Vec<&str> =
        list(&documents[0]["record"]["attributes"]).iter().filter_map(|pair| pair["key"].as_str()).collect();
    let once: std::collections::BTreeSet<&str> = keys.iter().copied().collect();
    assert_eq!(keys.len(), once.len(), "{keys:?}");
    assert_eq!(attributes(&documents[0])["agent"], json!({"stringValue": LABEL}));
    assert_eq!(attributes(&documents[0])["project"], json!({"stringValue": ""}));
    running.is_well_and_silent()
}

/// Values of every type for every attribute, with those that JSON has no number for.
fn poison(running: &Running) -> Result<(), Failed> {
    let request = fixture("session");
    let mut all = Vec::new();
    places(&request, "", &mut all);
    let values = [
        json!({"doubleValue": "NaN"}),
        json!({"doubleValue": "Infinity"}),
        json!({"doubleValue": 1e300}),
        json!({"intValue": "-9223372036854775808"}),
        json!({"stringValue": "1e999"}),
        json!({"stringValue": "9".repeat(400)}),
        json!({"stringValue": ""}),
        json!({"stringValue": "a".repeat(100_000)}),
        json!({"boolValue": true}),
        json!({}),
        json!({"arrayValue": {"values": [{"doubleValue": "NaN"}]}}),
        json!({"kvlistValue": {"values": [{"key": "", "value": {"doubleValue": "Infinity"}}]}}),
        json!({"stringValue": "2026-13-41T25:61:61Z"}),
        json!({"stringValue": "\u{0}\u{7f}\u{202e}"}),
    ];
    for place in all.iter().filter(|place| place.ends_with("/value")) {
        for value in &values {
            let mut request = request.clone();
            *request.pointer_mut(place).expect("a value") = value.clone();
            assert_eq!(running.send(&request)?, 200, "{place} {value}: {}", running.told());
        }
    }
    let sent = all.iter().filter(|place| place.ends_with("/value")).count() * values.len() * 5;
    // Each of the five has its name taken away once: that is none of Claude Code's.
    let documents = running.documents(sent - 5)?;
    assert_eq!(running.dropped("logs")?, 5.0);
    let table: BTreeMap<&str, &documents::Field> =
        documents::CLAUDE.fields.iter().map(|field| (field.name, field)).collect();
    for document in &documents {
        for (name, value) in attributes(document) {
            let field = table.get(name.as_str()).unwrap_or_else(|| panic!("{name} is in no table"));
            let fits = match field.kind {
                documents::Kind::Long => value["intValue"].is_string(),
                documents::Kind::Double => value["doubleValue"].as_f64().is_some_and(f64::is_finite),
                _ => value["stringValue"].as_str().is_some_and(|text| text.len() <= 128 || name == "agent"),
            };
            assert!(fits, "{name}: {value}");
        }
    }
    Ok(())
}

/// Series by name and labels, as the exposition writes them.
fn value_of(series: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let line = series.lines().find(|line| {
        line.starts_with(&format!("{name}{{"))
            && labels.iter().all(|(key, value)| line.contains(&format!("{key}=\"{value}\"")))
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

fn counters(running: &Running) -> Result<(), Failed> {
    for _ in 0..3 {
        assert_eq!(running.send(&fixture("metrics"))?, 200);
    }
    assert_eq!(running.send_of(&fixture("metrics"), Some(("other", "demo")))?, 200);
    let mut nothing = fixture("metrics");
    for point in
        ["/resourceMetrics/0/scopeMetrics/0/metrics/0", "/resourceMetrics/0/scopeMetrics/0/metrics/4"]
    {
        let metric = nothing.pointer_mut(point).expect("a metric");
        let point = metric["sum"]["dataPoints"][0].as_object_mut().expect("a point");
        point.remove("asDouble");
        point.insert("asInt".to_owned(), json!("0"));
    }
    assert_eq!(running.send_of(&nothing, Some(("other", "demo")))?, 200);
    let series = running.series()?;
    let written = LABEL.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    for (name, labels, value) in [
        ("claude_code_session_count_total", vec![("start_type", "fresh")], 3.0),
        ("claude_code_cost_usage_USD_total", vec![("model", "claude-opus-5")], 0.75),
        (
            "claude_code_token_usage_tokens_total",
            vec![("type", "cacheRead"), ("model", "claude-opus-5")],
            138_270.0,
        ),
        ("claude_code_active_time_seconds_total", vec![("type", "cli")], 127.5),
        ("claude_code_lines_of_code_count_total", vec![("type", "added")], 36.0),
        (
            "claude_code_code_edit_tool_decision_total",
            vec![("decision", "accept"), ("tool_name", "Write")],
            6.0,
        ),
        ("claude_code_commit_count_total", vec![], 3.0),
        ("claude_code_pull_request_count_total", vec![], 3.0),
    ] {
        let mut labels = labels;
        labels.extend([("agent", written.as_str()), ("project", ""), ("container_id", "one")]);
        assert_eq!(value_of(&series, name, &labels), Some(value), "{name}: {series}");
    }
    let of_other = [("agent", "other"), ("project", "demo")];
    assert_eq!(value_of(&series, "claude_code_session_count_total", &of_other), Some(1.0));
    assert_eq!(value_of(&series, "claude_code_cost_usage_USD_total", &of_other), Some(0.25));
    assert!(!series.contains("target_info") && !series.contains("operator@example.com"), "{series}");
    Ok(())
}

/// However a sender varies what it sends, and whatever else it makes of a metric.
fn few_series(running: &Running) -> Result<(), Failed> {
    let request = fixture("metrics");
    for round in 0..50 {
        let mut request = request.clone();
        let metrics =
            request.pointer_mut("/resourceMetrics/0/scopeMetrics/0/metrics").and_then(Value::as_array_mut);
        for metric in metrics.into_iter().flatten() {
            for point in metric["sum"]["dataPoints"].as_array_mut().into_iter().flatten() {
                for attribute in point["attributes"].as_array_mut().into_iter().flatten() {
                    attribute["value"] = json!({"stringValue": format!("claude-new{round}-5-{round}")});
                }
            }
        }
        assert_eq!(running.send(&request)?, 200);
    }
    let name = "claude_code.session.count";
    let point = json!({"asDouble": 5.0, "timeUnixNano": "1788284340000000000"});
    for metric in [
        json!({"name": name, "gauge": {"dataPoints": [point]}}),
        json!({"name": name, "sum": {"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [point]}}),
        json!({"name": name, "sum": {"aggregationTemporality": 1, "isMonotonic": false, "dataPoints": [point]}}),
        json!({"name": name, "summary": {"dataPoints": [{"count": "1", "sum": 5.0}]}}),
        json!({"name": name, "histogram": {"aggregationTemporality": 1, "dataPoints": [{"count": "1", "sum": 5.0}]}}),
        json!({"name": "claude_code.other", "sum": {"aggregationTemporality": 1, "isMonotonic": true, "dataPoints": [point]}}),
    ] {
        let request = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]});
        assert_eq!(running.send(&request)?, 200);
    }
    for value in [json!(-5.0), json!("NaN"), json!("Infinity"), json!(1e300)] {
        let mut point = point.clone();
        point["asDouble"] = value;
        let sum = json!({"aggregationTemporality": 1, "isMonotonic": true, "dataPoints": [point]});
        let request =
            json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": name, "sum": sum}]}]}]});
        assert_eq!(running.send(&request)?, 200);
    }
    let series = running.series()?;
    let lines: Vec<&str> = series.lines().filter(|line| !line.starts_with('#')).collect();
    // Each label's every value is another's now.
    assert_eq!(lines.len(), 8, "{series}");
    assert_eq!(
        value_of(&series, "claude_code_session_count_total", &[("start_type", "other")]),
        Some(50.0),
        "{series}"
    );
    Ok(())
}

fn nobody(running: &Running) -> Result<(), Failed> {
    for request in [fixture("api_request"), fixture("metrics")] {
        assert!(running.send_of(&request, None)? >= 400);
    }
    running.is_well_and_silent()?;
    assert_eq!(running.documents(1)?.len(), 1);
    assert_eq!(value_of(&running.series()?, "claude_code_session_count_total", &[]), Some(1.0));
    Ok(())
}

/// Requests of one container that the proxy lets through at once: two of each protocol.
const AT_ONCE: usize = 4;
/// Bytes that it takes in one.
const REQUEST: usize = 512 << 10;

fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let (mut field, mut length) = (vec![tag << 3 | 2], content.len());
    while length > 127 {
        field.push(u8::try_from(length & 127).unwrap_or_default() | 128);
        length >>= 7;
    }
    field.push(u8::try_from(length).unwrap_or_default());
    field.extend(content);
    field
}

/// As large requests as there can be, of records and of points that are two bytes each; and how many each has.
fn nothing() -> ([(&'static str, Vec<u8>); 2], usize) {
    let count = (REQUEST - 128) / 2;
    let records = field(1, &field(2, &field(2, &[]).repeat(count)));
    // Of a counter that is known, by how much it rose.
    let points = [field(1, &[]).repeat(count), vec![2 << 3, 1, 3 << 3, 1]].concat();
    let metric = [field(1, b"claude_code.session.count"), field(7, &points)].concat();
    let points = field(1, &field(2, &field(2, &metric)));
    ([("logs", records), ("metrics", points)], count)
}

fn flood(running: &Running) -> Result<(), Failed> {
    let (requests, count) = nothing();
    let taken = [0; 2].map(|_| AtomicUsize::new(0));
    let send = || -> Result<(), Failed> {
        for ((signal, request), taken) in requests.iter().zip(&taken).cycle().take(8) {
            let post = running.agent.post(format!("{}/v1/{signal}", running.url));
            let post = post.header("content-type", "application/x-protobuf");
            match post.header("x-clawker-agent", "bG91ZA==").send(&request[..])?.status().as_u16() {
                200 => taken.fetch_add(1, Ordering::Relaxed),
                // To be sent again.
                503 => 0,
                other => return Err(format!("{signal}: {other}: {}", running.told()).into()),
            };
        }
        Ok(())
    };
    thread::scope(|scope| {
        let floods: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(send)).collect();
        // Another's is taken meanwhile.
        let mut quiet = 0;
        while floods.iter().any(|flood| !flood.is_finished()) {
            quiet += usize::from(running.send(&fixture("api_request"))? == 200);
        }
        floods.into_iter().try_for_each(|flood| flood.join().map_err(|_| "it panicked")?)?;
        assert!(quiet > 0);
        assert_eq!(running.documents(quiet)?.len(), quiet);
        Ok::<_, Failed>(())
    })?;
    for (taken, kind) in taken.into_iter().map(AtomicUsize::into_inner).zip(["logs", "datapoints"]) {
        assert!(taken > 0, "{kind}");
        assert_eq!(running.dropped(kind)?, f64::from(u32::try_from(taken * count)?), "{kind}");
    }
    let peak = most_memory(running.collector.id())?;
    assert!(peak < u64::from(AGENTS_MEMORY) << 20, "{} MiB", peak >> 20);
    Ok(())
}

/// The most memory that a process had, bytes.
fn most_memory(process: u32) -> Result<u64, Failed> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next());
    Ok(most.ok_or("no VmHWM")?.parse::<u64>()? << 10)
}
