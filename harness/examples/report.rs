//! Writes a made-up run as an HTML, JSON and JUnit report, and shows it on the terminal: to look at
//! the reports without running anything. `cargo run -p harness --example report -- FOLDER`

use std::{env, io, path::PathBuf};

use harness::report::{Consumer, Fanout, Html, Json, Junit, Terminal};

#[path = "../tests/report/sample.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod sample;

fn main() -> io::Result<()> {
    let folder = PathBuf::from(env::args_os().nth(1).unwrap_or_else(|| "report".into()));
    let mut cells = vec![sample::failed("udp", "unlisted"), sample::saying(sample::HOSTILE)];
    for topic in ["bypass", "connect", "dns", "ledger", "tcp", "udp"] {
        for family in ["v4", "v6"] {
            for call in ["connect", "nonblock", "sendto", "sendmsg", "sendmmsg", "connected"] {
                cells.push(sample::cell(topic, "denied_and_recorded", &[("family", family), ("call", call)]));
            }
        }
        cells.push(sample::skipped(
            topic,
            "from_a_container",
            "needs the stack tier, and there is no Docker",
        ));
    }
    let mut reports: Box<dyn Consumer> = Box::new(
        Fanout::default()
            .with(Terminal::stdout())
            .with(Html::new(folder.join("report.html")))
            .with(Json::new(folder.join("report.json")))
            .with(Junit::new(folder.join("report.xml"))),
    );
    for event in sample::run(cells) {
        reports.event(&event);
    }
    reports.finish()
}
