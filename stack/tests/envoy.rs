//! Envoy's own word on the configuration, and what a person reads of it.

#[path = "envoy/lost.rs"]
mod lost;
mod servers;

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
    time::Duration,
};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use serde_json::{Value, json};
use stack::{
    Container, Envoy, Lane, Listeners, Plan, Shown, Telemetry, Upstream,
    certificates::{Authority, Role},
};

/// How long a certificate holds here.
const YEAR: Duration = Duration::from_secs(365 * 86_400);

const RULES: &str = "
- {dst: api.test, proto: https, path_rules: [{path: /v1, action: allow}, {path: /v1/admin, action: deny}]}
- {dst: '*.cdn.test', proto: https, port: 8443}
- {dst: many.test, proto: https, port: 9000-9002}
- {dst: api.test, proto: http}
- {dst: '*.cdn.test', proto: http}
- {dst: git.test, proto: ssh}
- {dst: 198.51.100.7, proto: https}
- {dst: '2001:db8:1::7', proto: tcp, port: 5432}
- {dst: ntp.test, proto: udp, port: 123}
";

fn main() -> ExitCode {
    let trials = vec![
        Trial::test("files are as they were read last", golden),
        Trial::test("what is not served yet is told", served),
        Trial::ignorable_test("envoy takes it", validated),
        Trial::ignorable_test("what the proxy lost of its log is told", lost::lost),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn plan() -> Plan {
    let container = |id: &str, agent: &str, addresses: &[&str], rules| Container {
        container_id: id.to_owned(),
        agent: agent.to_owned(),
        project: "demo".to_owned(),
        addresses: addresses.iter().map(|address| address.parse().expect("an address")).collect(),
        rules: rules::parse(rules).expect("rules"),
    };
    let containers = [
        container("one", "100% \"quoted\" ü", &["198.18.0.2", "2001:db8::2"], RULES),
        container(
            "two",
            "scout",
            &["198.18.0.3"],
            "[{dst: api.test, proto: https}, {dst: git.test, proto: ssh}]",
        ),
        container("three", "", &["198.18.0.4"], "[]"),
    ];
    Plan::new(&containers, Listeners::default(), None).expect("a plan")
}

fn upstream(folder: &str) -> Upstream {
    Upstream {
        resolvers: vec![
            "198.18.0.53:53".parse().expect("an address"),
            "[2001:db8::53]:53".parse().expect("another"),
        ],
        authorities: format!("{folder}/authorities.crt"),
        collector: ("collector.test".to_owned(), 4317),
        telemetry: Telemetry {
            names: vec!["198.18.0.1".to_owned(), "2001:db8::1".to_owned()],
            grpc: ("collector.test".to_owned(), Lane::Claude.port().expect("a receiver")),
            http: ("collector.test".to_owned(), Lane::Claude.http_port().expect("a receiver")),
        },
        own: vec!["198.18.0.0/24".parse().expect("a network")],
        folder: folder.to_owned(),
    }
}

fn golden() -> Result<(), Failed> {
    let (plan, upstream) = (plan(), upstream("/etc/envoy"));
    for (name, content) in Envoy::new(&plan, &upstream).files() {
        insta::assert_json_snapshot!(name, content);
    }
    Ok(())
}

/// Of what Envoy says of itself, as far as it is read.
fn dump(envoy: &Envoy<'_>) -> Value {
    let files = envoy.files();
    let resources = |begin: &str| -> Vec<Value> {
        let of = files.iter().filter(|(name, _)| name.starts_with(begin));
        of.filter_map(|(_, content)| content["resources"].as_array()).flatten().cloned().collect()
    };
    let listeners = resources("lds").into_iter();
    json!({"configs": [
        {"dynamic_active_clusters": resources("cds").iter().map(|one| json!({"cluster": one})).collect::<Vec<_>>()},
        {"dynamic_listeners": listeners.map(|one| json!({"active_state": {"listener": one}})).collect::<Vec<_>>()},
        {"dynamic_route_configs": resources("rds").iter().map(|one| json!({"route_config": one})).collect::<Vec<_>>()},
    ]})
}

fn served() -> Result<(), Failed> {
    let upstream = upstream("/etc/envoy");
    let (before, mut containers) = (plan(), plan().containers);
    containers[0].rules = rules::parse("[{dst: api.test, proto: https}, {dst: new.test, proto: ssh}]")?;
    let after = Plan::new(&containers, Listeners::default(), Some(&before))?;
    let (before, after) = (Envoy::new(&before, &upstream), Envoy::new(&after, &upstream));
    assert_eq!(before.unserved(&dump(&before)), [""; 0]);
    let told = after.unserved(&dump(&before));
    for line in [
        "cluster http one is still served",
        "listener tcp:new.test:22 is not served yet",
        "listener http is still served",
        "filter chain one 0 of https is served as it was before",
        "route table https-one is served as it was before",
    ] {
        assert!(told.iter().any(|one| one == line), "{line}: {told:#?}");
    }
    for untouched in
        ["route table https-two", "cluster https one", "listener https", "chain two 0", "of tcp:new"]
    {
        assert!(!told.iter().any(|one| one.contains(untouched)), "{untouched}: {told:#?}");
    }
    let mut refused = dump(&after);
    refused["configs"][1]["dynamic_listeners"][0]["error_state"] = json!({"details": "no such port"});
    assert_eq!(after.unserved(&refused), ["Envoy refuses a listener: no such port"]);
    assert!(!after.unserved(&json!({})).is_empty(), "one that says nothing serves nothing");
    Ok(())
}

fn validated() -> Result<Completion, Failed> {
    let envoy = match servers::binary("envoy", "envoy") {
        Ok(envoy) => envoy,
        Err(reason) => return Ok(Completion::Ignored { reason: Some(reason) }),
    };
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let upstream = upstream(folder.path().to_str().ok_or("a path in UTF-8")?);
    let plan = plan();
    let generated = Envoy::new(&plan, &upstream);
    write(&generated, folder.path())?;
    fs::write(at("whole.json"), serde_json::to_vec_pretty(&generated.whole())?)?;
    // The whole one for its content, the bootstrap for itself.
    for file in ["whole.json", "bootstrap.json"] {
        let output = Command::new(&envoy).args(["--mode", "validate", "-c"]).arg(at(file)).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() || said.contains("Deprecated") {
            return Err(format!("{file}: {said}").into());
        }
    }
    Ok(Completion::Completed)
}

/// All that Envoy reads, in the folder that it sees; whom it shows its lane's certificate to has the same.
fn write(generated: &Envoy<'_>, folder: &Path) -> Result<(), Failed> {
    let at = |name: &str| folder.join(name);
    fs::create_dir_all(at("certificates"))?;
    for folder in ["lane", "telemetry"] {
        fs::create_dir_all(at(folder))?;
    }
    for Shown { file, names } in generated.certificates() {
        let pair = rcgen::generate_simple_self_signed(names)?;
        fs::write(at(&format!("certificates/{file}.crt")), pair.cert.pem())?;
        fs::write(at(&format!("certificates/{file}.key")), pair.signing_key.serialize_pem())?;
    }
    let authority = Authority::open(folder, "authority")?;
    fs::copy(at("authority-ca.crt"), at("authorities.crt"))?;
    for lane in ["lane", "telemetry"] {
        authority.issue(&["envoy"], Role::Client, YEAR)?.write(&at(lane), "tls")?;
        fs::copy(at("authority-ca.crt"), at(lane).join("ca.crt"))?;
    }
    for (name, content) in generated.files() {
        fs::write(at(&name), serde_json::to_vec_pretty(&content)?)?;
    }
    Ok(())
}
