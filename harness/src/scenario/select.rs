//! Which cells of a set are meant.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::scenario::{Cell, cell::printable, nearest};

/// Names that are shown where nothing was found.
const SHOWN: usize = 3;

/// What a cell must have to be picked.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// In its name.
    pub filter: Option<String>,
    /// One of these; none: any.
    pub tags: Vec<String>,
}

/// No cell is left, and what may have been meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct NothingPicked {
    what: String,
    near: Vec<String>,
}

impl fmt::Display for NothingPicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if !self.near.is_empty() {
            write!(f, "; nearest:")?;
        }
        self.near.iter().try_for_each(|name| write!(f, "\n  {name}"))
    }
}

impl Selection {
    /// The cells that are meant, in their order.
    ///
    /// # Errors
    /// If there is none.
    pub fn pick(&self, cells: Vec<Cell>) -> Result<Vec<Cell>, NothingPicked> {
        let nothing = |what: String, near| Err(NothingPicked { what, near });
        if cells.is_empty() {
            return nothing("there is no scenario here; files end in .yaml or .yml".to_owned(), Vec::new());
        }
        let known: BTreeSet<&str> =
            cells.iter().flat_map(|cell| cell.scenario.tags.iter().map(String::as_str)).collect();
        // Each, so that a misspelt one beside a right one is seen too.
        if let Some(tag) = self.tags.iter().find(|tag| !known.contains(tag.as_str())) {
            let what = format!("no cell has the tag `{}`", printable(tag));
            let Some(near) = nearest(tag, known.iter().copied()) else {
                let known: Vec<String> = known.iter().map(|tag| printable(tag)).collect();
                return nothing(format!("{what}; there are {}", known.join(", ")), Vec::new());
            };
            return nothing(what, vec![printable(near)]);
        }
        let tagged: Vec<Cell> = cells
            .into_iter()
            .filter(|cell| {
                self.tags.is_empty() || cell.scenario.tags.iter().any(|tag| self.tags.contains(tag))
            })
            .collect();
        let Some(filter) = &self.filter else { return Ok(tagged) };
        if tagged.iter().any(|cell| cell.name.contains(filter)) {
            return Ok(tagged.into_iter().filter(|cell| cell.name.contains(filter)).collect());
        }
        let which = if self.tags.is_empty() { "" } else { " of those with such a tag" };
        let what = format!("no cell{which} has `{}` in its name", printable(filter));
        nothing(what, similar(filter, tagged.iter().map(|cell| cell.name.as_str())))
    }
}

/// The names with a part that is most like the filter, one a scenario, the likest first.
fn similar<'a>(filter: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let filter: Vec<char> = filter.to_lowercase().chars().take(64).collect();
    // Cells of one scenario differ behind the bracket; the first stands for them.
    let mut scenarios: BTreeMap<&str, &str> = BTreeMap::new();
    for name in names {
        scenarios.entry(name.split('[').next().unwrap_or(name)).or_insert(name);
    }
    let distance = |name: &str| {
        let name: Vec<char> = name.to_lowercase().chars().collect();
        let windows = name.windows(filter.len().min(name.len()).max(1));
        windows.map(|part| strsim::generic_damerau_levenshtein(part, &filter)).min().unwrap_or(usize::MAX)
    };
    let mut near: Vec<(usize, &str)> = scenarios.values().map(|name| (distance(name), *name)).collect();
    near.sort_by_key(|(distance, _)| *distance);
    near.into_iter().take(SHOWN).map(|(_, name)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::similar;

    #[test]
    fn a_slip_in_a_filter_finds_the_name() {
        let names =
            ["connect/a::unlisted[x=1]", "connect/a::unlisted[x=2]", "dns/b::wildcard", "dns/c::other"];
        assert_eq!(similar("wildcrad", names.into_iter())[0], "dns/b::wildcard");
        assert_eq!(similar("UNLSITED", names.into_iter())[0], "connect/a::unlisted[x=1]");
        assert_eq!(similar("", names.into_iter()).len(), 3);
    }
}
