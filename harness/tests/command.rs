//! The command line: what a person is told who gets it wrong, and what `explain` and `template` say.
//!
//! `failing/command/*.args` has one argument a line; `*.expected` beside it is the exit code and exactly what is
//! printed.

mod golden;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use rstest::rstest;

const HARNESS: &str = env!("CARGO_BIN_EXE_harness");

/// A folder with a right scenario, a broken one, and nothing else.
fn place() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (file, content) in [
        ("scenarios/connect/case.yaml", include_str!("explain/case.yaml")),
        ("broken/case.yaml", "name: broken\n"),
    ] {
        let file = folder.path().join(file);
        fs::create_dir_all(file.parent().expect("a parent")).expect("a folder");
        fs::write(file, content).expect("a file");
    }
    fs::create_dir(folder.path().join("empty")).expect("a folder");
    folder
}

fn harness(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(HARNESS)
        .args(arguments)
        .current_dir(folder)
        .env_remove("RUST_LOG")
        .env("NO_COLOR", "1")
        .output()
        .expect("the harness starts")
}

#[rstest]
fn a_wrong_command_is_told(#[files("tests/failing/command/*.args")] file: PathBuf) {
    let folder = place();
    let arguments = fs::read_to_string(&file).expect("the arguments");
    let output = harness(folder.path(), &arguments.lines().collect::<Vec<_>>());
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_ne!(output.status.code(), Some(0), "{out}{err}");
    let code = output.status.code().map_or_else(|| output.status.to_string(), |code| code.to_string());
    golden::compare(&file.with_extension("expected"), &format!("exit code {code}\n{out}{err}"))
        .unwrap_or_else(|told| panic!("{told}"));
    let kept = fs::read_to_string(folder.path().join("scenarios/connect/case.yaml")).expect("the case");
    assert_eq!(kept, include_str!("explain/case.yaml"), "a scenario was overwritten");
}

/// Every kind of step, expectation and setting in words; the golden text is for reading.
#[test]
fn cells_are_explained() {
    let folder = place();
    let output = harness(folder.path(), &["explain", "scenarios"]);
    assert!(output.status.success(), "{output:?}");
    let actual = String::from_utf8(output.stdout).expect("text");
    let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/explain/case.expected"));
    golden::compare(file, &actual).unwrap_or_else(|told| panic!("{told}"));
}

#[test]
fn explanations_are_filtered() {
    let folder = place();
    let output = harness(folder.path(), &["explain", "scenarios", "--filter", "family=v6"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("family = v6") && !text.contains("family = v4"), "{text}");
}

/// Everything that is shipped can be explained, and every destination in it is judged.
#[test]
fn every_scenario_is_explained() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let output = harness(folder, &["explain", "scenarios"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let listed = harness(folder, &["list", "scenarios"]);
    let cells = String::from_utf8_lossy(&listed.stdout).lines().filter(|line| line.contains("::")).count();
    assert_eq!(text.lines().filter(|line| line.starts_with("  file ")).count(), cells);
    assert!(text.matches("model: ").count() > cells / 2, "{text}");
}

/// What the template writes is right as it is: it lints, runs green, and is not written twice.
#[test]
fn the_template_is_green() {
    let folder = place();
    for name in ["new", "topic/deep/other.yaml"] {
        let output = harness(folder.path(), &["template", name]);
        assert!(output.status.success(), "{output:?}");
        let again = harness(folder.path(), &["template", name]);
        assert_eq!(again.status.code(), Some(3), "{again:?}");
    }
    let text =
        fs::read_to_string(folder.path().join("scenarios/topic/deep/other.yaml")).expect("the scenario");
    assert!(text.starts_with("# yaml-language-server: $schema=../../schema.json\n"), "{text}");
    let files = ["scenarios/new.yaml", "scenarios/topic"];
    let lint = harness(folder.path(), &["lint", files[0], files[1]]);
    assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stdout));
    let run = harness(folder.path(), &["run", files[0], files[1]]);
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success() && out.contains("6 passed, 0 failed"), "{out}{err}");
}
