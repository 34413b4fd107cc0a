//! The collector with the configuration that is made for it.

mod servers;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use serde_json::{Value, json};
use stack::{Collector, Lane, Login};
use tempfile::TempDir;

/// Longer than the collector takes for anything here.
const LONG: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let trials = vec![
        Trial::test("the file is as it was read last", golden),
        Trial::ignorable_test("the collector takes it", validated),
        Trial::ignorable_test("what servers log becomes what the documents have", transformed),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn collector(folder: &str) -> Collector {
    Collector {
        store: "https://opensearch.test:9200".to_owned(),
        login: None,
        relay: Some("relay.test:4320".to_owned()),
        certificates: format!("{folder}/certificates"),
        resolver_log: format!("{folder}/coredns"),
        state: format!("{folder}/state"),
        metrics: "0.0.0.0:9464".to_owned(),
    }
}

fn golden() -> Result<(), Failed> {
    let collector = collector("/etc/otelcol");
    insta::assert_json_snapshot!("config", collector.config());
    insta::assert_json_snapshot!("config of agents", collector.agents_config());
    let secured = Collector { login: login("/etc/otelcol"), ..collector };
    for config in [secured.config(), secured.agents_config()] {
        let of_store = |(name, _): &(&String, &Value)| name.starts_with("opensearch/");
        let exporters = config["exporters"].as_object().into_iter().flatten().filter(of_store);
        let http: Vec<&Value> = exporters.map(|(_, exporter)| &exporter["http"]).collect();
        insta::allow_duplicates! {
            insta::assert_json_snapshot!("login", json!([config["extensions"]["basicauth/store"], http[0]]));
        }
        assert!(http.iter().all(|one| *one == http[0]), "{http:?}");
        assert!(
            config["service"]["extensions"]
                .as_array()
                .is_some_and(|all| all.contains(&json!("basicauth/store")))
        );
    }
    Ok(())
}

fn login(folder: &str) -> Option<Login> {
    Some(Login {
        user: "writer$1".to_owned(),
        password: format!("{folder}/certificates/store-password"),
        authority: Some(format!("{folder}/certificates/server.crt")),
    })
}

/// The configuration, and what it names, in a folder of its own.
struct Place {
    folder: TempDir,
    otelcol: PathBuf,
}

impl Place {
    /// With the configuration changed by `change`; or why there is none.
    fn new(change: impl FnOnce(&mut Value, &str)) -> Result<Result<Self, String>, Failed> {
        let otelcol = match servers::binary("otelcol", "collector") {
            Ok(otelcol) => otelcol,
            Err(reason) => return Ok(Err(reason)),
        };
        let folder = tempfile::tempdir()?;
        let certificates = folder.path().join("certificates");
        for name in ["certificates", "state", "coredns"] {
            fs::create_dir(folder.path().join(name))?;
        }
        let pair = rcgen::generate_simple_self_signed(["collector.test".to_owned()])?;
        for name in ["server.key", "to-relay.key"] {
            fs::write(certificates.join(name), pair.signing_key.serialize_pem())?;
        }
        let authorities = Lane::ALL.map(|lane| format!("{}-ca.crt", lane.word()));
        let others = ["relay-ca.crt", "to-relay.crt", "server.crt"];
        for name in authorities.iter().map(String::as_str).chain(others) {
            fs::write(certificates.join(name), pair.cert.pem())?;
        }
        let path = folder.path().to_str().ok_or("a path in UTF-8")?;
        let mut config = collector(path).config();
        change(&mut config, path);
        fs::write(certificates.join("store-password"), "a: #\"b$c")?;
        let secured = Collector { login: login(path), ..collector(path) };
        for (name, config) in [
            ("config.yaml", config),
            ("agents.yaml", collector(path).agents_config()),
            ("secured.yaml", secured.config()),
            ("agents-secured.yaml", secured.agents_config()),
        ] {
            fs::write(folder.path().join(name), serde_json::to_vec_pretty(&config)?)?;
        }
        Ok(Ok(Self { folder, otelcol }))
    }

    fn command(&self, config: &str) -> Command {
        let mut command = Command::new(&self.otelcol);
        command.current_dir(self.folder.path()).args(["--config", config]);
        command
    }
}

fn validated() -> Result<Completion, Failed> {
    let place = match Place::new(|_, _| ())? {
        Ok(place) => place,
        Err(reason) => return Ok(Completion::Ignored { reason: Some(reason) }),
    };
    for config in ["config.yaml", "agents.yaml", "secured.yaml", "agents-secured.yaml"] {
        let output = place.command(config).arg("validate").output()?;
        if !output.status.success() {
            return Err(format!("{config}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
    }
    Ok(Completion::Completed)
}

/// Ends a process on drop.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The pipelines of two lanes, from what their servers write to files that stand for the store.
fn transformed() -> Result<Completion, Failed> {
    let place = Place::new(|config, folder| {
        for lane in [Lane::Coredns, Lane::Envoy] {
            let file = format!("file/{}", lane.word());
            config["exporters"][&file] =
                json!({"path": format!("{folder}/{}.json", lane.word()), "flush_interval": "50ms"});
            config["service"]["pipelines"][format!("logs/{}", lane.word())]["exporters"] = json!([file]);
        }
        config["receivers"]["otlpjsonfile"] =
            json!({"include": [format!("{folder}/access.json")], "start_at": "beginning"});
        config["service"]["pipelines"]["logs/envoy"]["receivers"] = json!(["otlpjsonfile"]);
        // Other runs have the ports.
        if let Some(pipelines) = config["service"]["pipelines"].as_object_mut() {
            pipelines.retain(|name, _| ["logs/coredns", "logs/envoy"].contains(&name.as_str()));
        }
        config["service"]["extensions"] = json!(["file_storage"]);
    })?;
    let place = match place {
        Ok(place) => place,
        Err(reason) => return Ok(Completion::Ignored { reason: Some(reason) }),
    };
    let at = |name: &str| place.folder.path().join(name);
    // The labels are `a "q" }` and nothing, of the container `one`. What was written before the log was rotated is read too.
    fs::write(
        at("coredns/@400000006aeb1234.s"),
        "2026-11-29T16:41:41.00001 [INFO] clawker container =YSAicSIgfQ== = =b25l 198.18.0.2 4000 udp 7 A IN NOERROR qr,rd,ra 32 48 0.5s api.test.\n",
    )?;
    fs::write(
        at("coredns/current"),
        "2026-11-29T16:41:42.10001 [INFO] clawker container =YQ== =cA== =b25l [2001:db8::2] 4000 tcp 7 AAAA IN NXDOMAIN qr,aa,rd,ra 32 48 0.5s a\\\"b\\007.test.\n\
         2026-11-29T16:41:42.10002 [INFO] clawker container =YQ== =cA== =b25l 198.18.0.2 4000 udp 7 A IN NOERROR qr,rd,ra,cd 32 48 0.5s open.test.\n\
         2026-11-29T16:41:42.10003 [INFO] clawker container =YQ== =cA== =b25l 198.18.0.2 4000 udp 7 A IN SERVFAIL qr,rd,cd 32 32 0.5s dead.test.\n\
         2026-11-29T16:41:42.10004 [INFO] clawker nobody = = = 198.18.0.9 4000 udp 7 A IN REFUSED qr,aa,rd 32 32 0.5s api.test.\n\
         2026-11-29T16:41:42.10005 [INFO] clawker nobody = = = [2001:db8::9] 4000 udp 7 A IN - - 32 0 0.5s api.test.\n\
         2026-11-29T16:41:42.10006 [ERROR] plugin/errors: 2 api.test. A: unreachable\n",
    )?;
    let known = [
        ("verdict", "DENIED"),
        ("reason", "path"),
        ("l7_proto", "https"),
        ("method", "GET"),
        ("request_host", "api.test"),
        ("response_code", "403"),
        ("src", "198.18.0.2:4711"),
        ("actual_dst", "[2001:db8::7]:443"),
        ("bytes_in", "10"),
        ("path", "/v1"),
    ];
    let unknown = [
        ("verdict", "DENIED"),
        ("reason", "no_rule"),
        ("l7_proto", "tcp"),
        ("method", "-"),
        ("src", "[2001:db8::2]:4711"),
        ("actual_dst", "-"),
        ("grpc_status", "-"),
        ("sni", ""),
        ("path", "-"),
    ];
    // What a rule permits and the proxy lets not out; the last four it did.
    let permitted = |more: &[(&'static str, &'static str)]| {
        [&[("verdict", "ALLOWED"), ("reason", "rule"), ("sent", "0")], more].concat()
    };
    let details = |details, flags| [("response_code_details", details), ("response_flags", flags)];
    let kept_in = [
        permitted(&details("dns_resolution_failure{address_denied}", "DF")),
        permitted(&details("dns_resolution_failure{cares_norecords:Domain_name_not_found}", "DF")),
        permitted(&details("upstream_reset_before_response_started{overflow}", "URX,UO")),
        permitted(&details("dns_cache_overflow", "-")),
        permitted(&[("response_flags", "UH")]),
        vec![("verdict", "-"), ("sent", "0"), ("response_code_details", "overload"), ("response_flags", "-")],
        permitted(&details("upgrade_failed", "-")),
        permitted(&details("http1.codec_error", "DPE")),
        permitted(&details("cluster_not_found", "NC")),
        // It was ended on the way: what was sent went out.
        vec![
            ("verdict", "ALLOWED"),
            ("reason", "rule"),
            ("sent", "9"),
            ("response_code_details", "overload"),
            ("response_flags", "-"),
        ],
        permitted(&details("via_upstream", "-")),
        permitted(&[("l7_proto", "tcp"), ("dst_host", "git.test"), ("dst_port", "22")]),
        permitted(&details("upstream_reset_before_response_started{connection_failure}", "UF,URX")),
    ];
    let entry = |fields: &[(&str, &str)]| {
        let attributes: Vec<_> =
            fields.iter().map(|(key, value)| json!({"key": key, "value": {"stringValue": value}})).collect();
        json!({"timeUnixNano": "1700000000000000000", "attributes": attributes})
    };
    let claims = json!([{"key": "service.name", "value": {"stringValue": "clawker-egress"}}]);
    let count = 2 + kept_in.len();
    let records: Vec<Value> =
        [known.to_vec(), unknown.to_vec()].iter().chain(&kept_in).map(|one| entry(one)).collect();
    let entries = json!({"resourceLogs": [{
        "resource": {"attributes": claims},
        "scopeLogs": [{"logRecords": records}],
    }]});
    fs::write(at("access.json"), format!("{entries}\n"))?;
    let log = fs::File::create(at("log"))?;
    let _running = Running(place.command("config.yaml").stderr(log).spawn()?);
    let told = || fs::read_to_string(at("log")).unwrap_or_default();
    for (lane, count) in [(Lane::Coredns, 7), (Lane::Envoy, count)] {
        let deadline = Instant::now() + LONG;
        let documents = loop {
            let mut documents = documents(&at(&format!("{}.json", lane.word())))?;
            // Of the resolver's two files, either may be read first.
            documents.sort_by_key(|document| document["time"].to_string());
            if documents.len() >= count {
                break documents;
            }
            if Instant::now() > deadline {
                return Err(format!("{}: {documents:?}\n{}", lane.word(), told()).into());
            }
            thread::sleep(Duration::from_millis(50));
        };
        insta::assert_json_snapshot!(format!("documents of {}", lane.word()), documents);
    }
    Ok(Completion::Completed)
}

/// Time, service, body and attributes of each record in a file of OTLP requests, one a line.
fn documents(path: &Path) -> Result<Vec<Value>, Failed> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut documents = Vec::new();
    // The last line may be half written.
    for request in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        for resource in list(&request["resourceLogs"]) {
            for record in list(&resource["scopeLogs"]).iter().flat_map(|scope| list(&scope["logRecords"])) {
                documents.push(json!({
                    "time": record["timeUnixNano"],
                    "resource": pairs(&resource["resource"]["attributes"]),
                    "body": record["body"]["stringValue"],
                    "attributes": pairs(&record["attributes"]),
                }));
            }
        }
    }
    Ok(documents)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Sorted, with the type of each value.
fn pairs(attributes: &Value) -> BTreeMap<String, Value> {
    let pair = |attribute: &Value| Some((attribute["key"].as_str()?.to_owned(), attribute["value"].clone()));
    list(attributes).iter().filter_map(pair).collect()
}
