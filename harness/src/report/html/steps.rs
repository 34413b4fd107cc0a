//! What was done, in order, and what the agent's own calls returned.

use maud::{Markup, html};

use super::documents::text as cut;
use crate::{
    event::{CallReport, StepReport},
    report::visible::visible,
};

/// A cell's steps.
pub fn render(steps: &[StepReport]) -> Markup {
    html! {
        h3 { "Steps: what was done" }
        div.scroll { table.steps {
            thead { tr { th { "step" } th { "outcome" } th { "from → to" } th.n { "sent" } th.n { "read" } } }
            tbody { @for step in steps { tr {
                td.code title=(visible(&step.path)) { (cut(&step.text)) }
                @match &step.call {
                    Some(call) => { (called(call)) }
                    None => { td colspan="4" { span.quiet { "–" } } }
                }
            } } }
        } }
    }
}

fn called(call: &CallReport) -> Markup {
    let right = call.outcome == call.expected;
    html! {
        td {
            b.pass[right].fail[!right] { (cut(&call.outcome)) }
            @if !right { " expected " b { (cut(&call.expected)) } }
            @if !call.detail.is_empty() { small { (cut(&call.detail)) } }
            small { "by " (cut(&call.agent)) }
            (output("standard output", &call.stdout))
            (output("standard error", &call.stderr))
        }
        td.code {
            @if let Some(src) = call.src { (src) " " }
            @if let Some(dst) = call.dst { "→ " (dst) }
        }
        td.n.zero[call.sent == 0] { (call.sent) }
        td.n.zero[call.received == 0] { (call.received) }
    }
}

fn output(title: &str, text: &str) -> Markup {
    html! { @if !text.is_empty() { details.fold { summary { (title) } pre { (visible(text)) } } } }
}
