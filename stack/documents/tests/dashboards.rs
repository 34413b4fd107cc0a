//! What the saved objects name is there: fields in the mappings, objects among themselves.

mod golden;

use std::collections::{BTreeMap, BTreeSet};

use documents::{ALL, saved_objects, template};
use serde_json::Value;

fn objects() -> Vec<Value> {
    saved_objects().lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// The leaves of a stream's mapping, by their paths, and their types.
fn mapped(stream: &documents::Stream) -> BTreeMap<String, String> {
    fn leaves(properties: &Value, path: &str, found: &mut BTreeMap<String, String>) {
        for (name, mapping) in properties.as_object().expect("properties") {
            let path = format!("{path}{name}");
            match mapping["type"].as_str() {
                Some(kind) => drop(found.insert(path, kind.to_owned())),
                None => leaves(&mapping["properties"], &format!("{path}."), found),
            }
        }
    }
    let mut found = BTreeMap::new();
    leaves(&template(stream)["template"]["mappings"]["properties"], "", &mut found);
    found
}

/// A value with the JSON that stands in its texts read as well.
fn opened(value: &Value) -> Value {
    match value {
        Value::String(text) if text.starts_with(['{', '[']) => {
            serde_json::from_str(text).map_or_else(|_| value.clone(), |inner: Value| opened(&inner))
        }
        Value::Array(list) => list.iter().map(opened).collect(),
        Value::Object(object) => object.iter().map(|(key, value)| (key.clone(), opened(value))).collect(),
        other => other.clone(),
    }
}

/// Every field that an object names, wherever Dashboards has such names; those that it counts by or lists.
fn named(value: &Value, all: &mut BTreeSet<String>, listed: &mut BTreeSet<String>) {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match value {
        Value::Array(list) => list.iter().for_each(|value| named(value, all, listed)),
        Value::Object(object) => {
            for (key, value) in object {
                match key.as_str() {
                    "columns" => all.extend(value.as_array().into_iter().flatten().filter_map(text)),
                    "sort" => {
                        all.extend(value.as_array().into_iter().flatten().filter_map(|pair| text(&pair[0])))
                    }
                    "timeFieldName" | "key" => all.extend(text(value)),
                    "fieldName" | "field" => listed.extend(text(value)),
                    "match_phrase" => {
                        all.extend(value.as_object().into_iter().flatten().map(|(name, _)| name.clone()))
                    }
                    // A query's text could name fields, and none is read here.
                    "query" if value.is_string() => {}
                    _ => named(value, all, listed),
                }
            }
            if let Some(query) = object.get("language").and(object.get("query")) {
                assert_eq!(query, "", "a query in words, whose fields nobody checks");
            }
        }
        _ => {}
    }
}

#[test]
fn every_field_that_is_named_is_mapped() {
    let mut everywhere = BTreeMap::new();
    for stream in ALL {
        everywhere.extend(mapped(&stream));
    }
    let mut count = 0;
    for object in objects() {
        let (mut all, mut listed) = (BTreeSet::new(), BTreeSet::new());
        named(&opened(&object["attributes"]), &mut all, &mut listed);
        // A view's columns are those of its own stream.
        let stream = ALL.into_iter().find(|stream| object["id"] == stream.name);
        let known = stream.map_or_else(|| everywhere.clone(), |stream| mapped(&stream));
        for name in all.iter().chain(&listed) {
            assert!(known.contains_key(name), "{}: {name} is not mapped", object["id"]);
        }
        for name in &listed {
            // What has no value can be shown of keywords alone; dates and numbers are for axes and sums.
            assert_ne!(known[name], "ip", "{}: {name} cannot be counted by", object["id"]);
            assert_ne!(known[name], "text", "{}: {name} cannot be counted by", object["id"]);
        }
        count += all.len() + listed.len();
    }
    assert!(count > 60, "{count} names were found: the search for them misses some");
}

#[test]
fn a_field_that_is_not_mapped_would_be_found() {
    let object = serde_json::json!({
        "columns": ["a"], "sort": [["b", "desc"]],
        "visState": "{\"aggs\": [{\"params\": {\"field\": \"c\"}}], \"params\": {\"controls\": [{\"fieldName\": \"d\"}]}}",
        "searchSourceJSON": "{\"filter\": [{\"meta\": {\"key\": \"e\"}, \"query\": {\"match_phrase\": {\"f\": 1}}}]}",
    });
    let (mut all, mut listed) = (BTreeSet::new(), BTreeSet::new());
    named(&opened(&object), &mut all, &mut listed);
    assert_eq!(all.into_iter().chain(listed).collect::<Vec<_>>().join(" "), "a b e f c d");
}

#[test]
fn objects_name_each_other_and_what_they_refer_by() {
    let objects = objects();
    let there: BTreeSet<(String, String)> =
        objects.iter().map(|object| (object["type"].to_string(), object["id"].to_string())).collect();
    assert_eq!(there.len(), objects.len(), "identifiers are unique");
    for object in &objects {
        let text = opened(&object["attributes"]).to_string();
        for reference in object["references"].as_array().expect("references") {
            let to = (reference["type"].to_string(), reference["id"].to_string());
            assert!(there.contains(&to), "{}: {to:?}", object["id"]);
            assert!(text.contains(&reference["name"].to_string()), "{}: {reference}", object["id"]);
        }
        assert_eq!(text.matches("RefName\"").count(), object["references"].as_array().map_or(0, Vec::len));
    }
}

#[test]
fn every_stream_has_a_view_and_a_panel_and_all_are_narrowed_by_the_same() {
    let objects = objects();
    let page = objects.iter().find(|object| object["type"] == "dashboard").expect("a page");
    for stream in ALL {
        assert!(objects.iter().any(|object| object["type"] == "search" && object["id"] == stream.name));
        assert!(
            page["references"].as_array().is_some_and(|all| all.iter().any(|of| of["id"] == stream.name))
        );
    }
    let controls = objects.iter().find(|object| object["id"] == "clawker-controls").expect("controls");
    let state = opened(&controls["attributes"]["visState"]);
    let by: Vec<_> =
        state["params"]["controls"].as_array().expect("a list").iter().map(|of| &of["fieldName"]).collect();
    assert_eq!(by, ["attributes.agent", "attributes.project", "attributes.verdict"]);
}

#[test]
fn the_file_is_as_it_was_read_last() {
    golden::compare("dashboards.ndjson", &saved_objects());
}
