//! What was measured, beside what it is held to.

use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use serde::Serialize;

/// What a figure is held to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bar {
    /// It may be this at most.
    AtMost(f64),
    /// It must be this at least.
    AtLeast(f64),
    /// It is told so that others can be compared with it.
    Reference,
}

/// One figure of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What belongs together.
    pub part: &'static str,
    /// What was measured.
    pub what: String,
    /// The value.
    pub value: f64,
    /// Of the value and of the bar.
    pub unit: &'static str,
    /// What it is held to.
    pub bar: Bar,
    /// What else is to be said.
    pub note: String,
}

impl Figure {
    /// Whether it is what it must be; None if it is held to nothing.
    pub fn passes(&self) -> Option<bool> {
        match self.bar {
            Bar::AtMost(most) => Some(self.value <= most),
            Bar::AtLeast(least) => Some(self.value >= least),
            Bar::Reference => None,
        }
    }
}

/// The figures of a run, told as they come.
#[derive(Debug, Default, Serialize)]
pub struct Figures(Vec<Figure>);

impl Figures {
    /// Adds one.
    pub fn add(
        &mut self,
        part: &'static str,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        bar: Bar,
    ) {
        self.note(part, what, value, unit, bar, String::new());
    }

    /// Adds one with a note.
    pub fn note(
        &mut self,
        part: &'static str,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        bar: Bar,
        note: String,
    ) {
        let figure = Figure { part, what: what.into(), value, unit, bar, note };
        eprintln!("bench: {part}: {}: {} {unit}", figure.what, number(value));
        self.0.push(figure);
    }

    /// All, in order.
    pub fn all(&self) -> &[Figure] {
        &self.0
    }

    /// How many miss their bars.
    pub fn missed(&self) -> usize {
        self.0.iter().filter(|figure| figure.passes() == Some(false)).count()
    }

    /// For a terminal.
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table
            .load_preset(UTF8_FULL_CONDENSED)
            .set_header(["", "what", "measured", "bar", "unit", "", "note"]);
        for figure in &self.0 {
            let bar = match figure.bar {
                Bar::AtMost(most) => format!("≤ {}", number(most)),
                Bar::AtLeast(least) => format!("≥ {}", number(least)),
                Bar::Reference => String::new(),
            };
            let verdict = figure.passes().map_or("", |passes| if passes { "pass" } else { "MISS" });
            table.add_row([
                Cell::new(figure.part),
                Cell::new(&figure.what),
                Cell::new(number(figure.value)).set_alignment(CellAlignment::Right),
                Cell::new(bar).set_alignment(CellAlignment::Right),
                Cell::new(figure.unit),
                Cell::new(verdict),
                Cell::new(&figure.note),
            ]);
        }
        table
    }
}

/// With thousands apart, and decimals where they say something.
pub fn number(value: f64) -> String {
    if value.abs() < 100.0 && value.fract() != 0.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::from(if value < 0.0 { "-" } else { "" });
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The middle of some values; NaN of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        len if len.is_multiple_of(2) => f64::midpoint(values[len / 2 - 1], values[len / 2]),
        len => values[len / 2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
    }

    #[test]
    fn numbers_are_read_by_people() {
        assert_eq!(number(1_234_567.8), "1,234,568");
        assert_eq!(number(123.0), "123");
        assert_eq!(number(-4_000.0), "-4,000");
        assert_eq!(number(0.914), "0.91");
    }

    #[test]
    fn what_cannot_be_told_misses_its_bar() {
        let mut figures = Figures::default();
        figures.add("p", "none", f64::NAN, "ns", Bar::AtMost(1.0));
        figures.add("p", "low", 9.0, "/s", Bar::AtLeast(10.0));
        figures.add("p", "good", 10.0, "/s", Bar::AtLeast(10.0));
        figures.add("p", "told", 7.0, "ns", Bar::Reference);
        assert_eq!(figures.missed(), 2);
        assert!(figures.table().to_string().contains("MISS"));
    }
}
