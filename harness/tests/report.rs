//! What a person and a machine are shown of a run, and that hostile text stays text.

#[path = "report/sample.rs"]
mod sample;

use std::{
    fs,
    path::{Path, PathBuf},
};

use harness::{
    event::{Event, Outcome},
    report::{Consumer, Html, Json, Junit, Report, Terminal},
};
use html5gum::{Token, Tokenizer};
use proptest::prelude::*;
use serde_json::Value;

/// The file that a report leaves after `events`.
fn written<C: Consumer>(make: impl FnOnce(PathBuf) -> C, events: &[Event]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("report");
    let mut consumer = Box::new(make(path.clone()));
    events.iter().for_each(|event| consumer.event(event));
    consumer.finish().expect("the report is written");
    fs::read_to_string(path).expect("the report is text")
}

/// Tags that only set text: how many there are depends on it (a line each, nothing for the empty text).
const TEXTUAL: [&[u8]; 5] = [b"b", b"p", b"pre", b"small", b"span"];

/// The other tags of a page, in order.
fn tags(page: &str) -> Vec<String> {
    Tokenizer::new(page)
        .filter_map(|token| match token {
            Ok(Token::StartTag(tag)) if !TEXTUAL.contains(&tag.name.as_slice()) => {
                Some(String::from_utf8_lossy(&tag.name).into_owned())
            }
            _ => None,
        })
        .collect()
}

#[test]
fn the_terminal_shows_failures_matrix_and_totals() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("terminal");
    let mut terminal = Box::new(Terminal::plain(fs::File::create(&path).expect("a file")));
    sample::small().iter().for_each(|event| terminal.event(event));
    terminal.finish().expect("written");
    let text = fs::read_to_string(path).expect("text");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report/terminal.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, &text).expect("the golden file is written");
    }
    let expected = fs::read_to_string(golden).expect("the golden file");
    assert_eq!(text, expected, "UPDATE_GOLDEN=1 rewrites it");
    assert_eq!(text.lines().last(), Some("2 passed, 1 failed, 1 skipped"));
}

#[test]
fn the_json_report_has_the_documented_shape() {
    let report: Value = serde_json::from_str(&written(Json::new, &sample::small())).expect("JSON");
    assert_eq!(report["summary"], serde_json::json!({"passed": 2, "failed": 1, "skipped": 1}));
    let cells = report["cells"].as_array().expect("cells");
    assert_eq!(cells.len(), 4);
    for cell in cells {
        for field in
            ["name", "file", "tier", "result", "class", "reason", "duration_ms", "documents", "wire", "model"]
        {
            assert!(cell.get(field).is_some(), "{field} is missing in {cell}");
        }
    }
    assert_eq!((&cells[1]["result"], &cells[1]["class"]), (&"fail".into(), &"leak".into()));
    assert_eq!((&cells[3]["result"], &cells[3]["reason"]), (&"skip".into(), &"needs the stack tier".into()));
}

#[test]
fn the_json_report_reads_back_as_what_was_told() {
    let events = sample::run(vec![sample::failed("udp", "unlisted"), sample::saying(sample::HOSTILE)]);
    let report: Report = serde_json::from_str(&written(Json::new, &events)).expect("the documented shape");
    let told = events.iter().filter_map(|event| match event {
        Event::CellFinished(cell) => Some((**cell).clone()),
        _ => None,
    });
    assert_eq!(report.cells, told.collect::<Vec<_>>());
    assert_eq!(report.summary.failed, 2);
}

#[test]
fn the_junit_report_names_what_a_failure_is_about() {
    let text = written(Junit::new, &sample::run(vec![sample::failed("udp", "unlisted")]));
    let xml = roxmltree::Document::parse(&text).expect("XML");
    let property = |name: &str| {
        let mut properties = xml.descendants().filter(|node| node.attribute("name") == Some(name));
        properties.find_map(|node| node.attribute("value"))
    };
    for (name, value) in [
        ("line", "1"),
        ("class", "leak"),
        ("stage", "ring → reader"),
        ("pcap", "report/report.html.pcaps/unlisted.pcap"),
        ("tag", "udp"),
        ("variable.call", "sendto"),
        ("documents", "2"),
    ] {
        assert_eq!(property(name), Some(value), "{name}");
    }
    let out = xml.descendants().find(|node| node.has_tag_name("system-out")).and_then(|node| node.text());
    let seen: Value = serde_json::from_str(out.expect("an output")).expect("JSON");
    assert_eq!(seen["documents"].as_array().map(Vec::len), Some(2));
}

#[test]
fn the_junit_report_counts_and_parses() {
    let text = written(Junit::new, &sample::small());
    let xml = roxmltree::Document::parse(&text).expect("XML");
    let all = |name: &str| xml.descendants().filter(|node| node.has_tag_name(name)).count();
    assert_eq!((all("testcase"), all("failure"), all("skipped"), all("testsuite")), (4, 1, 1, 2));
}

#[test]
fn the_html_report_holds_every_cell_and_asks_for_nothing() {
    let page = written(Html::new, &sample::small());
    assert!(tags(&page).iter().filter(|tag| *tag == "details").count() >= 4);
    // A browser takes the first of two and drops the colours of the second.
    assert!(
        page.split('<').all(|tag| tag.split('>').next().unwrap_or_default().matches(" class=").count() < 2)
    );
    for word in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(word), "the page must not ask for anything: {word}");
    }
}

/// What must hold for any text that a scenario, an agent or a document could bring.
fn stays_text(text: &str) {
    let events = sample::run(vec![sample::saying(text)]);
    let harmless = tags(&written(Html::new, &sample::run(vec![sample::saying("x")])));
    assert_eq!(tags(&written(Html::new, &events)), harmless, "text became markup");
    let xml = written(Junit::new, &events);
    let xml = roxmltree::Document::parse(&xml).expect("XML");
    assert_eq!(xml.descendants().filter(|node| node.has_tag_name("testcase")).count(), 1);
    let json: Value = serde_json::from_str(&written(Json::new, &events)).expect("JSON");
    assert_eq!(json["cells"][0]["topic"], text, "JSON carries it as it is");
}

#[test]
fn hostile_text_stays_text() {
    stays_text(sample::HOSTILE);
    assert_eq!(sample::saying("x").result, Outcome::Fail);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_text_stays_text(text in "\\PC{0,40}|[<>\"'&/a-z!\\-\\]\\[ \\x00-\\x1f]{0,60}") {
        stays_text(&text);
    }
}
