//! A server with Index State Management and the query plugin. No registry of packages has these, so what stands before the
//! real server here answers for them, in the shapes that their documentation gives. It shows what we ask and make of
//! answers, not what the plugins do.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use documents::ALL;
use libtest_mimic::Failed;
use serde_json::{Value, json};
use stack::store::{Outcome, Retention, Store, Wanted};

use super::{Plain, agent, of};
use crate::opensearch::ask;

/// What the plugin was told.
#[derive(Default)]
struct Plugin {
    policy: Option<Value>,
    added: Vec<String>,
    source: Option<Value>,
}

pub fn policy(plain: &Plain) -> Result<(), Failed> {
    plain.bootstrap(&Wanted::default())?;
    let (url, plugin) = stand_in(plain)?;
    let told = || plugin.lock().unwrap_or_else(PoisonError::into_inner);
    let store = Store::new(&url, None, None)?;
    let bootstrap = |retention| store.bootstrap(&Wanted { retention, ..Wanted::default() });
    // The streams were there before the policy: their indices are put under it.
    assert_eq!(*of(&bootstrap(Retention::default())?, "policy", "clawker")?, Outcome::Made);
    assert_eq!(told().added.len(), ALL.len());
    assert!(
        told()
            .added
            .iter()
            .zip(ALL)
            .all(|(added, stream)| added.starts_with(&format!(".ds-{}-", stream.name)))
    );
    let policy = told().policy.clone().ok_or("a policy")?;
    assert_eq!(
        policy["states"][0]["actions"][0]["rollover"],
        json!({"min_index_age": "7d", "min_size": "10gb"})
    );
    assert_eq!(policy["states"][0]["transitions"][0]["conditions"], json!({"min_rollover_age": "90d"}));
    let report = bootstrap(Retention::default())?;
    assert_eq!(*of(&report, "policy", "clawker")?, Outcome::AsItIs);
    assert_eq!(report.open().count(), 0, "{report}");
    assert_eq!(told().added.len(), ALL.len());
    // Somebody keeps them for longer.
    let report = bootstrap(Retention { days_kept: 30, ..Retention::default() })?;
    let outcome = of(&report, "policy", "clawker")?;
    assert!(
        matches!(outcome, Outcome::Differs(how) if how.contains("30d") && how.contains("90d")),
        "{outcome:?}"
    );
    assert_eq!(told().policy, Some(policy));
    Ok(())
}

/// Likewise for the query plugin, whose data sources are metrics' way into Dashboards.
pub fn prometheus(plain: &Plain) -> Result<(), Failed> {
    let (url, plugin) = stand_in(plain)?;
    let store = Store::new(&url, None, None)?;
    let bootstrap =
        |url: &str| store.bootstrap(&Wanted { prometheus: Some(url.to_owned()), ..Wanted::default() });
    let first = "http://prometheus.test:9090";
    for outcome in [Outcome::Made, Outcome::AsItIs] {
        assert_eq!(*of(&bootstrap(first)?, "data source", "prometheus")?, outcome);
    }
    let report = bootstrap("http://other.test:9090")?;
    assert!(
        matches!(of(&report, "data source", "prometheus")?, Outcome::Differs(how) if how.contains(first)),
        "{report}"
    );
    let source = plugin.lock().unwrap_or_else(PoisonError::into_inner).source.clone();
    assert_eq!(source.as_ref().map(|source| &source["properties"]["prometheus.uri"]), Some(&json!(first)));
    Ok(())
}

/// Stands before the real server; where, and what it was told.
fn stand_in(plain: &Plain) -> Result<(String, Arc<Mutex<Plugin>>), Failed> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let url = format!("http://{}", listener.local_addr()?);
    let plugin = Arc::new(Mutex::new(Plugin::default()));
    let (behind, told) = (plain.url.clone(), plugin.clone());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Err(error) = answer(stream, &behind, &told) {
                eprintln!("the plugin's stand-in: {error:?}");
            }
        }
    });
    Ok((url, plugin))
}

/// Answers one request: for the plugin, or as the server behind does.
fn answer(stream: TcpStream, behind: &str, plugin: &Mutex<Plugin>) -> Result<(), Failed> {
    let mut read = BufReader::new(stream.try_clone()?);
    let (mut line, mut length) = (String::new(), 0);
    read.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    loop {
        let mut header = String::new();
        read.read_line(&mut header)?;
        let header = header.trim().to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        if header.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    read.read_exact(&mut body)?;
    let body = String::from_utf8(body)?;
    let (status, answer) = match path.strip_prefix("/_plugins/") {
        Some(path) => {
            let mut plugin = plugin.lock().unwrap_or_else(PoisonError::into_inner);
            manage(&mut plugin, method, path, &serde_json::from_str(&body).unwrap_or_default())
        }
        None => ask(&agent(), method, &format!("{behind}{path}"), None, &body)?,
    };
    let (mut stream, answer) = (stream, answer.to_string());
    let length = answer.len();
    write!(stream, "HTTP/1.1 {status} -\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{answer}")?;
    Ok(())
}

fn manage(plugin: &mut Plugin, method: &str, path: &str, body: &Value) -> (u16, Value) {
    match (method, path) {
        ("GET", "_ism/policies/clawker") => match &plugin.policy {
            None => (
                404,
                json!({"error": {"type": "status_exception", "reason": "Policy not found"}, "status": 404}),
            ),
            // With what the plugin adds.
            Some(policy) => {
                let mut policy = policy.clone();
                policy["policy_id"] = json!("clawker");
                policy["schema_version"] = json!(21);
                policy["last_updated_time"] = json!(1_700_000_000_000_u64);
                policy["ism_template"][0]["last_updated_time"] = json!(1_700_000_000_000_u64);
                for state in policy["states"].as_array_mut().into_iter().flatten() {
                    for action in state["actions"].as_array_mut().into_iter().flatten() {
                        action["retry"] = json!({"count": 3, "backoff": "exponential", "delay": "1m"});
                    }
                }
                policy["states"][0]["actions"][0]["rollover"]["copy_alias"] = json!(false);
                (200, json!({"_id": "clawker", "_seq_no": 1, "_primary_term": 1, "policy": policy}))
            }
        },
        ("PUT", "_ism/policies/clawker") => {
            plugin.policy = Some(body["policy"].clone());
            (201, json!({"_id": "clawker"}))
        }
        ("POST", path) if path.starts_with("_ism/add/") && body["policy_id"] == "clawker" => {
            plugin.added.extend(path.strip_prefix("_ism/add/").map(str::to_owned));
            (200, json!({"updated_indices": 1, "failures": false, "failed_indices": []}))
        }
        ("GET", "_query/_datasources/prometheus") => match &plugin.source {
            None => {
                let error = json!({"reason": "Invalid Request", "type": "DataSourceNotFoundException"});
                (404, json!({"error": error, "status": 404}))
            }
            Some(source) => (200, source.clone()),
        },
        ("POST", "_query/_datasources") => {
            plugin.source = Some(body.clone());
            (201, json!("Created DataSource with name prometheus"))
        }
        _ => (
            400,
            json!({"error": format!("no handler found for uri [/_plugins/{path}] and method [{method}]")}),
        ),
    }
}
