//! The JSON Schema of scenario files: current, right about what is right, and about what a schema can see.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use harness::scenario::{self, schema};
use jsonschema::Validator;
use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Goldens of `failing/` whose fault takes more than the shape of one value to see.
const BEYOND: &str = include_str!("schema/beyond.txt");

fn validator() -> Validator {
    jsonschema::draft7::new(&schema::value()).expect("the schema is one")
}

/// The documents of a file as an editor has them: variables in place, but as text.
fn documents(text: &str) -> Option<Vec<Value>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // As YAML 1.2 has it, and the harness: `off` is a word.
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_multiple_with_options(&quoted(text), options).ok()
}

/// An editor takes `{n: ${n}}` for a fault of YAML; here it is what the harness takes it for.
fn quoted(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut rest = line;
        while let Some(at) = rest.find("${") {
            let (before, from) = rest.split_at(at);
            let end = from.find('}').map_or(from.len(), |end| end + 1);
            let bare = before.trim().is_empty() || before.ends_with([' ', '[', '{']);
            let inside =
                (out.rsplit('\n').next().unwrap_or_default().to_owned() + before).matches('"').count() % 2
                    == 1;
            out.push_str(before);
            let (variable, after) = from.split_at(end);
            if bare && !inside {
                out.push_str(&format!("\"{variable}\""))
            } else {
                out.push_str(variable)
            }
            rest = after;
        }
        out.push_str(rest);
        out.push('\n');
    }
    out
}

fn faults(validator: &Validator, document: &Value) -> Vec<String> {
    validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path)).collect()
}

fn yaml(folder: &str) -> Vec<PathBuf> {
    scenario::discover(&[Path::new(ROOT).join(folder)]).expect("the folder is there")
}

#[test]
fn the_committed_schema_is_current() {
    let file = Path::new(ROOT).join("../scenarios/schema.json");
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, schema::text()).expect("the schema can be written");
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    assert!(committed == schema::text(), "`harness schema > scenarios/schema.json` makes it current");
}

#[test]
fn every_scenario_is_right() {
    let validator = validator();
    let files = yaml("../scenarios");
    assert!(files.len() > 30);
    for file in files {
        let text = fs::read_to_string(&file).expect("a file");
        let documents = documents(&text).unwrap_or_else(|| panic!("{} is no YAML", file.display()));
        assert!(!documents.is_empty(), "{}", file.display());
        for document in documents {
            let faults = faults(&validator, &document);
            assert!(faults.is_empty(), "{}: {faults:#?}", file.display());
        }
    }
}

#[test]
fn what_a_schema_can_see_is_refused() {
    let validator = validator();
    let beyond: BTreeSet<&str> = BEYOND.lines().filter(|line| !line.starts_with('#')).collect();
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for file in yaml("tests/failing") {
        let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
        // What is no YAML is refused before there is anything for a schema.
        let documents = fs::read_to_string(&file).ok().and_then(|text| documents(&text));
        let refused = documents.is_none_or(|documents| {
            documents.is_empty() || documents.iter().any(|document| !validator.is_valid(document))
        });
        if refused == beyond.contains(name.as_str()) {
            wrong.push((name.clone(), refused));
        }
        seen.insert(name);
    }
    assert!(
        wrong.is_empty(),
        "(file, refused by the schema): {wrong:#?}; tests/schema/beyond.txt lists what is not"
    );
    let gone: Vec<_> = beyond.iter().filter(|name| !seen.contains(**name)).collect();
    assert!(gone.is_empty(), "no such file: {gone:?}");
    assert!(seen.len() > 2 * beyond.len(), "a schema that sees less than half is of little use");
}
