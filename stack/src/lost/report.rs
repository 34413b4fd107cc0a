//! How many were lost, by container.

use std::{collections::BTreeMap, fmt};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::{Flow, Who, Window};

/// The comparison of one emitter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    containers: BTreeMap<Who, Tally>,
}

/// Of one container. Every flow of the window is in one of the first five.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Flows that the emitter has told of.
    pub told: u64,
    /// Flows that it took, and has told nothing of: lost in its memory, or over before it had anything to tell.
    pub lost: u64,
    /// Flows on which the container said nothing.
    pub silent: u64,
    /// Flows that it did not take.
    pub not_taken: u64,
    /// Flows that ended a moment ago, whether told of or not.
    pub young: u64,
    /// Documents whose flow is there.
    pub documents: u64,
    /// Questions over UDP, of flows that it has told of, that it has told nothing of.
    pub untold: u64,
    /// Documents of what is over, whose flow is nowhere.
    pub strange: u64,
    /// Documents whose flow is not there, and may not be over.
    pub open: u64,
}

/// A line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Label.
    pub agent: String,
    /// Label.
    pub project: String,
    /// The runtime's identifier.
    pub container_id: String,
    /// Its numbers.
    #[serde(flatten)]
    pub tally: Tally,
}

impl Lost {
    pub(super) fn of(&mut self, who: &Who) -> &mut Tally {
        self.containers.entry(who.clone()).or_default()
    }

    pub(super) fn judge(&mut self, flow: &Flow, told: u64, window: &Window) {
        if flow.end < window.from {
            // There for its documents alone.
            return;
        }
        let tally = self.of(&flow.who);
        let count = if flow.end > window.until {
            &mut tally.young
        } else if told > 0 {
            tally.untold = tally.untold.saturating_add(flow.questions.saturating_sub(told));
            &mut tally.told
        } else if !flow.taken {
            &mut tally.not_taken
        } else if flow.silent {
            &mut tally.silent
        } else {
            &mut tally.lost
        };
        *count = count.saturating_add(1);
    }

    /// Whether nothing is missing on either side.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.containers.values().all(|tally| tally.lost == 0 && tally.untold == 0 && tally.strange == 0)
    }

    /// By container.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let row = |(who, tally): (&Who, &Tally)| Row {
            agent: who.agent.clone(),
            project: who.project.clone(),
            container_id: who.container_id.clone(),
            tally: *tally,
        };
        self.containers.iter().map(row).collect()
    }

    /// Of one agent's containers together.
    #[must_use]
    pub fn of_agent(&self, agent: &str) -> Tally {
        let mut sum = Tally::default();
        for (_, tally) in self.containers.iter().filter(|(who, _)| who.agent == agent) {
            sum.add(tally);
        }
        sum
    }
}

impl Tally {
    /// With the numbers of another.
    pub fn add(&mut self, other: &Self) {
        let Self { told, lost, silent, not_taken, young, documents, untold, strange, open } = self;
        for (sum, more) in [
            (told, other.told),
            (lost, other.lost),
            (silent, other.silent),
            (not_taken, other.not_taken),
            (young, other.young),
            (documents, other.documents),
            (untold, other.untold),
            (strange, other.strange),
            (open, other.open),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

/// A table for people.
impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header([
            "agent",
            "project",
            "container",
            "told",
            "LOST",
            "silent",
            "not taken",
            "too young",
            "documents",
            "UNTOLD",
            "NO FLOW",
            "flow open",
        ]);
        for column in table.column_iter_mut().skip(3) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for Row { agent, project, container_id, tally } in self.rows() {
            // Labels are a container's own to choose.
            let shown = |text: &str| text.escape_debug().to_string();
            let short: String = container_id.chars().take(12).collect();
            let numbers = [
                tally.told,
                tally.lost,
                tally.silent,
                tally.not_taken,
                tally.young,
                tally.documents,
                tally.untold,
                tally.strange,
                tally.open,
            ];
            let numbers = numbers.map(|number| if number == 0 { "·".to_owned() } else { number.to_string() });
            table.add_row([shown(&agent), shown(&project), shown(&short)].into_iter().chain(numbers));
        }
        table.trim_fmt().fmt(f)
    }
}
