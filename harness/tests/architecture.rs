//! The rules of ARCHITECTURE.md of who may know whom, on the workspace as cargo sees it and on the source.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Who may know whom. The harness may know all but what measures; both are known by nobody.
const RULES: [(&str, &[&str]); 13] = [
    ("abi", &[]),
    ("policy", &["abi"]),
    ("programs", &["abi", "policy"]),
    ("manager", &["abi", "emitter", "policy", "rules"]),
    ("reader", &["abi", "documents", "emitter"]),
    ("documents", &[]),
    ("emitter", &["documents"]),
    ("rules", &[]),
    ("stack", &["documents", "rules"]),
    ("harness", &["abi", "policy", "manager", "reader", "rules", "stack", "documents", "emitter"]),
    ("bench", &["abi", "manager", "reader", "rules"]),
    ("gate", &[]),
    ("relay", &[]),
];

/// Whom a crate's tests alone may know: the gate waits for what the manager makes.
const IN_TESTS: [(&str, &str); 1] = [("gate", "manager")];

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
            let in_tests = dependency.kind == DependencyKind::Development
                && IN_TESTS.contains(&(package.name.as_str(), dependency.name.as_str()));
            assert!(
                in_tests || allowed.contains(&dependency.name.as_str()),
                "{} must not know {} (ARCHITECTURE.md, Invariants)",
                package.name,
                dependency.name
            );
        }
    }
}

/// Modules of the harness that must stay apart from the rest, and all that they may know of it.
const MODULES: [(&str, &[&str]); 7] = [
    // An oracle only as long as it shares nothing with what it judges.
    ("model", &["scenario"]),
    // Consumers of the events, whose words `transport` has.
    ("report", &["event", "transport"]),
    ("event", &["transport"]),
    ("wire", &["event"]),
    ("endpoint", &[]),
    ("docker", &["owner"]),
    // The place: others enforce and judge.
    ("world", &["actor", "far", "owner", "scenario", "wire"]),
];

#[test]
fn modules_know_only_whom_they_may() {
    for (module, allowed) in MODULES {
        for file in files(module) {
            let source = fs::read_to_string(&file).expect("a source file");
            for known in modules_known(&source).into_iter().filter(|known| known != module) {
                let told = format!("{} must not know `{known}` (ARCHITECTURE.md)", file.display());
                assert!(allowed.contains(&known.as_str()), "{told}");
            }
        }
    }
}

#[test]
fn the_model_shares_nothing_with_what_it_judges() {
    for file in files("model") {
        let source = fs::read_to_string(&file).expect("a source file");
        for name in ["policy::", "manager::", "reader::"] {
            assert!(!source.contains(name), "{} must not use `{name}`", file.display());
        }
    }
}

/// Whoever runs in production may not panic: the lints that see to it are switched on, and nowhere off.
#[test]
fn production_does_not_panic() {
    let lints = ["unwrap_used", "expect_used", "panic", "indexing_slicing", "arithmetic_side_effects"];
    let roots = [
        ("../ebpf/manager/src", "lib.rs"),
        ("../reader/src", "lib.rs"),
        ("../stack/emitter/src", "lib.rs"),
        ("../stack/relay/src", "lib.rs"),
        ("../stack/src", "main.rs"),
    ];
    for (root, top) in roots {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
        let lib = fs::read_to_string(root.join(top)).expect("the top of the crate");
        let denied =
            lib.split_once("deny(").and_then(|(_, rest)| rest.split_once(')')).map_or("", |(list, _)| list);
        for lint in lints {
            assert!(denied.contains(&format!("clippy::{lint}")), "{} does not deny {lint}", root.display());
        }
        // A file of tests is none of production's.
        for file in below(&root).into_iter().filter(|file| !file.ends_with("tests.rs")) {
            let source = fs::read_to_string(&file).expect("a source file");
            let off = |line: &&str| {
                (line.contains("[allow(") || line.contains("[expect("))
                    && lints.iter().any(|lint| line.contains(lint))
            };
            assert_eq!(source.lines().find(off), None, "{}", file.display());
        }
    }
}

/// The files of a module of the harness.
fn files(module: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let own = root.join(format!("{module}.rs"));
    let mut files = below(&root.join(module));
    files.extend(own.exists().then_some(own));
    assert!(!files.is_empty(), "there is no module `{module}`");
    files
}

/// Every source file below a folder; none where there is no folder.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The first name of every path from `crate::`, also of those in one pair of braces.
fn modules_known(source: &str) -> BTreeSet<String> {
    let code: String = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut found = BTreeSet::new();
    for path in code.split("crate::").skip(1) {
        let Some(list) = path.strip_prefix('{') else {
            found.extend(first_name(path));
            continue;
        };
        let mut depth = 0_usize;
        let mut begins = true;
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                c if begins && !c.is_whitespace() => {
                    found.extend(first_name(&list[at..]));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    found
}

fn first_name(path: &str) -> Option<String> {
    let end = path.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(path.len());
    // What begins with a capital is a re-export of the crate's root.
    (end > 0).then(|| path[..end].to_owned())
}

#[test]
fn the_scan_finds_what_is_known() {
    let source = "use crate::{\n    a::{b::C, d},\n    e,\n};\nuse crate::f::G;\n// crate::h\nfn i() { crate::j::k() }";
    let known: Vec<String> = modules_known(source).into_iter().collect();
    assert_eq!(known, ["a", "e", "f", "j"]);
}
