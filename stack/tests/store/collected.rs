//! What servers write, through the collector and its exporter, into the strict mappings: each attribute is in its table,
//! and each of the table is written.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use documents::{COREDNS, CP, EGRESS, ENVOY, Kind, OVERSEER, Stream};
use libtest_mimic::Failed;
use serde_json::{Map, Value, json};
use stack::{Collector, Container, Envoy, Lane, Listeners, Login, Plan, Telemetry, Upstream, store::Wanted};

use crate::plain::Plain;

/// Longer than the collector takes for anything here.
const LONG: Duration = Duration::from_secs(60);

/// Of the resolver's log: one of each kind of line.
const LINES: &str = "\
2026-11-29T16:41:42.12345 [INFO] clawker container =YQ== =cA== =b25l 198.18.0.2 4000 udp 7 A IN NOERROR qr,rd,ra 32 48 0.5s api.test.
2026-11-29T16:41:42.12346 [INFO] clawker container =YQ== =cA== =b25l [2001:db8::2] 4000 tcp 7 AAAA IN NXDOMAIN qr,aa,rd,ra 32 48 0.25s a\\\"b\\007.test.
2026-11-29T16:41:42.123465 [INFO] clawker container =YQ== =cA== =b25l 198.18.0.2 4000 udp 7 A IN NOERROR qr,rd,ra,cd 32 48 0.5s free.test.
2026-11-29T16:41:42.12347 [INFO] clawker nobody = = = 198.18.0.9 4000 udp 7 A IN REFUSED qr,aa,rd 32 32 0.5s api.test.
2026-11-29T16:41:42.12348 [ERROR] plugin/errors: 2 api.test. A: unreachable
";

/// Ends a process on drop.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn written(plain: &Plain, otelcol: &Path) -> Result<(), Failed> {
    plain.bootstrap(&Wanted::default())?;
    let folder = tempfile::tempdir()?;
    let before = [EGRESS, ENVOY, CP, OVERSEER, COREDNS].map(|stream| plain.all(stream.name));
    let _running = collect(folder.path(), otelcol, &plain.url, None)?;
    let at = |name: &str| folder.path().join(name);
    for ((stream, count), before) in
        [(EGRESS, 1), (ENVOY, 1), (CP, 1), (OVERSEER, 1), (COREDNS, 5)].into_iter().zip(before)
    {
        let (before, deadline) = (before?, Instant::now() + LONG);
        while plain.all(stream.name)? < before + count {
            if Instant::now() > deadline {
                let told = fs::read_to_string(at("log")).unwrap_or_default();
                return Err(format!("{} has no more than it had:\n{told}", stream.name).into());
            }
            thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(stored(plain, &stream, count)?, names(&stream), "{}", stream.name);
    }
    Ok(())
}

/// Runs a collector in `folder`, on what servers have written, into the store at `url`, where it comes in by `login`. What it
/// says is in the file `log`.
pub fn collect(folder: &Path, otelcol: &Path, url: &str, login: Option<Login>) -> Result<Running, Failed> {
    let at = |name: &str| folder.join(name);
    fs::create_dir(at("state"))?;
    fs::write(at("current"), LINES)?;
    for (stream, name) in [(EGRESS, "egress.json"), (CP, "cp.json"), (OVERSEER, "overseer.json")] {
        fs::write(at(name), request(&stream.fields.iter().map(sample).collect::<Vec<_>>()))?;
    }
    fs::write(at("envoy.json"), request(&logged()))?;
    let config = config(url, folder.to_str().ok_or("a path in UTF-8")?, login);
    fs::write(at("config.yaml"), config.to_string())?;
    let mut command = Command::new(otelcol);
    command.current_dir(folder).args(["--config", "config.yaml"]);
    command.stdout(fs::File::create(at("out"))?).stderr(fs::File::create(at("log"))?);
    Ok(Running(command.spawn()?))
}

fn names(stream: &Stream) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = stream.fields.iter().map(|field| field.name.to_owned()).collect();
    if [ENVOY.name, COREDNS.name].contains(&stream.name) {
        // The relay gives them theirs, which is not in this chain; programs of ours write one themselves.
        names.remove("event_id");
    }
    names
}

/// The attributes that a stream's newest documents have among them.
fn stored(plain: &Plain, stream: &Stream, count: u64) -> Result<BTreeSet<String>, Failed> {
    let query = json!({"size": count, "sort": [{"observedTimestamp": "desc"}]});
    let found = plain.done("POST", &format!("{}/_search", stream.name), &query)?;
    let mut names = BTreeSet::new();
    for hit in found["hits"]["hits"].as_array().into_iter().flatten() {
        let document = &hit["_source"];
        assert_eq!(document["resource"]["service.name"], stream.name);
        names.extend(document["attributes"].as_object().into_iter().flatten().map(|(name, _)| name.clone()));
    }
    // The exporter's own.
    names.remove("data_stream");
    Ok(names)
}

/// The lanes' own processors and exporters, between files and the store.
fn config(url: &str, folder: &str, login: Option<Login>) -> Value {
    let whole = Collector {
        store: url.to_owned(),
        login,
        relay: None,
        certificates: folder.to_owned(),
        resolver_log: folder.to_owned(),
        state: format!("{folder}/state"),
        metrics: "127.0.0.1:0".to_owned(),
    }
    .config();
    let (mut receivers, mut exporters, mut pipelines) = (Map::new(), Map::new(), Map::new());
    for lane in [Lane::Egress, Lane::Envoy, Lane::Cp, Lane::Overseer, Lane::Coredns] {
        let word = lane.word();
        let of_files = json!({"include": [format!("{folder}/{word}.json")], "start_at": "beginning", "include_file_name": false});
        let (receiver, settings) = match lane {
            Lane::Coredns => {
                (format!("filelog/{word}"), whole["receivers"][format!("filelog/{word}")].clone())
            }
            _ => (format!("otlpjsonfile/{word}"), of_files),
        };
        receivers.insert(receiver.clone(), settings);
        let of_lane = whole["exporters"]
            .as_object()
            .into_iter()
            .flatten()
            .find(|(_, settings)| settings["logs_index"] == lane.stream());
        let (exporter, settings) = of_lane.expect("an exporter into the stream");
        exporters.insert(exporter.clone(), settings.clone());
        let pipeline = format!("logs/{word}");
        let processors = &whole["service"]["pipelines"][&pipeline]["processors"];
        pipelines.insert(
            pipeline,
            json!({"receivers": [receiver], "processors": processors, "exporters": [exporter]}),
        );
    }
    // Its port is one for all.
    let mut extensions = whole["extensions"].as_object().cloned().unwrap_or_default();
    extensions.remove("health_check");
    let started: Vec<&String> = extensions.keys().collect();
    json!({
        "receivers": receivers,
        "processors": whole["processors"],
        "exporters": exporters,
        "extensions": extensions,
        "service": {
            "extensions": started,
            "pipelines": pipelines,
            "telemetry": {"metrics": {"level": "none"}},
        },
    })
}

/// An attribute as our own programs write it.
fn sample(field: &documents::Field) -> (String, Value) {
    let value = match field.kind {
        Kind::Long => json!({"intValue": "7"}),
        Kind::Boolean => json!({"boolValue": true}),
        Kind::Date => json!({"stringValue": "2023-11-14T22:13:20.123456789Z"}),
        Kind::Ip => json!({"stringValue": "2001:db8::7"}),
        _ => json!({"stringValue": field.name}),
    };
    (field.name.to_owned(), value)
}

/// What Envoy is told to write, by any of its loggers, as it writes it: all of it text.
fn logged() -> Vec<(String, Value)> {
    let rules = "[{dst: api.test, proto: https}, {dst: api.test, proto: http}, {dst: git.test, proto: ssh}]";
    let container = Container {
        container_id: "one".to_owned(),
        agent: "a".to_owned(),
        project: "p".to_owned(),
        addresses: vec![[198, 18, 0, 2].into()],
        rules: rules::parse(rules).expect("rules"),
    };
    let plan = Plan::new(&[container], Listeners::default(), None).expect("a plan");
    let upstream = Upstream {
        resolvers: vec![([198, 18, 0, 53], 53).into()],
        authorities: String::new(),
        collector: ("collector.test".to_owned(), 4317),
        telemetry: Telemetry {
            names: Vec::new(),
            grpc: ("collector.test".to_owned(), 4318),
            http: ("collector.test".to_owned(), 4320),
        },
        own: vec!["198.18.0.0/24".parse().expect("a network")],
        folder: String::new(),
    };
    let mut keys = BTreeSet::new();
    attributes(&Envoy::new(&plan, &upstream).whole(), &mut keys);
    let value = |key: &str| match key {
        "src" | "actual_dst" => "[2001:db8::7]:443".to_owned(),
        key if key.ends_with("_port") || key.starts_with("bytes_") => "443".to_owned(),
        "duration_ms" | "response_code" | "grpc_status" => "7".to_owned(),
        key => key.to_owned(),
    };
    keys.into_iter().map(|key| (key.clone(), json!({"stringValue": value(&key)}))).collect()
}

/// The keys of all access logs in a configuration.
fn attributes(config: &Value, keys: &mut BTreeSet<String>) {
    match config {
        Value::Object(object) => {
            let is_log = object
                .get("@type")
                .and_then(Value::as_str)
                .is_some_and(|kind| kind.ends_with("OpenTelemetryAccessLogConfig"));
            if is_log {
                let all = config["attributes"]["values"].as_array().into_iter().flatten();
                keys.extend(all.filter_map(|pair| Some(pair["key"].as_str()?.to_owned())));
            }
            object.values().for_each(|value| attributes(value, keys));
        }
        Value::Array(list) => list.iter().for_each(|value| attributes(value, keys)),
        _ => {}
    }
}

/// An OTLP request of one record, on one line.
fn request(attributes: &[(String, Value)]) -> String {
    let attributes: Vec<Value> =
        attributes.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
    let record = json!({
        "timeUnixNano": "1700000000123456789", "severityNumber": 9, "severityText": "INFO",
        "body": {"stringValue": "one line"}, "attributes": attributes,
    });
    let claims = json!([{"key": "service.name", "value": {"stringValue": "elsewhere"}}]);
    let request = json!({"resourceLogs": [{"resource": {"attributes": claims}, "scopeLogs": [{"logRecords": [record]}]}]});
    format!("{request}\n")
}
