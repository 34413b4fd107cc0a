//! The attributes that an expectation may name.
//!
//! This mirrors the reader's `EgressDocument` (DESIGN, section 6), so that a slip in a file is
//! found before anything runs.

use abi::{CloseReason, Direction, Hook, LossPoint, Reason, Verdict};

/// The stream that these attributes are of.
pub const EGRESS_STREAM: &str = "clawker-egress";

/// What values an attribute takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number, not negative.
    Number,
    /// true or false.
    Flag,
    /// An IP address as text; may be empty where it is not known.
    Address,
    /// The `agent` label.
    Agent,
    /// The `project` label.
    Project,
    /// A host name; may be empty.
    Host,
}

/// The words of an abi enum.
macro_rules! words {
    ($set:ident) => {{
        const WORDS: [&str; $set::ALL.len()] = {
            let mut words = [""; $set::ALL.len()];
            let mut i = 0;
            while i < words.len() {
                words[i] = $set::ALL[i].as_str();
                i += 1;
            }
            words
        };
        Kind::Word(&WORDS)
    }};
}

/// Every attribute of `clawker-egress` and what it holds.
pub const EGRESS: &[(&str, Kind)] = &[
    ("actual_dst_ip", Kind::Address),
    ("actual_dst_port", Kind::Number),
    ("agent", Kind::Agent),
    ("attribution", Kind::Word(&["known", "late", "gone", "unknown"])),
    ("bytes_in", Kind::Number),
    ("bytes_out", Kind::Number),
    ("cgroup_id", Kind::Number),
    ("close_reason", words!(CloseReason)),
    ("comm", Kind::Text),
    ("container_id", Kind::Text),
    ("direction", words!(Direction)),
    ("dst_host", Kind::Host),
    ("dst_host_ambiguous", Kind::Flag),
    ("dst_ip", Kind::Address),
    ("dst_port", Kind::Number),
    ("duration_ms", Kind::Number),
    ("event_count", Kind::Number),
    ("event_id", Kind::Text),
    ("hook", words!(Hook)),
    ("l4_proto", Kind::Text),
    ("l7_proto", Kind::Text),
    ("packets_in", Kind::Number),
    ("packets_out", Kind::Number),
    ("pid", Kind::Number),
    ("point", words!(LossPoint)),
    ("project", Kind::Project),
    ("reason", words!(Reason)),
    ("record_type", Kind::Word(&["flow", "loss", "acceptance"])),
    ("src_ip", Kind::Address),
    ("src_port", Kind::Number),
    ("verdict", words!(Verdict)),
];

/// What the attribute holds, if there is one of that name.
pub fn kind(name: &str) -> Option<Kind> {
    EGRESS.iter().find(|(field, _)| *field == name).map(|(_, kind)| *kind)
}
