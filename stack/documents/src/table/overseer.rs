//! What our own programs did.

use super::{AGENT, CONTAINER_ID, PROJECT};
use crate::{
    Field, Kind, Stream, Strictness,
    field::{CUT, WORD, keyword, number, of},
};

/// Something that one of our own programs did, or that became of it.
pub const OVERSEER: Stream = Stream {
    name: "clawker-overseer",
    title: "Overseer",
    about: "What our own programs did: a document for each change of rules, bypass and enrolment, and each time something works less than it should.",
    strictness: Strictness::Refused,
    fields: FIELDS,
    columns: &["agent", "project", "event", "outcome", "component", "rules", "until", "detail"],
};

const FIELDS: &[Field] = &[
    AGENT,
    PROJECT,
    CONTAINER_ID,
    number("cgroup_id", "", "Inode number of the container's cgroup."),
    keyword("event", WORD, "What was done, or happened."),
    keyword("outcome", WORD, "How it ended."),
    keyword("component", WORD, "Which program: manager, reader."),
    keyword("node", CUT, "Name of the machine."),
    number("rules", "rules", "Of rules that were set: how many there are."),
    keyword("rules_hash", WORD, "Of rules that were set: SHA-256 of them."),
    of(Kind::Date, "until", "Of a bypass: when it ends."),
    of(Kind::Text, "detail", "More, for people."),
];
