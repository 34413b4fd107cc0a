//! One attribute of a document.

/// One attribute of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name below `attributes.`; a dot in it is a level.
    pub name: &'static str,
    /// How the store indexes it.
    pub kind: Kind,
    /// Characters (UTF-16) up to which a keyword is found by its value; what is longer is kept and shown.
    pub longest: u16,
    /// What a number counts; empty where it says itself.
    pub unit: &'static str,
    /// What it says, in one line.
    pub about: &'static str,
}

/// How the store indexes an attribute; the words are those of its mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Exact text.
    Keyword,
    /// Text that is searched by its words.
    Text,
    /// An address; never an empty string.
    Ip,
    /// A whole number.
    Long,
    /// A number.
    Double,
    /// True or false.
    Boolean,
    /// A moment.
    Date,
}

impl Kind {
    /// The mapping's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keyword => "keyword",
            Self::Text => "text",
            Self::Ip => "ip",
            Self::Long => "long",
            Self::Double => "double",
            Self::Boolean => "boolean",
            Self::Date => "date",
        }
    }
}

/// A keyword of a closed set, an identifier.
pub(crate) const WORD: u16 = 128;
/// What is cut at its source at no more than this: names in presentation form, paths.
pub(crate) const CUT: u16 = 1024;
/// What is cut nowhere. The store's own limit is 32766 bytes, and a UTF-16 unit has up to 3.
pub(crate) const UNCUT: u16 = 8191;

pub(crate) const fn keyword(name: &'static str, longest: u16, about: &'static str) -> Field {
    Field { name, kind: Kind::Keyword, longest, unit: "", about }
}

pub(crate) const fn number(name: &'static str, unit: &'static str, about: &'static str) -> Field {
    Field { name, kind: Kind::Long, longest: 0, unit, about }
}

pub(crate) const fn fraction(name: &'static str, unit: &'static str, about: &'static str) -> Field {
    Field { name, kind: Kind::Double, longest: 0, unit, about }
}

/// Of another kind.
pub(crate) const fn of(kind: Kind, name: &'static str, about: &'static str) -> Field {
    Field { name, kind, longest: 0, unit: "", about }
}

/// Whether these are the names and kinds of a stream's fields, in their order: whoever writes a document's type asks
/// this when it is compiled.
#[must_use]
pub const fn agree(fields: &[Field], written: &[(&str, Kind)]) -> bool {
    if fields.len() != written.len() {
        return false;
    }
    let (mut fields, mut written) = (fields, written);
    while let ([field, more_fields @ ..], [(name, kind), more_written @ ..]) = (fields, written) {
        if field.kind as u8 != *kind as u8 || !same(field.name.as_bytes(), name.as_bytes()) {
            return false;
        }
        (fields, written) = (more_fields, more_written);
    }
    true
}

const fn same(one: &[u8], other: &[u8]) -> bool {
    match (one, other) {
        ([], []) => true,
        ([a, one @ ..], [b, other @ ..]) => *a == *b && same(one, other),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_differs_in_a_name_a_kind_the_order_or_the_number_does_not_agree() {
        let fields = &[keyword("agent", WORD, ""), number("pid", "", "")];
        let (agent, pid) = (("agent", Kind::Keyword), ("pid", Kind::Long));
        assert!(agree(fields, &[agent, pid]));
        for written in [
            &[pid, agent][..],
            &[agent],
            &[agent, pid, pid],
            &[agent, ("pid", Kind::Ip)],
            &[agent, ("pids", Kind::Long)],
            &[agent, ("pi", Kind::Long)],
        ] {
            assert!(!agree(fields, written), "{written:?}");
        }
    }
}
