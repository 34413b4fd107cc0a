//! Says what cells do and what is expected of them, in words, without running anything.
//!
//! What the naive model says here is said of the names, rules and bypass that the steps before have left, at
//! the pace that the case's own waits give. A run judges by what really was known at the time.

mod expected;
mod steps;
mod words;

use crate::{report::visible, scenario::Cell};
use words::{Paragraph, fields, rule};

/// Every cell, parted by empty lines.
pub fn cells(cells: &[Cell]) -> String {
    cells.iter().map(cell).collect::<Vec<_>>().join("\n")
}

/// One cell.
pub fn cell(cell: &Cell) -> String {
    let scenario = &cell.scenario;
    let mut text = Paragraph::new(&cell.name);
    let (line, _) = cell.locate("name").unwrap_or((1, 1));
    text.row("file", &format!("{}:{line}", cell.file.display()));
    text.row("about", scenario.about.trim());
    text.row("gap", &scenario.gap.map_or_else(String::new, |gap| gap.to_string()));
    text.row("tags", &scenario.tags.join(", "));
    let variables: Vec<String> =
        cell.variables.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    text.row("variables", &variables.join(", "));
    for agent in scenario.each_agent() {
        text.row("agent", &format!("{}{}", quoted(&agent.agent), fields(agent, &["agent"])));
    }
    let rules: Vec<String> = scenario.rules.iter().map(rule).collect();
    text.row("rules", &if rules.is_empty() { "none".to_owned() } else { rules.join("; ") });
    text.row("network", fields(&scenario.network, &[]).trim_start_matches(", "));
    if let Some(proxy) = &scenario.proxy {
        text.row("proxy", &format!("listens{}", fields(proxy, &[])));
    }
    if let Some(resolver) = &scenario.resolver {
        text.row("resolver", &format!("answers{}", fields(resolver, &[])));
    }
    for (name, host) in &scenario.hosts {
        text.row("host", &format!("{name}{}", fields(host, &["ttl"])));
    }
    text.row("settings", fields(&scenario.settings, &[]).trim_start_matches(", "));
    text.row("ring", &scenario.ring.map_or_else(String::new, |bytes| format!("of {bytes} bytes")));
    steps::tell(cell, &mut text);
    expected::tell(cell, &mut text);
    visible(&text.finish()).into_owned()
}

/// A label may be empty, or hold anything.
fn quoted(label: &str) -> String {
    let plain = !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if plain { label.to_owned() } else { format!("{label:?}") }
}
