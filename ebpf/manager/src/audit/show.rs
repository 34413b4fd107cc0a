//! An audit for people: one line a container, and below it each hop that is open.

use std::fmt;

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};

use super::{Account, Audit, Hop, Owner};
use crate::status::shown;

impl Owner {
    /// Agent, container and cgroup, as a terminal may have them.
    fn columns(&self) -> [String; 3] {
        match self {
            Self::Container { cgroup_id, container_id, agent, retired, .. } => {
                let mark = if *retired { " (retired)" } else { "" };
                [shown(agent), format!("{}{mark}", shown(container_id)), cgroup_id.to_string()]
            }
            Self::Nobody => [String::new(), "(no identity)".to_owned(), "0".to_owned()],
            Self::Others => [String::new(), "(others)".to_owned(), String::new()],
            Self::All => [String::new(), "all".to_owned(), String::new()],
        }
    }
}

impl Account {
    fn row(&self, asked: bool) -> Vec<String> {
        let counts = &self.counts;
        let open: Vec<&str> =
            self.residuals.iter().filter(|(_, one)| !one.is_closed()).map(|(hop, _)| hop.name()).collect();
        let moving = self.residuals.values().any(|one| one.low != one.high);
        let residual = match (open.is_empty(), moving) {
            (true, false) => "0".to_owned(),
            (true, true) => "0 (moving)".to_owned(),
            (false, _) => format!("open: {}", open.join(", ")),
        };
        let number = |count: u64| count.to_string();
        let stored = if asked { number(counts.stored) } else { "not asked".to_owned() };
        let mut row = Vec::from(self.owner.columns());
        row.extend([counts.attempts(), counts.open, counts.undocumented].map(number));
        row.extend([counts.in_ring, counts.pending, counts.answered].map(number));
        row.extend([stored, number(counts.lost()), residual]);
        row
    }

    /// Each open hop with the equation that does not hold.
    fn expand(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (hop, residual) in self.residuals.iter().filter(|(_, one)| !one.is_closed()) {
            let sides = hop.sides(&self.counts);
            let [_, container, _] = self.owner.columns();
            let unattributed = Some(sides.unattributed).filter(|(_, count)| *count > 0);
            let down: Vec<(&str, u64)> = sides.down.into_iter().chain(unattributed).collect();
            let (up, down) = (terms(&sides.up), terms(&down));
            writeln!(f, "{container}, {}: {up} is not {down}; residual {residual}", hop.name())?;
        }
        Ok(())
    }
}

fn terms(terms: &[(&str, u64)]) -> String {
    let terms: Vec<String> = terms.iter().map(|(name, count)| format!("{name} {count}")).collect();
    terms.join(" + ")
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED);
        table.set_header([
            "agent",
            "container",
            "cgroup",
            "attempts",
            "open",
            "in folds",
            "in ring",
            "pending",
            "answered",
            "stored",
            "lost",
            "residual",
        ]);
        let asked = self.sum.residuals.contains_key(&Hop::Store);
        for account in self.containers.iter().chain([&self.sum]) {
            table.add_row(account.row(asked));
        }
        writeln!(f, "{table}")?;
        for account in self.containers.iter().chain([&self.sum]) {
            account.expand(f)?;
        }
        if let Some(foreign) = self.foreign_documents.filter(|foreign| *foreign > 0) {
            writeln!(f, "{foreign} lines of the export are no documents of this spool")?;
        }
        let verdict = if self.closed { "closed" } else { "open: see docs/ledger.md for what to do" };
        write!(f, "the ledger is {verdict}")
    }
}

#[cfg(test)]
mod tests;
