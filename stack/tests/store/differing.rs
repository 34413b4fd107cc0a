//! What is there and is not as it should be: told, and left as it is.

use documents::template;
use libtest_mimic::Failed;
use serde_json::{Value, json};
use stack::store::{Outcome, Report, Wanted};

use super::{Plain, document, of};

/// How it differs.
fn differs(report: &Report, what: &str, name: &str) -> Result<String, Failed> {
    match of(report, what, name)? {
        Outcome::Differs(how) => Ok(how.clone()),
        other => Err(format!("{what} {name} is {other:?}").into()),
    }
}

pub fn changed(plain: &Plain) -> Result<(), Failed> {
    plain.bootstrap(&Wanted::default())?;
    let name = documents::COREDNS.name;
    let mut theirs = template(&documents::COREDNS);
    theirs["template"]["settings"]["index"]["refresh_interval"] = json!("30s");
    theirs["template"]["mappings"]["properties"]["attributes"]["properties"]
        .as_object_mut()
        .map(|of| of.remove("qtype"));
    plain.done("PUT", &format!("_index_template/{name}"), &theirs)?;
    let read = || plain.done("GET", &format!("_index_template/{name}"), &Value::Null);
    let before = read()?;
    let how = differs(&plain.bootstrap(&Wanted::default())?, "template", name)?;
    assert!(how.contains("refresh_interval is new") && how.contains("qtype is missing"), "{how}");
    assert_eq!(read()?, before);
    // The stream goes on by their template, and lacks what that lacks: the mapping is added to.
    plain.done("POST", &format!("{name}/_rollover"), &Value::Null)?;
    let report = plain.bootstrap(&Wanted { overwrite: true, ..Wanted::default() })?;
    assert!(matches!(of(&report, "template", name)?, Outcome::Updated(_)), "{report}");
    assert_eq!(*of(&report, "stream", name)?, Outcome::Updated("added attributes.qtype".to_owned()));
    assert_eq!(plain.create(name, &document(&documents::COREDNS))?.0, 201);
    // Of another kind, a field cannot be changed where it is.
    theirs["template"]["mappings"]["properties"]["attributes"]["properties"]["qtype"] =
        json!({"type": "long"});
    plain.done("PUT", &format!("_index_template/{name}"), &theirs)?;
    plain.done("POST", &format!("{name}/_rollover"), &Value::Null)?;
    let how = differs(&plain.bootstrap(&Wanted { overwrite: true, ..Wanted::default() })?, "stream", name)?;
    assert!(
        how.contains(r#"attributes.qtype.type: "keyword" is "long""#) && how.contains("_rollover"),
        "{how}"
    );
    plain.done("POST", &format!("{name}/_rollover"), &Value::Null)?;
    let report = plain.bootstrap(&Wanted::default())?;
    assert_eq!(*of(&report, "template", name)?, Outcome::AsItIs);
    assert_eq!(*of(&report, "stream", name)?, Outcome::AsItIs);
    Ok(())
}

pub fn outranked(plain: &Plain) -> Result<(), Failed> {
    let put = |patterns: &str| {
        let theirs =
            json!({"index_patterns": [patterns], "priority": 900, "data_stream": {}, "template": {}});
        plain.done("PUT", "_index_template/theirs", &theirs)
    };
    put("clawker-c*")?;
    let told = differs(&plain.bootstrap(&Wanted::default())?, "stream", documents::CP.name);
    // One that is in use cannot be removed.
    put("elsewhere")?;
    plain.done("DELETE", "_index_template/theirs", &Value::Null)?;
    let told = told?;
    assert!(told.contains(r#"template "theirs""#), "{told}");
    Ok(())
}

pub fn in_the_way(plain: &Plain) -> Result<(), Failed> {
    plain.bootstrap(&Wanted::default())?;
    let name = documents::CP.name;
    for path in ["_data_stream", "_index_template"] {
        plain.done("DELETE", &format!("{path}/{name}"), &Value::Null)?;
    }
    // A collector that came first.
    plain.done("POST", &format!("{name}/_doc?refresh=true"), &json!({"body": "early"}))?;
    let how = differs(&plain.bootstrap(&Wanted::default())?, "stream", name)?;
    assert!(how.contains("no data stream"), "{how}");
    assert_eq!(plain.all(name)?, 1);
    plain.done("DELETE", name, &Value::Null)?;
    assert_eq!(*of(&plain.bootstrap(&Wanted::default())?, "stream", name)?, Outcome::Made);
    Ok(())
}
