//! Documents as a table of the attributes that an investigator reads first, with all of each folded below.

use abi::Verdict;
use maud::{Markup, html};
use serde_json::Value;

use crate::report::{tally::attribute, visible::visible};

/// A cell's documents, as the store holds them.
pub fn render(documents: &[Value]) -> Markup {
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
                @for document in documents { (row(document)) }
            } }
        }
    }
}

fn row(document: &Value) -> Markup {
    let field = |name: &str| text(attribute(document, name));
    let agent = [field("project"), field("agent")].map(|label| visible(&label).into_owned());
    html! {
        tbody {
            tr {
                td { (verdict(&field("verdict"))) @if field("record_type") != "flow" { " " (visible(&field("record_type"))) } }
                td { (visible(&field("reason"))) @if !field("hook").is_empty() { small { (visible(&field("hook"))) } } }
                td { @if !agent[0].is_empty() { (agent[0]) "/" } (agent[1]) }
                td { (visible(&field("l4_proto"))) }
                td.code { (endpoint(&field("src_ip"), &field("src_port"))) }
                (destination(document))
                td.n { (visible(&field("bytes_out"))) }
                td.n { (visible(&field("bytes_in"))) }
                td { (visible(&field("close_reason"))) }
                td.n { (visible(&field("event_count"))) }
                td { (visible(&field("comm"))) @if !field("pid").is_empty() { small { (visible(&field("pid"))) } } }
                td { (visible(&field("attribution"))) }
            }
            tr { td colspan="12" { details.fold {
                summary { "JSON" }
                pre { (visible(&format!("{document:#}"))) }
            } } }
        }
    }
}

/// What the agent tried, and where it went if that differs.
fn destination(document: &Value) -> Markup {
    let field = |name: &str| text(attribute(document, name));
    let tried = endpoint(&field("dst_ip"), &field("dst_port"));
    let went = endpoint(&field("actual_dst_ip"), &field("actual_dst_port"));
    html! {
        td.code {
            @if !field("dst_host").is_empty() { b { (visible(&field("dst_host"))) } " " }
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

fn endpoint(ip: &str, port: &str) -> String {
    let host = if ip.contains(':') && !port.is_empty() { format!("[{ip}]") } else { ip.to_owned() };
    let port = if port.is_empty() { String::new() } else { format!(":{port}") };
    visible(&(host + &port)).into_owned()
}

fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
