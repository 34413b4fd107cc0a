//! What becomes of agents' metrics: counters that are known, with labels of known values, and whose they are.
//!
//! A series is kept for as long as the exporter knows it, so a label is never what a sender chooses: a value that is not in
//! the table is `other`, and a model is known by its family and version. That bounds the series of a container, however
//! hostile. Type, unit and description are the table's too: the exporter refuses a metric that differs from what it was
//! told first, so that one sender could silence the others.

use serde_json::{Value, json};

use super::agents;

/// A counter of Claude Code.
pub(super) struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its unit, which ends the name of its series.
    pub unit: &'static str,
    /// Its labels besides those of the lane.
    pub labels: &'static [Label],
}

/// A label, and the values that it has.
pub(super) struct Label {
    /// Its name.
    pub name: &'static str,
    /// Its values; of none, it is a model.
    pub values: &'static [&'static str],
}

const fn counter(name: &'static str, unit: &'static str, labels: &'static [Label]) -> Metric {
    Metric { name, unit, labels }
}

const fn label(name: &'static str, values: &'static [&'static str]) -> Label {
    Label { name, values }
}

const MODEL: Label = label("model", &[]);

/// The counters that are documented.
pub(super) const METRICS: [Metric; 8] = [
    counter(
        "claude_code.session.count",
        "",
        &[label("start_type", &["fresh", "resume", "continue", "agents_view"])],
    ),
    counter("claude_code.lines_of_code.count", "", &[label("type", &["added", "removed"])]),
    counter("claude_code.pull_request.count", "", &[]),
    counter("claude_code.commit.count", "", &[]),
    counter("claude_code.cost.usage", "USD", &[MODEL]),
    counter(
        "claude_code.token.usage",
        "tokens",
        &[MODEL, label("type", &["input", "output", "cacheRead", "cacheCreation"])],
    ),
    counter(
        "claude_code.code_edit_tool.decision",
        "",
        &[
            label("tool_name", &["Edit", "MultiEdit", "Write", "NotebookEdit"]),
            label("decision", &["accept", "reject"]),
            label(
                "source",
                &["config", "hook", "user_permanent", "user_temporary", "user_abort", "user_reject"],
            ),
        ],
    ),
    counter("claude_code.active_time.total", "s", &[label("type", &["user", "cli"])]),
];

/// A model by family and version, in any of the ways that it is written: as the Anthropic API, a cloud, or with the size of
/// its context.
const MODELS: [&str; 2] = [
    r"^.*?(claude-(?:opus|sonnet|haiku)-[4-9](?:-[0-9])?)(?:[^0-9].*)?$",
    r"^.*?(claude-[23](?:-[0-9])?-(?:opus|sonnet|haiku|instant))(?:[^a-z].*)?$",
];
/// Characters of a label of the lane's; one that is longer is cut.
const LONGEST: u16 = 256;

/// Drops what is no counter of these, or does not tell by how much it rose: of several sessions in one container, totals
/// could not be added up. And points of no time, which are two bytes in a request, and hundreds once they have labels.
pub(super) fn known() -> Value {
    let names: Vec<String> = METRICS.iter().map(|metric| format!(r#"name == "{}""#, metric.name)).collect();
    let rising = "type == METRIC_DATA_TYPE_SUM and aggregation_temporality == AGGREGATION_TEMPORALITY_DELTA and is_monotonic == true";
    json!({"error_mode": "propagate", "metrics": {
        "metric": [format!("not ({rising} and ({}))", names.join(" or "))],
        "datapoint": ["time_unix_nano == 0"],
    }})
}

/// Makes of each point what is told of it.
pub(super) fn remade() -> Value {
    let mut described = vec![r#"set(description, "")"#.to_owned(), r#"set(unit, "")"#.to_owned()];
    let mut points = agents::labels();
    // Where from is told by the events.
    points.retain(|statement| !statement.contains("src_ip"));
    for label in ["agent", "project", "container_id"] {
        points.push(format!(r#"replace_pattern(cache["{label}"], "(?s)^(.{{{LONGEST}}}).*$", "$$1")"#));
    }
    for metric in METRICS.iter() {
        if !metric.unit.is_empty() {
            described.push(format!(r#"set(unit, "{}") where name == "{}""#, metric.unit, metric.name));
        }
        points.extend(metric.labels.iter().flat_map(|label| labelled(metric.name, label)));
    }
    points.extend(
        [
            "set(attributes, cache)",
            "set(flags, 0)",
            "set(value_double, value_double + Double(value_int))",
            // The exporter adds to what it has only what begins when that ended, and takes all else for a new beginning:
            // between reports that are not one behind the other, which is what senders do that have nothing to report.
            "set(start_time_unix_nano, 1)",
            "set(time_unix_nano, 1)",
        ]
        .map(str::to_owned),
    );
    json!({
        "error_mode": "propagate",
        "metric_statements": [
            {"context": "metric", "statements": described},
            {"context": "datapoint", "statements": points},
            {"context": "resource", "statements": agents::cleared()},
            {"context": "scope", "statements": agents::scope()},
        ],
    })
}

/// Drops what no counter rises by.
pub(super) fn rising() -> Value {
    json!({
        "error_mode": "propagate",
        "metrics": {"datapoint": ["not (value_double >= 0.0 and value_double < 1000000000000.0)"]},
    })
}

/// Puts a label of one metric into what is made.
fn labelled(metric: &str, label: &Label) -> Vec<String> {
    let Label { name, values } = label;
    let value = format!(r#"attributes["{name}"]"#);
    let of_metric = format!(r#"metric.name == "{metric}""#);
    let mut statements = Vec::new();
    if values.is_empty() {
        for pattern in MODELS {
            statements.push(format!(
                r#"set(cache["{name}"], {value}) where {of_metric} and {}"#,
                agents::matches(&value, pattern)
            ));
            statements.push(format!(r#"replace_pattern(cache["{name}"], "{pattern}", "$$1") where {of_metric} and cache["{name}"] != nil"#));
        }
    } else {
        let pattern = format!("^({})$", values.join("|"));
        statements.push(format!(
            r#"set(cache["{name}"], {value}) where {of_metric} and {}"#,
            agents::matches(&value, &pattern)
        ));
    }
    statements.push(format!(
        r#"set(cache["{name}"], "other") where {of_metric} and cache["{name}"] == nil and {value} != nil"#
    ));
    statements
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names that the patterns of [`MODELS`] let through: families, versions, and with a second number or without.
    const NAMES: usize = 3 * 6 * 11 + 2 * 11 * 4;
    const PAGE: &str = include_str!("../../../docs/telemetry.md");

    #[test]
    fn the_series_of_a_container_have_the_bound_that_is_told() {
        // Of each label also `other`, and that it is not there.
        let values = |label: &Label| if label.values.is_empty() { NAMES + 2 } else { label.values.len() + 2 };
        let most: usize =
            METRICS.iter().map(|metric| metric.labels.iter().map(values).product::<usize>()).sum();
        assert_eq!(most, 2224);
        assert!(PAGE.contains("at most 2,224 series"), "docs/telemetry.md");
    }

    #[test]
    fn every_counter_and_label_is_in_the_page() {
        for metric in METRICS {
            let name = metric.name.replace("claude_code.", "").replace('.', "_");
            assert!(
                PAGE.contains(&format!("`{name}"))
                    || PAGE.contains(&name.replace("_total", "_seconds_total")),
                "{name}"
            );
            for label in metric.labels {
                assert!(PAGE.contains(&format!("`{}`", label.name)), "{}", label.name);
            }
        }
    }
}
