//! Documents as a table of the attributes that an investigator reads first, with all of each folded below.

use abi::Verdict;
use maud::{Markup, html};
use serde_json::Value;

use crate::report::{tally::attribute, visible::visible};

/// Bytes from which on text scrolls in a box of its own.
const LONG: usize = 240;

/// Documents that are shown of one cell, and as many again of those that an expectation names: a browser takes no more of
/// a flood.
const MOST: usize = 200;

/// A cell's documents, as the store holds them; marked are those that an expectation names.
pub fn render(documents: &[Value], asserted: &[usize]) -> Markup {
    let named = asserted.get(..MOST).unwrap_or(asserted);
    let is_shown = |at: usize| at < MOST || named.contains(&at);
    let left_out = (0..documents.len()).filter(|at| !is_shown(*at)).count();
    html! {
        h3 { "Documents: what was recorded" }
        @if documents.is_empty() {
            p.quiet { "None." }
        } @else {
            div.scroll { table.documents {
                thead { tr {
                    th { "verdict" } th { "reason" } th { "agent" } th { "transport" } th { "from" } th { "to" }
                    th.n { "out" } th.n { "in" } th { "end" } th.n { "events" } th { "process" } th { "attribution" }
                } }
                @for (at, document) in documents.iter().enumerate().filter(|(at, _)| is_shown(*at)) {
                    (row(document, asserted.contains(&at)))
                }
            } }
            @if left_out > 0 { p.quiet { (left_out) " more are not shown here: `--json FILE` has them all." } }
        }
    }
}

fn row(document: &Value, asserted: bool) -> Markup {
    let field = |name: &str| plain(attribute(document, name));
    html! {
        tbody {
            tr {
                td { (verdict(&field("verdict"))) @if asserted { small title="An expectation names this document and its verdict" { "asserted" } }
                     @if field("record_type") != "flow" { " " (visible(&field("record_type"))) } }
                td { (short(&field("reason"))) @if !field("hook").is_empty() { small { (visible(&field("hook"))) } } }
                td { (text(&field("project"))) "/" (text(&field("agent"))) }
                td { (short(&field("l4_proto"))) }
                td.code { (endpoint(&field("src_ip"), &field("src_port"))) }
                (destination(document))
                td.n { (visible(&field("bytes_out"))) }
                td.n { (visible(&field("bytes_in"))) }
                td { (short(&field("close_reason"))) }
                td.n { (visible(&field("event_count"))) }
                td { (short(&field("comm"))) @if !field("pid").is_empty() { small { (visible(&field("pid"))) } } }
                td { (short(&field("attribution"))) }
            }
            tr { td colspan="12" { details.fold {
                summary { "JSON" }
                pre { (visible(&format!("{document:#}"))) }
            } } }
        }
    }
}

/// Text of an agent's choice: the empty one is seen, and a long one takes no more than its place.
pub fn text(text: &str) -> Markup {
    html! {
        @if text.is_empty() {
            i.quiet { "empty" }
        } @else if text.len() > LONG {
            div.long tabindex="0" { (visible(text)) }
        } @else {
            (visible(text))
        }
    }
}

/// What the agent tried, and where it went if that differs.
fn destination(document: &Value) -> Markup {
    let field = |name: &str| plain(attribute(document, name));
    let tried = endpoint(&field("dst_ip"), &field("dst_port"));
    let went = endpoint(&field("actual_dst_ip"), &field("actual_dst_port"));
    html! {
        td.code {
            @if !field("dst_host").is_empty() { b { (text(&field("dst_host"))) } " " }
            (tried)
            @if !went.is_empty() && went != tried { small { "→ " (went) } }
        }
    }
}

/// A verdict in its colour; anything else as it is.
pub fn verdict(verdict: &str) -> Markup {
    let class = Verdict::ALL
        .iter()
        .find(|known| known.as_str() == verdict)
        .map_or_else(String::new, |known| known.as_str().to_lowercase());
    html! { span class={ "verdict " (class) } { (visible(verdict)) } }
}

/// As [`text`], but nothing where there is nothing.
fn short(value: &str) -> Markup {
    html! { @if !value.is_empty() { (text(value)) } }
}

fn endpoint(ip: &str, port: &str) -> String {
    let host = if ip.contains(':') && !port.is_empty() { format!("[{ip}]") } else { ip.to_owned() };
    let port = if port.is_empty() { String::new() } else { format!(":{port}") };
    visible(&(host + &port)).into_owned()
}

fn plain(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
