//! The attributes that an expectation may name: those of the reader's document, and what text each
//! of them may hold, so that a slip in a file is found before anything runs.

use std::collections::BTreeMap;

use abi::{CloseReason, Direction, Hook, Reason, Verdict};
use reader::{
    EgressDocument,
    document::{Attribution, L7Proto, RecordType},
};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The stream that these attributes are of.
pub use reader::document::STREAM as EGRESS_STREAM;

/// The stream of Envoy's documents.
pub const ENVOY_STREAM: &str = documents::ENVOY.name;

/// The stream of what agents tell of themselves.
pub const CLAUDE_STREAM: &str = documents::CLAUDE.name;

/// The stream of what our own programs did.
pub const OVERSEER_STREAM: &str = documents::OVERSEER.name;

/// The stream of CoreDNS's documents.
pub const COREDNS_STREAM: &str = documents::COREDNS.name;

/// What values an attribute takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A transport: one of [`TRANSPORTS`], or the number of another.
    Transport,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number, not negative.
    Number,
    /// A number.
    Fraction,
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

/// The transports that documents name; others go by their number, as text.
pub const TRANSPORTS: [&str; 6] = ["tcp", "udp", "icmp", "icmpv6", "sctp", "udplite"];

/// Whether a document can have this `l4_proto`.
pub fn is_transport(text: &str) -> bool {
    // Numbers that have a name are never written.
    const NAMED: [u8; 6] = [abi::TCP, abi::UDP, abi::ICMP, abi::ICMPV6, abi::SCTP, abi::UDPLITE];
    TRANSPORTS.contains(&text)
        || text.parse().is_ok_and(|number: u8| number.to_string() == text && !NAMED.contains(&number))
}

/// The words of a closed set.
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

/// Attributes whose text is not free.
const TEXTS: [(&str, Kind); 12] = [
    ("agent", Kind::Agent),
    ("attribution", words!(Attribution)),
    ("close_reason", words!(CloseReason)),
    ("direction", words!(Direction)),
    ("dst_host", Kind::Host),
    ("hook", words!(Hook)),
    ("l4_proto", Kind::Transport),
    ("l7_proto", words!(L7Proto)),
    ("project", Kind::Project),
    ("reason", words!(Reason)),
    ("record_type", words!(RecordType)),
    ("verdict", words!(Verdict)),
];

/// The streams that documents may be expected in.
pub fn streams() -> impl Iterator<Item = &'static str> {
    documents::ALL.iter().map(|stream| stream.name)
}

/// Attributes of the documents of a stream, in the order of its table.
pub fn names(stream: &str) -> impl Iterator<Item = &'static str> {
    let table = documents::ALL.iter().find(|one| one.name == stream);
    table.into_iter().flat_map(|stream| stream.fields).map(|field| field.name)
}

/// What the attribute holds, if there is one of that name in any stream. In the reader's, some texts are not free.
pub fn kind(name: &str) -> Option<Kind> {
    let field = documents::ALL.iter().find_map(|stream| stream.field(name))?;
    let of_reader = EgressDocument::FIELDS.iter().any(|field| field.name == name);
    Some(match field.kind {
        reader::Kind::Keyword => {
            let text = TEXTS.iter().find(|(text, _)| of_reader && *text == name);
            text.map_or(Kind::Text, |(_, kind)| *kind)
        }
        reader::Kind::Text | reader::Kind::Date => Kind::Text,
        reader::Kind::Ip => Kind::Address,
        reader::Kind::Long => Kind::Number,
        reader::Kind::Double => Kind::Fraction,
        reader::Kind::Boolean => Kind::Flag,
    })
}

/// Attributes and their values. A number or flag may stand in quotes, as a variable does: `{dst_port: "${port}"}`.
pub(super) fn attributes<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Value>, D::Error> {
    let mut attributes = BTreeMap::<String, Value>::deserialize(from)?;
    for (name, value) in &mut attributes {
        let meant = value.as_str().and_then(|text| match kind(name)? {
            Kind::Number => text.parse::<u64>().ok().map(Value::from),
            Kind::Fraction => text.parse::<f64>().ok().map(Value::from),
            Kind::Flag => text.parse::<bool>().ok().map(Value::from),
            _ => None,
        });
        if let Some(meant) = meant {
            *value = meant;
        }
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_or_flag_may_stand_in_quotes_and_a_text_stays_one() {
        let text = r#"{"dst_port": "443", "dst_host_ambiguous": "true", "agent": "7", "bytes_in": "x"}"#;
        let read = attributes(&mut serde_json::Deserializer::from_str(text)).unwrap();
        let meant = [("agent", "7".into()), ("bytes_in", "x".into()), ("dst_host_ambiguous", true.into())];
        let meant = meant.into_iter().chain([("dst_port", 443.into())]);
        assert_eq!(read, meant.map(|(name, value)| (name.to_owned(), value)).collect());
    }

    #[test]
    fn every_text_with_a_rule_is_an_attribute() {
        for (name, expected) in TEXTS {
            assert_eq!(kind(name), Some(expected), "{name}");
        }
    }

    #[test]
    fn transports_are_those_of_the_document() {
        let l4_proto = EgressDocument::FIELDS.iter().find(|field| field.name == "l4_proto").unwrap();
        assert!(l4_proto.about.starts_with(&TRANSPORTS.join(", ")), "{}", l4_proto.about);
        for text in ["tcp", "udplite", "2", "255"] {
            assert!(is_transport(text), "{text}");
        }
        for text in ["", "TCP", "6", "256", "+2", "02", "quic"] {
            assert!(!is_transport(text), "{text}");
        }
    }
}
