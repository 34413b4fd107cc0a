//! A server with the security plugin: what the collector's user may do, and what it may not.

use std::{
    fs,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use libtest_mimic::{Completion, Failed, Trial};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use serde_json::json;
use stack::{
    Login,
    store::{Credentials, Error, Outcome, Store, Wanted},
};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::{
    collected,
    opensearch::{OpenSearch, Parts, ask},
    servers,
};

/// Longer than the collector takes for anything here.
const LONG: Duration = Duration::from_secs(60);

pub fn trials() -> Vec<Trial> {
    vec![Trial::ignorable_test("the collector's user may add documents, and nothing else", || {
        match Parts::with_security() {
            Ok(parts) => writer(&parts).map(|()| Completion::Completed),
            Err(reason) => Ok(Completion::Ignored { reason: Some(reason) }),
        }
    })]
}

/// The administrator of the settings that the plugin brings.
fn admin() -> Credentials {
    Credentials { user: "admin".to_owned(), password: "admin".to_owned() }
}

/// Certificates of the server and what it is to check by; its settings. The authority's certificate.
fn configure(config: &Path) -> Result<String, Failed> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "a store's authority");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let mut node = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()])?;
    node.distinguished_name.push(DnType::CommonName, "node");
    node.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    fs::write(config.join("node.pem"), node.signed_by(&key, &authority)?.pem())?;
    fs::write(config.join("node.key"), key.serialize_pem())?;
    fs::write(config.join("ca.pem"), authority.pem())?;
    let mut settings = fs::read_to_string(config.join("opensearch.yml"))?;
    for layer in ["transport", "http"] {
        for (setting, file) in [("pemcert", "node.pem"), ("pemkey", "node.key"), ("pemtrustedcas", "ca.pem")]
        {
            settings.push_str(&format!("plugins.security.ssl.{layer}.{setting}_filepath: {file}\n"));
        }
    }
    settings.push_str(
        "plugins.security.ssl.http.enabled: true\nplugins.security.ssl.transport.enforce_hostname_verification: false\n\
         plugins.security.allow_default_init_securityindex: true\n\
         plugins.security.restapi.roles_enabled: [all_access]\n",
    );
    fs::write(config.join("opensearch.yml"), settings)?;
    Ok(authority.pem())
}

fn writer(parts: &Parts) -> Result<(), Failed> {
    let mut authority = String::new();
    let server = OpenSearch::start(parts, "Node '", |config| {
        authority = configure(config)?;
        Ok(())
    })?;
    let url = format!("https://127.0.0.1:{}", server.port);
    let wanted = |password: &str| Wanted {
        writer: Some(Credentials { user: "clawker-writer".to_owned(), password: password.to_owned() }),
        ..Wanted::default()
    };
    let store = Store::new(&url, Some(&admin()), Some(&authority))?;
    let outcomes = |password: &str| -> Result<Vec<Outcome>, Failed> {
        let report = store.bootstrap(&wanted(password))?;
        let of_writer = report.lines.into_iter().filter(|line| line.name == "clawker-writer");
        Ok(of_writer.map(|line| line.outcome).collect())
    };
    // Nothing in it is taken for YAML, and what begins with a dollar sign for nothing else.
    let password = "Tr0ut: over 7 #mossy ${env:HOME} \"st0nes";
    assert_eq!(outcomes(password)?, [Outcome::Made, Outcome::Made, Outcome::Made]);
    assert_eq!(outcomes(password)?, [Outcome::AsItIs, Outcome::AsItIs, Outcome::AsItIs]);
    assert!(
        matches!(&outcomes("Her0ns know n0thing of it")?[1], Outcome::Differs(how) if how.contains("password"))
    );

    let certificate = Certificate::from_pem(authority.as_bytes())?;
    let tls = TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(vec![certificate]))).build();
    let agent = ureq::Agent::config_builder().tls_config(tls).http_status_as_error(false).build().new_agent();
    let collector = format!("Basic {}", STANDARD.encode(format!("clawker-writer:{password}")));
    let by = |who: &str, method: &str, path: &str, body: &str| {
        ask(&agent, method, &format!("{url}/{path}"), Some(who), body)
    };
    let document = json!({"@timestamp": "2026-01-02T03:04:05Z", "attributes": {"agent": "scout"}});
    let bulk =
        |action: &str, index: &str| format!("{{\"{action}\": {{\"_index\": \"{index}\"}}}}\n{document}\n");
    // As the collector's exporter does it.
    for stream in documents::ALL {
        let (status, answer) =
            by(&collector, "POST", &format!("{}/_bulk", stream.name), &bulk("create", stream.name))?;
        assert_eq!((status, &answer["errors"]), (200, &json!(false)), "{answer}");
    }
    let root = format!("Basic {}", STANDARD.encode("admin:admin"));
    let (_, streams) = by(&root, "GET", "_data_stream/clawker-egress", "")?;
    let index = streams["data_streams"][0]["indices"][0]["index_name"].as_str().ok_or("an index")?.to_owned();
    by(&root, "POST", "clawker-egress/_refresh", "")?;
    let (_, found) = by(&root, "POST", "clawker-egress/_search", "")?;
    let hit = found["hits"]["hits"][0].clone();
    let id = hit["_id"].as_str().ok_or("an id")?;
    let text = document.to_string();
    for (method, path, body) in [
        ("POST", "clawker-egress/_search".to_owned(), ""),
        ("GET", "clawker-*/_count".to_owned(), ""),
        ("GET", format!("{index}/_doc/{id}"), ""),
        ("DELETE", format!("{index}/_doc/{id}"), ""),
        ("DELETE", index.clone(), ""),
        ("DELETE", "_data_stream/clawker-egress".to_owned(), ""),
        ("POST", format!("{index}/_update/{id}"), r#"{"doc": {"body": "x"}}"#),
        ("POST", "clawker-egress/_delete_by_query".to_owned(), r#"{"query": {"match_all": {}}}"#),
        ("POST", "clawker-egress/_rollover".to_owned(), ""),
        ("PUT", "clawker-egress/_mapping".to_owned(), r#"{"properties": {"x": {"type": "long"}}}"#),
        ("POST", "elsewhere/_doc".to_owned(), text.as_str()),
        ("POST", "clawker-elsewhere/_doc".to_owned(), text.as_str()),
        ("GET", "_plugins/_security/api/internalusers".to_owned(), ""),
    ] {
        let (status, answer) = by(&collector, method, &path, body)?;
        assert_eq!(status, 403, "{method} {path}: {answer}");
    }
    let (_, answer) = by(&collector, "POST", "_bulk", &bulk("create", "elsewhere"))?;
    assert_eq!(answer["items"][0]["create"]["status"], json!(403), "{answer}");
    // A document that it wrote just now, and was told the number of, is no exception.
    for lines in [
        format!("{{\"delete\": {{\"_index\": \"{index}\", \"_id\": \"{id}\"}}}}\n"),
        format!(
            "{{\"index\": {{\"_index\": \"{index}\", \"_id\": \"{id}\", \"if_seq_no\": 0, \"if_primary_term\": 1}}}}\n{document}\n"
        ),
    ] {
        let (_, answer) = by(&collector, "POST", "_bulk", &lines)?;
        assert_eq!(answer["errors"], json!(true), "{answer}");
    }
    by(&root, "POST", "clawker-*/_refresh", "")?;
    let (_, after) = by(&root, "GET", "clawker-*/_count", "")?;
    assert_eq!(after["count"], json!(documents::ALL.len()), "{after}");
    collected(&url, &authority, password, || {
        by(&root, "POST", "clawker-*/_refresh", "")?;
        let (_, answer) = by(&root, "GET", "clawker-coredns/_count", "")?;
        Ok(answer["count"].as_u64().unwrap_or_default())
    })?;
    wrong(&url, &authority)
}

/// The collector itself, as that user: it needs nothing more.
fn collected(
    url: &str,
    authority: &str,
    password: &str,
    count: impl Fn() -> Result<u64, Failed>,
) -> Result<(), Failed> {
    // Where there is none, the other tests say so.
    let Ok(otelcol) = servers::binary("otelcol", "collector") else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("ca.pem"), authority)?;
    let before = count()?;
    let at = |name: &str| folder.path().join(name).display().to_string();
    fs::write(at("password"), password.replace('$', "$$"))?;
    let login =
        Login { user: "clawker-writer".to_owned(), password: at("password"), authority: Some(at("ca.pem")) };
    let _running = collected::collect(folder.path(), &otelcol, url, Some(login))?;
    let clear = fs::read_to_string(at("config.yaml"))?.contains(password);
    assert!(!clear, "the password is in the configuration");
    let deadline = Instant::now() + LONG;
    while count()? < before + 4 {
        if Instant::now() > deadline {
            return Err(fs::read_to_string(folder.path().join("log"))?.into());
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Who is not who it should be is told so: the server by its certificate, we by our password.
fn wrong(url: &str, authority: &str) -> Result<(), Failed> {
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?.cert.pem();
    for authority in [None, Some(other.as_str())] {
        let refused = Store::new(url, Some(&admin()), authority)?.bootstrap(&Wanted::default());
        assert!(matches!(&refused, Err(Error::Unreachable { .. })), "{refused:?}");
    }
    let stranger = Credentials { user: "admin".to_owned(), password: "wrong".to_owned() };
    for who in [None, Some(&stranger)] {
        let refused = Store::new(url, who, Some(authority))?.bootstrap(&Wanted::default());
        assert!(matches!(&refused, Err(Error::Refused { status: 401, .. })), "{refused:?}");
    }
    assert!(matches!(Store::new(url, None, Some("nothing")), Err(Error::Authority(_))));
    Ok(())
}
