//! What the filter asks: the form, and the data of each cell that it compares. Without its script the
//! form is hidden, and everything is there to read.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};
use serde_json::Value;

use crate::{
    event::CellReport,
    report::{covers, tally::attribute, visible::visible},
};

/// The fields of the form, in its order. Each is an attribute `data-…` of the cells as well.
const FIELDS: [&str; 6] = ["result", "class", "topic", "tag", "transport", "verdict"];

/// What a cell is found by; a field's values, each a line.
#[derive(Default)]
pub struct Facets(BTreeMap<&'static str, BTreeSet<String>>);

impl Facets {
    /// Of one cell.
    pub fn of(cell: &CellReport) -> Self {
        let mut facets = Self::default();
        facets.add("result", cell.result.to_string());
        facets.add("topic", cell.topic.as_str());
        for class in cell.failures.iter().map(|failure| failure.class).chain(cell.class) {
            facets.add("class", class.to_string());
        }
        for tag in &cell.tags {
            facets.add("tag", tag.as_str());
        }
        for transport in cell.steps.iter().filter_map(|step| step.transport) {
            facets.add("transport", transport.to_string());
        }
        for document in &cell.documents {
            for (field, name) in [("transport", "l4_proto"), ("verdict", "verdict")] {
                if let Some(word) = attribute(document, name).and_then(Value::as_str) {
                    facets.add(field, word);
                }
            }
        }
        for place in covers(cell) {
            facets.add("transport", place.transport.to_string());
            facets.add("covers", place.to_string());
        }
        facets
    }

    /// Adds what another has.
    pub fn extend(&mut self, other: &Self) {
        for (field, values) in &other.0 {
            self.0.entry(field).or_default().extend(values.iter().cloned());
        }
    }

    fn add(&mut self, field: &'static str, value: impl AsRef<str>) {
        // One line a value.
        let value = visible(value.as_ref()).replace('\n', "\\n");
        self.0.entry(field).or_default().insert(value);
    }

    /// The values of one field, a line each.
    pub fn lines(&self, field: &str) -> String {
        let values = self.0.get(field).into_iter().flatten();
        values.map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

/// The form, with what there is to choose from in `all`.
pub fn form(all: &Facets) -> Markup {
    html! {
        form #filter hidden {
            input name="text" type="search" placeholder="Text, address, label…   ( / )" aria-label="Text"
                autocomplete="off" spellcheck="false";
            @for field in FIELDS {
                @let values = all.0.get(field).into_iter().flatten();
                select name=(field) aria-label=(field) {
                    option value="" { "any " (field) }
                    @for value in values { option value=(value) { (value) } }
                }
            }
            button name="covers" type="button" hidden title="Every place of the coverage table again" {}
            button name="fold" type="button" title="Unfold or fold the cells shown" { "unfold" }
            button name="clear" type="reset" title="Escape" { "clear" }
            output name="shown" {}
            p.keys { kbd { "/" } " search · " kbd { "j" } " " kbd { "k" } " next, previous · " kbd { "Enter" }
                " unfolds · " kbd { "Esc" } " clears" }
        }
    }
}
