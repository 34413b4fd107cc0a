//! What the reports say, to the letter; and that no text of an agent or author gets a say in their form.

use std::{
    cell::RefCell,
    fs, io,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use harness::{
    event::{CellReport, Event},
    report::{Consumer, Fanout, Html, Json, Junit, Report, Terminal, visible},
};
use html5gum::{Token, Tokenizer};
use proptest::prelude::*;

mod golden;
#[path = "report/sample.rs"]
mod sample;

/// Hands `events` to what `make` makes for a path, and reads what it wrote there.
fn written<C: Consumer + 'static>(make: impl FnOnce(PathBuf) -> C, events: &[Event]) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("new folder/report");
    let mut consumer: Box<dyn Consumer> = Box::new(make(path.clone()));
    events.iter().for_each(|event| consumer.event(event));
    consumer.finish().expect("the report is written");
    fs::read_to_string(path).expect("the report is UTF-8 text")
}

/// Compares with the golden file `name`.
fn golden(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report").join(name);
    golden::compare(&file, text).unwrap_or_else(|told| panic!("{told}"));
}

/// A writer whose content stays readable.
#[derive(Clone, Default)]
struct Shared(Rc<RefCell<Vec<u8>>>);

impl io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn terminal(events: &[Event]) -> String {
    shown(events, false)
}

fn shown(events: &[Event], coverage: bool) -> String {
    let out = Shared::default();
    let mut consumer: Box<dyn Consumer> = Box::new(Terminal::plain(out.clone()).with_coverage(coverage));
    events.iter().for_each(|event| consumer.event(event));
    consumer.finish().expect("memory takes any text");
    String::from_utf8(out.0.take()).expect("text")
}

#[test]
fn terminal_text() {
    let text = terminal(&sample::small());
    assert_eq!(text.lines().last(), Some("2 passed, 1 failed, 1 skipped in 12.3s"));
    golden("terminal.txt", &text);
}

#[test]
fn the_coverage_table_is_shown_where_it_is_wanted() {
    let text = shown(&sample::small(), true);
    let row = |transport: &str| {
        let row = text.lines().find(|row| row.starts_with(&format!("│ {transport} "))).expect(transport);
        row.trim_matches('│').split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    // Of the two UDP cells that ran one failed; the third was skipped, and says where it would be.
    assert_eq!(text.matches("1 1✗ 1?").count(), 1, "{text}");
    assert_eq!(row("sctp"), ["none"; 9]);
    assert_eq!(row("packet"), ["–"; 9]);
    assert!(text.contains(" places covered, ") && text.contains(" blank\n"), "{text}");
    assert!(!terminal(&sample::small()).contains("places covered"));
}

#[test]
fn of_many_cells_the_slowest_are_named() {
    let cells = |count: u64| {
        let cell = |ms| CellReport {
            duration: Duration::from_millis(ms),
            ..sample::cell("udp", &format!("c{ms}"), &[])
        };
        terminal(&sample::run((1..=count).map(cell).collect()))
    };
    assert!(cells(12).contains(
        "slowest:\n    12ms  udp/c12.yaml::c12\n    11ms  udp/c11.yaml::c11\n    10ms  udp/c10.yaml::c10\n\n"
    ));
    assert!(!cells(4).contains("slowest"));
}

#[test]
fn a_terminal_is_not_steered_by_what_it_shows() {
    let text = terminal(&sample::run(vec![sample::saying(sample::HOSTILE)]));
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text}");
    assert!(text.contains("\\u{1b}[2J"), "the label is shown all the same:\n{text}");
}

#[test]
fn an_empty_run_ends_with_the_totals_too() {
    let text = terminal(&sample::run(Vec::new()));
    assert_eq!(text.lines().last(), Some("0 passed, 0 failed, 0 skipped in 12.3s"));
}

#[test]
fn json_text() {
    let text = written(Json::new, &sample::small());
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    golden("report.json", &format!("{value:#}\n"));
}

#[test]
fn json_keeps_hostile_text_as_it_is() {
    let text = written(Json::new, &sample::run(vec![sample::saying(sample::HOSTILE)]));
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value["cells"][0]["name"], sample::HOSTILE);
    assert_eq!(value["cells"][0]["documents"][0]["attributes"]["agent"], sample::HOSTILE);
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
    let seen: serde_json::Value = serde_json::from_str(out.expect("an output")).expect("JSON");
    assert_eq!(seen["documents"].as_array().map(Vec::len), Some(2));
}

#[test]
fn junit_has_a_suite_a_topic() {
    let text = written(Junit::new, &sample::small());
    let xml = roxmltree::Document::parse(&text).expect("XML");
    let suites: Vec<_> = xml
        .descendants()
        .filter(|node| node.has_tag_name("testsuite"))
        .map(|suite| {
            ["name", "tests", "failures", "disabled"].map(|name| suite.attribute(name).unwrap_or("absent"))
        })
        .collect();
    assert_eq!(suites, [["tcp", "1", "0", "0"], ["udp", "3", "1", "1"]]);
    let only = |tag: &str| xml.descendants().find(|node| node.has_tag_name(tag)).expect("one of each");
    assert_eq!(only("skipped").attribute("message"), Some("needs the stack tier"));
    assert_eq!(only("failure").attribute("type"), Some("leak"));
    assert_eq!(only("failure").attribute("message"), Some("2 packets reached ntp.test, expected 0"));
    assert!(only("failure").text().is_some_and(|text| text.contains("+ verdict: ALLOWED")), "{text}");
}

#[test]
fn every_report_of_a_fan_is_written_although_one_cannot() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let blocked = folder.path().join("blocked");
    fs::create_dir(&blocked).expect("a folder where the file should be");
    let json = folder.path().join("report.json");
    let mut fan: Box<dyn Consumer> =
        Box::new(Fanout::default().with(Json::new(&json)).with(Html::new(&blocked)));
    sample::small().iter().for_each(|event| fan.event(event));
    let error = fan.finish().expect_err("a folder cannot be overwritten").to_string();
    assert!(error.contains("HTML") && error.contains("blocked"), "{error}");
    assert!(json.exists());
}

/// Names and attribute names of every tag, in order: all that a browser could act on.
fn skeleton(html: &str) -> Vec<String> {
    let mut tags = Vec::new();
    for Ok(token) in Tokenizer::new(html) {
        match token {
            Token::StartTag(tag) => {
                let attributes: Vec<_> =
                    tag.attributes.keys().map(|key| String::from_utf8_lossy(key).into_owned()).collect();
                tags.push(format!("{} {}", String::from_utf8_lossy(&tag.name), attributes.join(" ")));
            }
            Token::EndTag(tag) => tags.push(format!("/{}", String::from_utf8_lossy(&tag.name))),
            Token::Error(error) => panic!("not well-formed: {error:?}"),
            Token::Comment(_) => panic!("the page has no comments"),
            Token::String(_) | Token::Doctype(_) => {}
        }
    }
    tags
}

fn html_of(cell: CellReport) -> String {
    written(Html::new, &sample::run(vec![cell]))
}

#[test]
fn html_asks_for_nothing_and_runs_nothing_else() {
    let html = html_of(sample::saying(sample::HOSTILE));
    let tags = skeleton(&html);
    assert_eq!(tags.iter().filter(|tag| tag.starts_with("script")).count(), 1);
    assert!(
        !tags.iter().any(|tag| tag.contains(" src") || tag.starts_with("link") || tag.starts_with("img"))
    );
    // Places of this page, and the capture beside it, whose name is no scheme.
    for (at, _) in html.match_indices("href=\"") {
        let link = &html[at + 6..];
        assert!(link.starts_with('#') || link.starts_with("./%3C/script%3E"), "{}", &link[..40]);
    }
    assert!(html.contains("default-src 'none'; style-src 'sha256-"), "the policy forbids the rest");
    assert!(!html.contains("unsafe-inline"));
}

#[test]
fn html_shows_every_part_of_a_failed_cell() {
    let html = written(Html::new, &sample::small());
    for part in [
        "1 of 3 cells failed",
        "2 packets reached ntp.test, expected 0",
        "<span class=\"plus\">  + verdict: ALLOWED</span>",
        "actual: ALLOWED",
        "198.51.100.9:443",
        "no rule permits udp/123",
        "→ 198.18.4.1:15001",
        "&quot;event_id&quot;: &quot;lab:42&quot;",
        "match: {verdict: DENIED, l4_proto: udp, bytes_out: 0}",
        "needs the stack tier",
        "send: {to: &quot;ntp.test:123&quot;, via: sendto, bytes: 48}",
        "expected <b>EPERM</b>",
        "href=\"#covers=udp/v4/DENIED\"",
        "by design: sock_create refuses raw sockets",
        ">none</td>",
        "data-covers=\"udp/v4/DENIED\"",
    ] {
        assert!(html.contains(part), "{part} is missing");
    }
}

/// A browser does not open fifty thousand rows.
#[test]
fn of_a_flood_html_shows_a_part_and_what_is_asserted() {
    let mut cell = sample::cell("faults", "a flood", &[]);
    cell.documents = (0..1000).map(|port| sample::document("DENIED", "udp", "ntp.test", port, 48)).collect();
    cell.asserted = vec![3, 777];
    let html = html_of(cell);
    assert_eq!(html.matches(">asserted</small>").count(), 2);
    assert_eq!(html.matches("198.51.100.7:199<").count(), 1, "the first 200");
    assert_eq!(html.matches("198.51.100.7:200<").count(), 0);
    assert_eq!(html.matches("198.51.100.7:777<").count(), 1);
    assert!(html.contains("799 more are not shown here: `--json FILE` has them all."));
}

#[test]
fn hostile_values_are_seen_everywhere() {
    let long = format!("{}\"\n\u{202e}end", "L".repeat(4096));
    for (text, seen) in [
        (sample::HOSTILE, "\\u{1b}[2J\\u{0}\\u{202e}"),
        ("\u{202e}\u{2066}\u{200f}tab\there", "\\u{202e}\\u{2066}\\u{200f}tab"),
        (&long, "\\u{202e}end"),
        ("\u{ad}\u{3164}\u{e0041}", "\\u{ad}\\u{3164}\\u{e0041}"),
    ] {
        let events = sample::run(vec![sample::saying(text)]);
        let html = written(Html::new, &events);
        // Name, labels, tag, steps, wire, model, failure, source; and the JSON of the document.
        assert!(html.matches(seen).count() >= 12, "{seen} {} times", html.matches(seen).count());
        let xml = written(Junit::new, &events);
        roxmltree::Document::parse(&xml).expect("XML");
        assert!(xml.contains(seen), "{seen}");
        let terminal = terminal(&events);
        assert!(terminal.contains(seen), "{seen}");
        for text in [&html, &xml, &terminal] {
            let acts =
                |c: char| c.is_control() && c != '\n' && c != '\t' || ('\u{202a}'..='\u{202e}').contains(&c);
            assert!(!text.contains(acts), "{seen}");
        }
    }
}

#[test]
fn an_empty_label_is_seen_to_be_empty() {
    let mut cell = sample::cell("udp", "empty", &[]);
    cell.documents[0]["attributes"]["agent"] = "".into();
    assert!(html_of(cell).contains("demo/<i class=\"quiet\">empty</i>"));
}

/// Any text, and what is near to breaking out: syntax, controls, reordering.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<String>(),
        "[<>&\"'/=!\\[\\]\\x00-\\x1f -]{0,12}",
        prop::sample::select(vec![
            "</pre>",
            "</script>",
            "<!--",
            "-->",
            "]]>",
            "<![CDATA[",
            "&#0;",
            "&lt;",
            "\u{202e}",
            "\u{ffff}"
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 1..4)
        .prop_map(|pieces| pieces.concat())
        .prop_filter("empty parts are left out", |text| !text.is_empty())
}

/// Letters alone, with the same rows and the same attributes present as in `text`.
fn harmless(text: &str) -> String {
    visible(text).chars().map(|c| if c == '\n' { c } else { 'x' }).collect()
}

/// The elements of a document, in order.
fn elements<'a>(xml: &'a roxmltree::Document<'_>) -> Vec<&'a str> {
    xml.descendants().filter(|node| node.is_element()).map(|node| node.tag_name().name()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn no_text_changes_the_form_of_the_html(text in text()) {
        let hostile: Vec<_> = skeleton(&html_of(sample::saying(&text))).iter().map(|tag| tag.replace("span class", "span ")).collect();
        let plain: Vec<_> = skeleton(&html_of(sample::saying(&harmless(&text)))).iter().map(|tag| tag.replace("span class", "span ")).collect();
        prop_assert_eq!(hostile, plain);
    }

    #[test]
    fn no_text_breaks_the_xml(text in text()) {
        let report = written(Junit::new, &sample::run(vec![sample::saying(&text)]));
        let xml = roxmltree::Document::parse(&report).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let plain = written(Junit::new, &sample::run(vec![sample::saying(&harmless(&text))]));
        let plain = roxmltree::Document::parse(&plain).expect("letters break nothing");
        prop_assert_eq!(elements(&xml), elements(&plain));
        let case = xml.descendants().find(|node| node.has_tag_name("testcase")).expect("one case");
        let shown = visible(&text).replace('\n', "\\n").replace('\t', "\\t");
        prop_assert_eq!(case.attribute("name"), Some(shown.as_str()));
    }
}
