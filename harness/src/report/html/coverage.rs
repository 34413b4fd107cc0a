//! The coverage table: transport × family × verdict, each place a link to its cells.

use abi::Verdict;
use maud::{Markup, html};
use strum::IntoEnumIterator;

use super::overview::Square;
use crate::{
    event::Outcome,
    report::{Coverage, Place, visible::visible},
    transport::IpFamily,
};

/// The table, its reasons, and the cells of every place; the squares are in the order of the run.
pub fn render(coverage: &Coverage, squares: &[Square]) -> Markup {
    let mut reasons: Vec<String> = Vec::new();
    let rows: Vec<Markup> = coverage
        .rows()
        .map(|(transport, places)| {
            html! {
                tr {
                    th scope="row" { (transport) }
                    @match alike(&places) {
                        // Nobody reads one reason nine times.
                        Some(reason) => { td.cannot colspan=(places.len()) {
                            div { (visible(reason)) " · " a href={ "#transport=" (transport) } { "cells" } }
                        } }
                        None => { @for place in &places { (cell(place, &mut reasons)) } }
                    }
                }
            }
        })
        .collect();
    let sum = coverage.summary();
    html! {
        section {
            h2 { "Coverage" }
            p.note {
                b { (sum.covered) } " places covered, " b { (sum.cannot) } " cannot be, "
                b.fail[sum.blank > 0] { (sum.blank) } " blank"
                @if sum.contradicted > 0 { ", " b.fail { (sum.contradicted) } " covered although they cannot be" }
                ". A number is of cells that passed; ✗ failed, ? skipped; it leads to them."
            }
            div.scroll {
                table.coverage {
                    thead {
                        tr {
                            th rowspan="2" { "transport" }
                            @for family in IpFamily::iter() { th colspan=(Verdict::ALL.len()) { (family) } }
                        }
                        tr { @for (_, verdict) in Coverage::columns() { th { (verdict) } } }
                    }
                    tbody { @for row in &rows { (row) } }
                }
            }
            @if !reasons.is_empty() {
                p.note { "Cannot be covered:" }
                ol.reasons { @for (index, reason) in reasons.iter().enumerate() {
                    li id={ "why-" (index + 1) } { (visible(reason)) }
                } }
            }
            details.fold {
                summary { "Cells of each place" }
                @for place in coverage.rows().flat_map(|(_, places)| places).filter(|place| !place.cells.is_empty()) {
                    div.place id=(anchor(&place)) {
                        span.n { (place.position) }
                        div.squares { @for (at, _) in place.cells {
                            @if let Some(square) = squares.get(*at) { (square.render()) }
                        } }
                    }
                }
            }
        }
    }
}

/// The reason, if no place of a row can be covered, for one and the same.
fn alike<'p>(places: &'p [Place<'_>]) -> Option<&'p str> {
    let first = places.first()?.cannot.as_deref()?;
    let same = |place: &Place<'_>| place.cells.is_empty() && place.cannot.as_deref() == Some(first);
    places.iter().all(same).then_some(first)
}

/// One place. A reason that was given before keeps its number.
fn cell(place: &Place<'_>, reasons: &mut Vec<String>) -> Markup {
    let number = place.cannot.as_ref().map(|reason| {
        reasons.iter().position(|known| known == reason).unwrap_or_else(|| {
            reasons.push(reason.clone());
            reasons.len() - 1
        }) + 1
    });
    let why = html! { @if let Some(number) = number { a.why href={ "#why-" (number) } { (number) } } };
    if place.is_blank() {
        return html! { td.blank title={ (place.position) ": no cell covers it" } { "none" } };
    }
    if place.cells.is_empty() {
        return html! { td.cannot title=(visible(place.cannot.as_deref().unwrap_or_default())) { "–" (why) } };
    }
    let [passed, failed, skipped] = [Outcome::Pass, Outcome::Fail, Outcome::Skip].map(|one| place.count(one));
    let worst = match (failed, passed) {
        (1.., _) => Outcome::Fail,
        (0, 1..) => Outcome::Pass,
        (0, 0) => Outcome::Skip,
    };
    html! {
        td {
            a.(worst) href={ "#" (anchor(place)) }
                title={ (place.position) ": " (passed) " passed, " (failed) " failed, " (skipped) " skipped" } {
                @if passed > 0 { (passed) }
                @if failed > 0 { " " (failed) "✗" }
                @if skipped > 0 { " " (skipped) "?" }
            }
            @if place.is_contradicted() { b.fail { "!" } (why) }
        }
    }
}

/// What a place's link leads to: without scripts, its list of cells; with them, the filter.
fn anchor(place: &Place<'_>) -> String {
    format!("covers={}", place.position)
}
