//! A server without any plugin, as Maven Central has it: no security, no Index State Management.

#[path = "differing.rs"]
mod differing;
#[path = "lost.rs"]
mod lost;
#[path = "managed.rs"]
mod managed;

use std::{
    sync::{Arc, Barrier, OnceLock},
    thread,
};

use documents::{ALL, Kind, Stream};
use libtest_mimic::{Completion, Failed, Trial};
use serde_json::{Map, Value, json};
use stack::store::{Credentials, Outcome, Report, Retention, Store, Wanted};

use crate::{
    collected,
    opensearch::{OpenSearch, Parts, ask},
    servers::binary,
};

/// Started by the first that needs it, gone with the last.
type Shared = Arc<OnceLock<Result<OpenSearch, String>>>;

/// What is shown on that server.
type Test = fn(&Plain) -> Result<(), Failed>;

/// In this order: the first wants a server that nobody has used.
pub fn trials() -> Vec<Trial> {
    let shared = Shared::default();
    let tests: [(&str, Test); 13] = [
        ("a store is made ready once, and then is as it is", once),
        ("several may make it ready at once", at_once),
        ("a document with all fields is found by each of them", found),
        ("a document with another field is refused, and nothing of it kept", refused),
        ("another's document is kept whatever it holds", kept),
        ("a rollover loses nothing", rollover),
        ("what emitters lost is found", lost::found),
        ("a template that somebody changed is told, and stays", differing::changed),
        ("a template that another outranks is told", differing::outranked),
        ("an index where a stream should be is told, and stays", differing::in_the_way),
        ("a policy is put where it is carried out, and stays as people change it", managed::policy),
        ("the source of metrics is made where there are such, and stays", managed::prometheus),
        ("what has been kept long enough is removed, and nothing else", retention),
    ];
    let mut trials = Vec::new();
    for (name, test) in tests {
        let shared = shared.clone();
        trials.push(Trial::ignorable_test(name, move || on(&shared, test)));
    }
    let name = "what the collector writes is what the tables have";
    // Before what is there is removed.
    let last = trials.len() - 1;
    trials.insert(
        last,
        Trial::ignorable_test(name, move || match binary("otelcol", "collector") {
            Ok(otelcol) => on(&shared, |plain| collected::written(plain, &otelcol)),
            Err(reason) => Ok(Completion::Ignored { reason: Some(reason) }),
        }),
    );
    trials
}

/// Shows something on the server that all share, if there is one, made ready.
fn on(shared: &Shared, test: impl FnOnce(&Plain) -> Result<(), Failed>) -> Result<Completion, Failed> {
    let parts = match Parts::plain() {
        Ok(parts) => parts,
        Err(reason) => return Ok(Completion::Ignored { reason: Some(reason) }),
    };
    let started =
        shared.get_or_init(|| start(&parts).map_err(|why| why.message().unwrap_or_default().to_owned()));
    let server = started.as_ref().map_err(|why| why.as_str())?;
    test(&Plain { url: format!("http://127.0.0.1:{}", server.port), agent: agent() })?;
    Ok(Completion::Completed)
}

fn start(parts: &Parts) -> Result<OpenSearch, Failed> {
    OpenSearch::start(parts, "] started", |_| Ok(()))
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().new_agent()
}

pub struct Plain {
    pub url: String,
    agent: ureq::Agent,
}

impl Plain {
    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<(u16, Value), Failed> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        ask(&self.agent, method, &format!("{}/{path}", self.url), None, &body)
    }

    /// What is answered to what must be done.
    pub fn done(&self, method: &str, path: &str, body: &Value) -> Result<Value, Failed> {
        let (status, answer) = self.ask(method, path, body)?;
        if (200..300).contains(&status) {
            Ok(answer)
        } else {
            Err(format!("{method} {path}: {status} {answer}").into())
        }
    }

    pub fn bootstrap(&self, wanted: &Wanted) -> Result<Report, Failed> {
        Ok(Store::new(&self.url, None, None)?.bootstrap(wanted)?)
    }

    fn create(&self, stream: &str, document: &Value) -> Result<(u16, Value), Failed> {
        self.ask("POST", &format!("{stream}/_doc?op_type=create&refresh=true"), document)
    }

    fn count(&self, stream: &str, query: &Value) -> Result<u64, Failed> {
        let answer = self.done("POST", &format!("{stream}/_count"), &json!({"query": query}))?;
        Ok(answer["count"].as_u64().ok_or("a count")?)
    }

    pub fn all(&self, stream: &str) -> Result<u64, Failed> {
        self.count(stream, &json!({"match_all": {}}))
    }
}

/// What became of each thing called `name`.
fn of<'a>(report: &'a Report, what: &str, name: &str) -> Result<&'a Outcome, Failed> {
    let line = report.lines.iter().find(|line| line.what == what && line.name == name);
    Ok(&line.ok_or_else(|| format!("no {what} {name} in\n{report}"))?.outcome)
}

/// A document as the collector's exporter writes it, with something in every field.
fn document(stream: &Stream) -> Value {
    let mut attributes = Map::new();
    for field in stream.fields {
        let value = match field.kind {
            Kind::Keyword | Kind::Text => json!(format!("{} \"α\" \u{1}", field.name)),
            Kind::Ip => json!("2001:db8::7"),
            Kind::Long => json!(9_007_199_254_740_993_i64),
            Kind::Double => json!(0.5),
            Kind::Boolean => json!(false),
            Kind::Date => json!("2026-01-02T03:04:05.123456789Z"),
        };
        attributes.insert(field.name.to_owned(), value);
    }
    attributes.insert(
        "data_stream".to_owned(),
        json!({"dataset": "default", "namespace": "namespace", "type": "record"}),
    );
    json!({
        "@timestamp": "2026-01-02T03:04:05.123456789Z",
        "observedTimestamp": "2026-01-02T03:04:06.1Z",
        "severity": {"text": "INFO", "number": 9},
        "body": "one line",
        "attributes": attributes,
        "resource": {"service.name": stream.name},
        "instrumentationScope": {"name": "scope", "version": "1"},
        "traceId": "0102", "spanId": "01",
    })
}

fn once(plain: &Plain) -> Result<(), Failed> {
    let report = plain.bootstrap(&Wanted::default())?;
    for stream in ALL {
        assert_eq!(*of(&report, "template", stream.name)?, Outcome::Made);
        assert_eq!(*of(&report, "stream", stream.name)?, Outcome::Made);
    }
    let absent = |report: &Report, what, name| {
        of(report, what, name).map(|outcome| matches!(outcome, Outcome::Absent(_)))
    };
    assert!(absent(&report, "policy", "clawker")?, "{report}");
    assert_eq!(report.open().count(), 1, "{report}");
    // What the server has no plugin for is said, and holds up nothing.
    let user = "clawker-writer".to_owned();
    let writer = Some(Credentials { user, password: "Tr0ut over 7 mossy stones".to_owned() });
    let prometheus = Some("http://prometheus.test:9090".to_owned());
    let report = plain.bootstrap(&Wanted { writer, prometheus, ..Wanted::default() })?;
    assert!(absent(&report, "writer", "clawker-writer")?, "{report}");
    assert!(absent(&report, "data source", "prometheus")?, "{report}");
    for stream in ALL {
        assert_eq!(*of(&report, "template", stream.name)?, Outcome::AsItIs, "{}", stream.name);
        assert_eq!(*of(&report, "stream", stream.name)?, Outcome::AsItIs, "{}", stream.name);
    }
    assert_eq!(report.open().count(), 3, "{report}");
    let printed = report.to_string();
    assert!(
        printed.lines().any(|line| line.split_whitespace().eq(["stream", "clawker-cp", "as", "it", "is"])),
        "{printed}"
    );
    Ok(())
}

fn at_once(plain: &Plain) -> Result<(), Failed> {
    for _ in 0..3 {
        for stream in ALL {
            plain.ask("DELETE", &format!("_data_stream/{}", stream.name), &Value::Null)?;
            plain.ask("DELETE", &format!("_index_template/{}", stream.name), &Value::Null)?;
        }
        let (url, ready) = (&plain.url, Barrier::new(4));
        let reports = thread::scope(|scope| {
            let each = [(); 4].map(|()| {
                scope.spawn(|| {
                    ready.wait();
                    Store::new(url, None, None)?.bootstrap(&Wanted::default())
                })
            });
            each.map(|one| one.join().expect("a bootstrap that ends"))
        });
        for report in reports {
            let report = report?;
            assert_eq!(report.open().count(), 1, "{report}");
        }
        for stream in ALL {
            let streams = plain.done("GET", &format!("_data_stream/{}", stream.name), &Value::Null)?;
            assert_eq!(streams["data_streams"][0]["indices"].as_array().map(Vec::len), Some(1));
        }
    }
    Ok(())
}

fn found(plain: &Plain) -> Result<(), Failed> {
    plain.bootstrap(&Wanted::default())?;
    for stream in ALL {
        let document = document(&stream);
        let (status, answer) = plain.create(stream.name, &document)?;
        assert_eq!(status, 201, "{}: {answer}", stream.name);
        for field in stream.fields {
            let (path, value) = (format!("attributes.{}", field.name), &document["attributes"][field.name]);
            let query = match field.kind {
                Kind::Text => json!({"match_phrase": {path: value}}),
                _ => json!({"term": {path: value}}),
            };
            assert_eq!(plain.count(stream.name, &query)?, 1, "{}: {}", stream.name, field.name);
        }
        for query in
            [json!({"term": {"resource.service.name": stream.name}}), json!({"match": {"body": "line"}})]
        {
            assert_eq!(plain.count(stream.name, &query)?, 1, "{}: {query}", stream.name);
        }
    }
    // One filter over all of them.
    let agent = json!({"term": {"attributes.agent": "agent \"α\" \u{1}"}});
    assert_eq!(plain.count("clawker-*", &agent)?, ALL.len() as u64);
    Ok(())
}

fn refused(plain: &Plain) -> Result<(), Failed> {
    plain.bootstrap(&Wanted::default())?;
    for stream in ALL.into_iter().filter(|stream| stream.name != documents::CLAUDE.name) {
        let before = plain.all(stream.name)?;
        let valid = document(&stream);
        for (change, into) in
            [("attributes", "prompt"), ("resource", "prompt"), ("instrumentationScope", "attributes")]
        {
            let mut other = valid.clone();
            other[change][into] = json!("x");
            let (status, answer) = plain.create(stream.name, &other)?;
            assert_eq!(
                (status, &answer["error"]["type"]),
                (400, &json!("strict_dynamic_mapping_exception")),
                "{}",
                stream.name
            );
        }
        // What would write over another is refused as well, and so is the removal of one: who may write may add.
        let (_, made) = plain.create(stream.name, &valid)?;
        let path = format!(
            "{}/_doc/{}",
            made["_index"].as_str().ok_or("an index")?,
            made["_id"].as_str().ok_or("an id")?
        );
        let number = format!("if_seq_no={}&if_primary_term={}", made["_seq_no"], made["_primary_term"]);
        for (method, path) in [("PUT", format!("{path}?{number}")), ("DELETE", path)] {
            let body = if method == "PUT" { &valid } else { &Value::Null };
            let (status, answer) = plain.ask(method, &path, body)?;
            assert!(
                status == 400 && answer.to_string().contains("append_only"),
                "{method} {path}: {status} {answer}"
            );
        }
        let (status, _) = plain.ask("PUT", &format!("{}/_doc/1", stream.name), &valid)?;
        assert_eq!(status, 400);
        assert_eq!(plain.all(stream.name)?, before + 1, "{}", stream.name);
    }
    // Longer than any index could take, and so kept without being found by it.
    let mut long = document(&documents::ENVOY);
    long["attributes"]["path"] = json!(format!("/{}", "ü".repeat(33_000)));
    long["attributes"]["request_host"] = json!("long.test");
    assert_eq!(plain.create("clawker-envoy", &long)?.0, 201);
    assert_eq!(plain.count("clawker-envoy", &json!({"term": {"attributes.request_host": "long.test"}}))?, 1);
    Ok(())
}

fn kept(plain: &Plain) -> Result<(), Failed> {
    plain.bootstrap(&Wanted::default())?;
    let mut other = document(&documents::CLAUDE);
    let new = json!({"input_tokens": "many", "cost_usd": "0.25", "event.timestamp": "yesterday", "src_ip": "nowhere",
        "agent": "odd", "new.attribute": "new", "success": true});
    for (name, value) in new.as_object().into_iter().flatten() {
        other["attributes"][name] = value.clone();
    }
    other["resource"]["os.type"] = json!("linux");
    let (status, answer) = plain.create("clawker-claude", &other)?;
    assert_eq!(status, 201, "{answer}");
    let found = |query: &Value| {
        plain.count(
            "clawker-claude",
            &json!({"bool": {"filter": [{"term": {"attributes.agent": "odd"}}, query]}}),
        )
    };
    assert_eq!(found(&json!({"range": {"attributes.cost_usd": {"gt": 0.2, "lt": 0.3}}}))?, 1);
    assert_eq!(found(&json!({"term": {"attributes.success": "true"}}))?, 1);
    assert_eq!(found(&json!({"term": {"_ignored": "attributes.input_tokens"}}))?, 1);
    assert_eq!(found(&json!({"exists": {"field": "attributes.new.attribute"}}))?, 0);
    // But for names that stand where the mapping has a level, or a leaf: these are the lane's filter's to drop.
    for name in ["session", "model.x"] {
        let mut other = document(&documents::CLAUDE);
        other["attributes"][name] = json!("x");
        assert_eq!(plain.create("clawker-claude", &other)?.0, 400, "{name}");
    }
    Ok(())
}

fn rollover(plain: &Plain) -> Result<(), Failed> {
    plain.bootstrap(&Wanted::default())?;
    let stream = documents::OVERSEER;
    let (before, document) = (plain.all(stream.name)?, document(&stream));
    let written = thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let own = Plain { url: plain.url.clone(), agent: agent() };
                    let line = format!("{{\"create\": {{}}}}\n{document}\n").repeat(5);
                    let mut written = 0;
                    for _ in 0..40 {
                        let url = format!("{}/{}/_bulk", own.url, stream.name);
                        let (_, answer) = ask(&own.agent, "POST", &url, None, &line)?;
                        assert_eq!(answer["errors"], json!(false), "{answer}");
                        written += 5;
                    }
                    Ok::<u64, Failed>(written)
                })
            })
            .collect();
        for _ in 0..5 {
            plain.done("POST", &format!("{}/_rollover", stream.name), &Value::Null)?;
        }
        let mut all = 0;
        for writer in writers {
            all += writer.join().map_err(|_| "a writer")??;
        }
        Ok::<u64, Failed>(all)
    })?;
    plain.done("POST", &format!("{}/_refresh", stream.name), &Value::Null)?;
    assert_eq!(plain.all(stream.name)?, before + written);
    let report = plain.bootstrap(&Wanted::default())?;
    assert_eq!(*of(&report, "stream", stream.name)?, Outcome::AsItIs);
    Ok(())
}

fn retention(plain: &Plain) -> Result<(), Failed> {
    plain.bootstrap(&Wanted::default())?;
    let store = Store::new(&plain.url, None, None)?;
    let name = documents::CP.name;
    let before = plain.all("clawker-*")?;
    assert!(store.keep(&Retention::default())?.lines.is_empty());
    plain.create(name, &document(&documents::CP))?;
    // All are old enough to go on with another index, and none is to be removed.
    let report = store.keep(&Retention { days_in_one: 0, ..Retention::default() })?;
    assert_eq!(report.lines.len(), ALL.len(), "{report}");
    assert!(report.lines.iter().all(|line| line.what == "rolled over"), "{report}");
    assert_eq!(plain.all("clawker-*")?, before + 1);
    // Now what came before is.
    plain.create(name, &document(&documents::CP))?;
    let report = store.keep(&Retention { days_kept: 0, ..Retention::default() })?;
    assert!(report.lines.iter().all(|line| line.what == "removed"), "{report}");
    assert_eq!(plain.all("clawker-*")?, 1);
    assert_eq!(plain.all(name)?, 1);
    Ok(())
}
