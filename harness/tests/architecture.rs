//! The dependency rules of ARCHITECTURE.md, on the workspace as cargo sees it.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::MetadataCommand;

/// Who may know whom. The harness may know all, and is known by nobody.
const RULES: [(&str, &[&str]); 6] = [
    ("abi", &[]),
    ("policy", &["abi"]),
    ("programs", &["abi", "policy"]),
    ("manager", &["abi", "policy"]),
    ("reader", &["abi"]),
    ("harness", &["abi", "policy", "manager", "reader"]),
];

#[test]
fn crates_know_only_whom_they_may() {
    let metadata = MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo describes the workspace");
    let members: BTreeSet<String> =
        metadata.packages.iter().map(|package| package.name.to_string()).collect();
    let rules: BTreeMap<&str, &[&str]> = RULES.into_iter().collect();
    assert_eq!(
        members.iter().map(String::as_str).collect::<Vec<_>>(),
        rules.keys().copied().collect::<Vec<_>>()
    );
    for package in &metadata.packages {
        let allowed = rules[package.name.as_str()];
        for dependency in package.dependencies.iter().filter(|dependency| members.contains(&dependency.name))
        {
            assert!(
                allowed.contains(&dependency.name.as_str()),
                "{} must not know {} (ARCHITECTURE.md, Invariants)",
                package.name,
                dependency.name
            );
        }
    }
}

/// The model is an oracle only as long as it shares nothing with what it judges.
#[test]
fn the_model_shares_nothing_with_what_it_judges() {
    let source = include_str!("../src/model.rs");
    for word in ["policy::", "manager::", "use policy", "use manager"] {
        assert!(!source.contains(word), "harness/src/model.rs must not use `{word}`");
    }
}
