//! A data stream.

use crate::Field;

/// A data stream, and what its documents hold.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// Its name in the store.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// Who writes it, in one line.
    pub about: &'static str,
    /// What becomes of an attribute that is not in the table.
    pub strictness: Strictness,
    /// Its attributes.
    pub fields: &'static [Field],
    /// Those that a person sees first, in the order of the columns.
    pub columns: &'static [&'static str],
}

/// What becomes of what is in no table, and of what does not fit its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// The store refuses the document: its sender is ours.
    Refused,
    /// It is kept and shown, and not found by a search: its sender is another's, and changes.
    Unsearched,
}

impl Stream {
    /// The attribute of this name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}
