//! What our own programs log.

use super::{AGENT, CONTAINER_ID, EVENT_ID, PROJECT};
use crate::{
    Field, Stream, Strictness,
    field::{CUT, WORD, keyword},
};

/// A line that one of our own programs logged.
pub const CP: Stream = Stream {
    name: "clawker-cp",
    title: "Control plane",
    about: "What our own programs log: a document for each line, whose text is the body.",
    strictness: Strictness::Refused,
    fields: FIELDS,
    columns: &["component", "level", "node", "agent", "project"],
};

const FIELDS: &[Field] = &[
    AGENT,
    PROJECT,
    CONTAINER_ID,
    keyword("component", WORD, "Which program: manager, reader."),
    keyword("node", CUT, "Name of the machine."),
    keyword("level", WORD, "ERROR, WARN, INFO."),
    EVENT_ID,
];
