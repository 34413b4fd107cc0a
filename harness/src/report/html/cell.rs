//! One cell: what was expected, what each oracle saw, what disagrees.

use std::path::Path;

use maud::{Markup, html};

use super::{documents, filter::Facets, steps};
use crate::{
    event::{CellReport, Failure, ModelVerdict, Outcome, WireCount},
    report::{elapsed::elapsed, visible::visible},
};

/// The cell as a foldable part, failures open. The target `id` lies inside the fold, because browsers
/// unfold what holds the target of a link.
pub fn render(cell: &CellReport, id: &str, facets: &Facets, report: &Path) -> Markup {
    html! {
        details.cell.(cell.result) open[cell.result == Outcome::Fail]
            data-result=(cell.result) data-class=(facets.lines("class")) data-topic=(facets.lines("topic"))
            data-tag=(facets.lines("tag")) data-transport=(facets.lines("transport"))
            data-verdict=(facets.lines("verdict")) data-covers=(facets.lines("covers")) {
            summary {
                span.badge { (cell.result) }
                span.name { (visible(&cell.name)) }
                @if let Some(class) = cell.class { span.class { (class) } }
                span.time { (elapsed(cell.duration)) }
            }
            div.body {
                div.target id=(id) {}
                @if !cell.reason.is_empty() && cell.failures.is_empty() { p.reason { (visible(&cell.reason)) } }
                @for failure in &cell.failures { (render_failure(failure)) }
                p.quiet {
                    (visible(&cell.file.to_string_lossy())) ":" (cell.position.0) " · tier " (cell.tier)
                    (variables(&cell.variables))
                    @for tag in &cell.tags { " · " span.tag { (visible(tag)) } }
                }
                @if let Some(pcap) = &cell.pcap { (capture(pcap, cell.pcap_cut, report)) }
                (steps::render(&cell.steps))
                div.columns {
                    (wire(&cell.wire))
                    (model(&cell.model))
                }
                (documents::render(&cell.documents, &cell.asserted))
                details.fold open[cell.result == Outcome::Fail] {
                    summary { "Scenario, expanded" }
                    pre { (visible(&cell.source)) }
                }
            }
        }
    }
}

/// A link to the capture, relative to the report, so that the folder can be moved as one.
fn capture(pcap: &Path, cut: u64, report: &Path) -> Markup {
    let folder = report.parent().unwrap_or(Path::new(""));
    let shown = pcap.to_string_lossy();
    let relative = pcap.strip_prefix(folder).unwrap_or(pcap);
    // `./` so that no name is taken for a scheme.
    let start = if relative.is_absolute() { "" } else { "./" };
    html! {
        p.quiet {
            "Capture: " a href={ (start) (percent(&relative.to_string_lossy())) } { (visible(&shown)) }
            @if cut > 0 { " (without its last " (cut) " packets)" }
        }
    }
}

/// A path as a URL has it: all but letters, digits and `-._~/` as `%XX`.
fn percent(path: &str) -> String {
    use std::fmt::Write as _;
    path.bytes().fold(String::new(), |mut url, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            url.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(url, "%{byte:02X}");
        }
        url
    })
}

fn variables(variables: &[(String, String)]) -> Markup {
    html! {
        @for (name, value) in variables { " · " span.variable { (visible(name)) "=" (visible(value)) } }
    }
}

fn render_failure(failure: &Failure) -> Markup {
    html! {
        div.failure {
            h3 { span.class { (failure.class) } " " (visible(&failure.message)) }
            @if !failure.detail.is_empty() {
                pre { @for row in visible(&failure.detail).lines() { span class=[mark(row)] { (row) } "\n" } }
            }
        }
    }
}

/// Colour for a row of a field diff (`- expected`, `+ found`) or of an excerpt's caret.
fn mark(row: &str) -> Option<&'static str> {
    let row = row.trim_start();
    if row.starts_with("- ") {
        Some("minus")
    } else if row.starts_with("+ ") {
        Some("plus")
    } else if row.trim_start_matches(['|', '│', ' ']).starts_with('^') {
        Some("caret")
    } else {
        None
    }
}

fn wire(counts: &[WireCount]) -> Markup {
    html! {
        div {
            h3 { "Wire: what arrived" }
            @if counts.is_empty() {
                p.quiet { "Nothing." }
            } @else {
                div.scroll { table {
                    thead { tr { th { "destination" } th { "transport" } th.n { "packets" } th.n { "bytes" } } }
                    tbody { @for count in counts { tr {
                        td.code { (visible(&count.dst)) }
                        td { (visible(&count.l4_proto)) }
                        td.n { (count.packets) }
                        td.n { (count.bytes) }
                    } } }
                } }
            }
        }
    }
}

fn model(verdicts: &[ModelVerdict]) -> Markup {
    html! {
        div {
            h3 { "Model: what should happen" }
            @if verdicts.is_empty() {
                p.quiet { "No verdict." }
            } @else {
                div.scroll { table {
                    thead { tr { th { "destination" } th { "transport" } th { "verdict" } th { "because" } } }
                    tbody { @for verdict in verdicts { tr {
                        td.code { (visible(&verdict.dst)) }
                        td { (visible(&verdict.l4_proto)) }
                        td { (documents::verdict(&verdict.verdict)) }
                        td { (visible(&verdict.because)) }
                    } } }
                } }
            }
        }
    }
}
