//! Failures that are alike in several cells of one matrix, told once.

use std::path::PathBuf;

use indexmap::{IndexMap, map::Entry};

use crate::event::CellReport;

/// Most cells that are listed.
const MOST: usize = 12;

/// Cells of one matrix that failed alike.
#[derive(Clone, Debug)]
pub struct Block {
    /// The first of them.
    pub first: CellReport,
    /// The variables of each, in the order in which they ended.
    pub cells: Vec<Vec<(String, String)>>,
    /// Their captures, and how many packets each lacks.
    pub pcaps: Vec<(PathBuf, u64)>,
}

impl Block {
    /// `4 cells: call=sendto, call=sendmsg, …`; `None` where it is one.
    pub fn cells(&self) -> Option<String> {
        if self.cells.len() < 2 {
            return None;
        }
        let one = |cell: &Vec<(String, String)>| {
            cell.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        let mut listed: Vec<String> = self.cells.iter().take(MOST).map(one).collect();
        if self.cells.len() > MOST {
            listed.push(format!("and {} more", self.cells.len() - MOST));
        }
        Some(format!("{} cells: {}", self.cells.len(), listed.join(", ")))
    }
}

/// Failed cells, as they come.
#[derive(Clone, Debug, Default)]
pub struct Fold(IndexMap<(PathBuf, String), Vec<Block>>);

impl Fold {
    /// Adds a failed cell to the block of those that failed alike, or begins one.
    pub fn add(&mut self, cell: &CellReport) {
        let key = (cell.file.clone(), cell.scenario().to_owned());
        let blocks = match self.0.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Vec::new()),
        };
        let alike = |block: &&mut Block| {
            (&block.first.reason, &block.first.failures) == (&cell.reason, &cell.failures)
        };
        let pcap = cell.pcap.clone().map(|pcap| (pcap, cell.pcap_cut));
        match blocks.iter_mut().find(alike) {
            Some(block) => {
                block.cells.push(cell.variables.clone());
                block.pcaps.extend(pcap);
            }
            None => {
                // What a block does not show is not kept.
                let first = CellReport { documents: Vec::new(), source: String::new(), ..cell.clone() };
                blocks.push(Block {
                    first,
                    cells: vec![cell.variables.clone()],
                    pcaps: pcap.into_iter().collect(),
                });
            }
        }
    }

    /// The blocks, those of one scenario together, in the order in which scenarios first failed.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.0.values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Class, Failure, Outcome, Tier};

    fn cell(call: &str, message: &str) -> CellReport {
        let failure = Failure { class: Class::Leak, message: message.to_owned(), detail: String::new() };
        CellReport {
            result: Outcome::Fail,
            class: Some(Class::Leak),
            reason: message.to_owned(),
            failures: vec![failure],
            variables: vec![("call".to_owned(), call.to_owned())],
            pcap: Some(format!("{call}.pcap").into()),
            ..CellReport::new(format!("udp/a::claim[call={call}]"), "scenarios/udp/a.yaml", "udp", Tier::Lab)
        }
    }

    #[test]
    fn what_is_alike_is_one_block_and_what_is_not_is_another() {
        let mut fold = Fold::default();
        for (call, message) in [("sendto", "leak"), ("sendmsg", "other"), ("sendmmsg", "leak")] {
            fold.add(&cell(call, message));
        }
        let blocks: Vec<_> = fold.blocks().collect();
        assert_eq!(blocks.len(), 2);
        assert_eq!(blocks[0].cells().unwrap(), "2 cells: call=sendto, call=sendmmsg");
        assert_eq!(blocks[0].pcaps.len(), 2);
        assert_eq!(blocks[1].cells(), None);
    }

    #[test]
    fn a_long_list_is_cut() {
        let mut fold = Fold::default();
        for call in 0..15 {
            fold.add(&cell(&call.to_string(), "leak"));
        }
        assert!(fold.blocks().next().unwrap().cells().unwrap().ends_with("call=11, and 3 more"));
    }
}
