//! The top of the page: status, verdict matrix, transports and verdicts.

use std::time::Duration;

use maud::{Markup, html};

use crate::{
    event::{CellReport, Outcome},
    report::{
        Tally,
        elapsed::elapsed,
        visible::{line, visible},
    },
};

/// One cell in the verdict matrix.
pub struct Square {
    id: String,
    topic: String,
    result: Outcome,
    title: String,
}

impl Square {
    /// A square that leads to the cell's element `id`.
    pub fn new(cell: &CellReport, id: String) -> Self {
        let mut title = format!("{}: {}", cell.result, line(&cell.name));
        if !cell.reason.is_empty() {
            title += &format!("\n{}", line(&cell.reason));
        }
        Self { id, topic: cell.topic.clone(), result: cell.result, title }
    }

    /// The link.
    pub fn render(&self) -> Markup {
        html! { a class=(self.result) href={ "#" (self.id) } title=(self.title) aria-label=(self.title) {} }
    }
}

/// The run in one line.
pub fn status(tally: &Tally) -> String {
    let sum = tally.summary();
    let executed = sum.passed + sum.failed;
    match tally.outcome() {
        Outcome::Pass if executed == 1 => "1 cell passed".to_owned(),
        Outcome::Pass => format!("All {executed} cells passed"),
        Outcome::Fail => format!("{} of {executed} cells failed", sum.failed),
        Outcome::Skip => "Nothing was executed".to_owned(),
    }
}

/// What everybody wants to know first.
pub fn banner(tally: &Tally, started: &str, duration: Duration) -> Markup {
    let sum = tally.summary();
    html! {
        header class=(tally.outcome()) {
            p.name { "clawker-egress · evidence report" }
            h1 { (status(tally)) }
            ul {
                li { b.pass { (sum.passed) } " passed" }
                li { b.fail { (sum.failed) } " failed" }
                li { b.skip { (sum.skipped) } " skipped" }
                li { b { (elapsed(duration)) } " wall time" }
            }
            p.quiet { (visible(started)) }
            @for (reason, count) in tally.skips() {
                p.quiet { (count) " skipped: " (visible(reason)) }
            }
        }
    }
}

/// One row a topic, one square a cell.
pub fn matrix(tally: &Tally, squares: &[Square]) -> Markup {
    html! {
        section {
            h2 { "Verdict matrix" }
            div.scroll {
                table.matrix {
                    thead { tr { th { "topic" } th { "cells" } th.n { "pass" } th.n { "fail" } th.n { "skip" } th.n { "time" } } }
                    tbody {
                        @for (name, topic) in tally.topics() {
                            tr {
                                th scope="row" { (heading(name, Some(topic.outcome()))) }
                                td { div.squares {
                                    @for square in squares.iter().filter(|square| square.topic == name) {
                                        (square.render())
                                    }
                                } }
                                @for number in [topic.summary.passed, topic.summary.failed, topic.summary.skipped] {
                                    (count(number as u64))
                                }
                                td.n { (elapsed(topic.time)) }
                            }
                        }
                    }
                }
            }
            (slowest(tally))
        }
    }
}

/// Where the time went.
fn slowest(tally: &Tally) -> Markup {
    html! {
        @if !tally.slowest().is_empty() {
            p.note {
                "A topic's time is the sum of its cells', which run side by side. Slowest: "
                @for (index, (name, time)) in tally.slowest().iter().enumerate() {
                    @if index > 0 { ", " }
                    span.name title=(line(name)) { (line(name)) } " " (elapsed(*time))
                }
                "."
            }
        }
    }
}

/// What the documents say, over the whole run.
pub fn verdicts(tally: &Tally) -> Markup {
    let columns = tally.verdict_columns();
    html! {
        section {
            h2 { "Documents by transport and verdict" }
            @if tally.verdicts().next().is_none() {
                p.quiet { "No document of a flow was recorded." }
            } @else {
                div.scroll {
                    table {
                        thead { tr { th { "transport" } @for column in &columns { th.n { (column) } } } }
                        tbody {
                            @for (proto, counts) in tally.verdicts() {
                                tr { th scope="row" { (heading(proto, None)) } @for number in counts { (count(*number)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A row's name, cut by the style sheet where a hostile one would push the rest out of sight.
fn heading(name: &str, outcome: Option<Outcome>) -> Markup {
    html! {
        div.heading {
            @if let Some(outcome) = outcome { span.dot.(outcome) {} }
            span title=(line(name)) { (line(name)) }
        }
    }
}

/// Zero is pale: what happened stands out.
fn count(number: u64) -> Markup {
    html! { td.n.zero[number == 0] { (number) } }
}
