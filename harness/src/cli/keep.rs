//! The time after a run that keeps its worlds: how to enter them, and what they do meanwhile.

use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use harness::{
    interrupt,
    judge::{attribute, before_port},
    lab::Lab,
    report::visible,
    scenario::fields::EGRESS_STREAM,
    world::KeptWorld,
};
use serde_json::Value;

use crate::say;

/// Between two looks at whether it is to end.
const LOOK: Duration = Duration::from_millis(200);

/// Tells how to enter the worlds, and shows their documents, until a signal comes.
pub fn keep(lab: &Lab) {
    let mut seen = lab.endpoint.documents(EGRESS_STREAM, |_| true).len();
    eprintln!("\n{}", directions(&lab.kept(), io::stdin().is_terminal()));
    while interrupt::requested().is_none() {
        let news = lab.endpoint.news(EGRESS_STREAM, seen, Instant::now() + LOOK);
        seen += news.len();
        for document in &news {
            // The worlds stay up for those who do not look.
            let _ = say(&format!("{}\n", visible(&summary(document))));
        }
    }
    eprintln!("\nremoving {} world(s)", lab.kept().len());
}

/// What a person does now.
fn directions(worlds: &[KeptWorld], terminal: bool) -> String {
    let mut text = String::new();
    for world in worlds {
        text += &format!("{}\n", visible(&world.cell));
        for (number, agent) in world.agents.iter().enumerate() {
            // A label may be anything; a number is always safe to type.
            text += &format!(
                "    harness shell {} {number}    # as {}\n",
                world.name,
                visible(&agent.agent.agent)
            );
        }
        text += &format!("    harness shell {} far  # as root, where the hosts are\n", world.name);
    }
    let end = if terminal { "Ctrl-C".to_owned() } else { format!("`kill -INT {}`", std::process::id()) };
    text + &format!(
        "The worlds are up, enforced and recorded until {end} removes them. `-- PROGRAM …` behind a line runs a\n\
         program in place of a shell. What their agents do from now on is shown here:"
    )
}

/// A document in one line.
fn summary(document: &Value) -> String {
    let text = |name| match attribute(document, name) {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let host = text("dst_host");
    format!(
        "{} {} {} {}:{}{} reason={} bytes_out={} bytes_in={} comm={}",
        text("agent"),
        text("verdict"),
        text("l4_proto"),
        before_port(&text("dst_ip")),
        text("dst_port"),
        if host.is_empty() { String::new() } else { format!(" ({host})") },
        text("reason"),
        text("bytes_out"),
        text("bytes_in"),
        text("comm"),
    )
}
