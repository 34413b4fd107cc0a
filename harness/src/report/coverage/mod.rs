//! Which transport was shown to do what, over which family: transport × family × verdict.
//!
//! A cell covers a place if it ran, and a document that one of its expectations names together with
//! the verdict was seen there (`covers.rs`). A cell that failed or was skipped counts where its own
//! text says it would be, as failed or skipped. What cannot be says why; what is left is blank.

mod cannot;
mod covers;

use std::collections::BTreeMap;

use abi::Verdict;
use serde::{Deserialize, Serialize};
use strum::IntoEnumIterator;

use crate::{
    event::{CellReport, Outcome, Tier},
    transport::{IpFamily, Position, Transport},
};

pub use covers::covers;

/// What the kernel answers where it has no such socket.
const REFUSALS: [&str; 4] = ["EAFNOSUPPORT", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT", "ENOPROTOOPT"];

/// The cells of a run by place, as they come.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    seen: usize,
    places: BTreeMap<Position, Vec<(usize, Outcome)>>,
    refused: BTreeMap<(Transport, IpFamily), String>,
}

/// One place of the table.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// Which.
    pub position: Position,
    /// Cells that cover it, by their order in the run.
    pub cells: &'a [(usize, Outcome)],
    /// Why it cannot be covered, where it cannot.
    pub cannot: Option<String>,
}

/// Totals of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoverageSummary {
    /// Places that a cell covers.
    pub covered: usize,
    /// Places that cannot be, with a reason.
    pub cannot: usize,
    /// Places that could be covered, and are not.
    pub blank: usize,
    /// Covered places of which it is said that they cannot be: the reason is wrong.
    pub contradicted: usize,
}

impl Place<'_> {
    /// Whether it could be covered, and is not.
    pub fn is_blank(&self) -> bool {
        self.cells.is_empty() && self.cannot.is_none()
    }

    /// Whether it is covered although it cannot be.
    pub fn is_contradicted(&self) -> bool {
        !self.cells.is_empty() && self.cannot.is_some()
    }

    /// How many of its cells ended so.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.cells.iter().filter(|(_, own)| *own == outcome).count()
    }
}

impl Coverage {
    /// The table of these cells.
    pub fn of<'c>(cells: impl IntoIterator<Item = &'c CellReport>) -> Self {
        cells.into_iter().fold(Self::default(), |mut table, cell| {
            table.add(cell);
            table
        })
    }

    /// Counts one ended cell.
    pub fn add(&mut self, cell: &CellReport) {
        for position in covers(cell) {
            self.places.entry(position).or_default().push((self.seen, cell.result));
        }
        for step in &cell.steps {
            let (Some(transport), Some(call)) = (step.transport, &step.call) else { continue };
            if REFUSALS.contains(&call.outcome.as_str()) {
                let reached = call.dst.map(IpFamily::of);
                for family in reached.iter().chain(&step.families) {
                    let because = format!("this kernel has none: {} in {}", call.outcome, cell.name);
                    self.refused.entry((transport, *family)).or_insert(because);
                }
            }
        }
        self.seen += 1;
    }

    /// Whether a run of this tier can cover anything: without a kernel there is no document.
    pub fn is_possible(tier: Tier) -> bool {
        tier > Tier::Model
    }

    /// Every place, row by row, in the order of the columns.
    pub fn rows(&self) -> impl Iterator<Item = (Transport, Vec<Place<'_>>)> {
        Transport::iter().map(move |transport| {
            let columns = Self::columns()
                .map(move |(family, verdict)| self.place(Position { transport, family, verdict }));
            (transport, columns.collect())
        })
    }

    /// The columns: every family with every verdict.
    pub fn columns() -> impl Iterator<Item = (IpFamily, Verdict)> {
        IpFamily::iter().flat_map(|family| Verdict::ALL.iter().map(move |verdict| (family, *verdict)))
    }

    fn place(&self, position: Position) -> Place<'_> {
        let cells = self.places.get(&position).map_or(&[][..], Vec::as_slice);
        let refused = || self.refused.get(&(position.transport, position.family)).cloned();
        let cannot = match cannot::because(position) {
            Some(because) => Some(because.to_owned()),
            None if cells.is_empty() => refused(),
            None => None,
        };
        Place { position, cells, cannot }
    }

    /// Places that could be covered, and are not.
    pub fn blanks(&self) -> Vec<Position> {
        self.filter(|place| place.is_blank())
    }

    /// Places that are covered although it is said that they cannot be.
    pub fn contradicted(&self) -> Vec<Position> {
        self.filter(|place| place.is_contradicted())
    }

    fn filter(&self, wanted: fn(&Place<'_>) -> bool) -> Vec<Position> {
        self.rows().flat_map(|(_, places)| places).filter(wanted).map(|place| place.position).collect()
    }

    /// Totals.
    pub fn summary(&self) -> CoverageSummary {
        let mut sum = CoverageSummary::default();
        for place in self.rows().flat_map(|(_, places)| places) {
            match (place.cells.is_empty(), place.cannot.is_some()) {
                (false, contradicted) => {
                    sum.covered += 1;
                    sum.contradicted += usize::from(contradicted);
                }
                (true, true) => sum.cannot += 1,
                (true, false) => sum.blank += 1,
            }
        }
        sum
    }

    /// What is wrong with the table, for a run that requires it to be complete.
    ///
    /// # Errors
    /// One line that names the places.
    pub fn require(&self) -> Result<(), String> {
        let names =
            |places: Vec<Position>| places.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let (blanks, contradicted) = (self.blanks(), self.contradicted());
        // First what makes the table itself wrong.
        if !contradicted.is_empty() {
            let names = names(contradicted);
            return Err(format!(
                "covered, although the coverage table says that they cannot be; its reasons are wrong: {names}"
            ));
        }
        if !blanks.is_empty() {
            let (count, names) = (blanks.len(), names(blanks));
            return Err(format!(
                "{count} places of the coverage table are blank, write cases for them: {names}"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
