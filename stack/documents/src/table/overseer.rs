//! What our own programs did.

use super::{AGENT, CONTAINER_ID, EVENT_ID, PROJECT};
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
    columns: &["agent", "project", "event", "outcome", "component", "actor", "rules", "until", "detail"],
};

const FIELDS: &[Field] = &[
    AGENT,
    PROJECT,
    CONTAINER_ID,
    number("cgroup_id", "", "Inode number of the container's cgroup."),
    keyword("event", WORD, "What was done, or happened; docs/events.md has the words."),
    keyword("outcome", WORD, "done, refused, failed."),
    keyword("component", WORD, "Which program: manager, reader."),
    keyword("node", CUT, "Name of the machine."),
    number("actor", "", "User id of whose command it was; absent if a program did it by itself."),
    number("actor_claimed", "", "User id that sudo says was behind it: a claim."),
    number("rules", "rules", "Of rules that were set: how many there are."),
    keyword("rules_hash", WORD, "Of rules that were set: SHA-256 of them; equal lists have the same."),
    of(Kind::Date, "until", "Of a bypass: when it ends."),
    number("event_count", "", "Of what was lost, refused or contradicted: how often."),
    of(Kind::Text, "detail", "More, for people."),
    EVENT_ID,
];
