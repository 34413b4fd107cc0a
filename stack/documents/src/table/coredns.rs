//! What the resolver was asked.

use super::{AGENT, CONTAINER_ID, EVENT_ID, PROJECT};
use crate::{
    Field, Kind, Stream, Strictness,
    field::{CUT, WORD, fraction, keyword, number, of},
};

/// A question to the resolver.
pub const COREDNS: Stream = Stream {
    name: "clawker-coredns",
    title: "Names",
    about: "What the resolver was asked: a document for each question, and for each line of its log that is none. Written by CoreDNS.",
    strictness: Strictness::Refused,
    fields: FIELDS,
    columns: &["agent", "project", "verdict", "qname", "qtype", "rcode", "src_ip"],
};

const FIELDS: &[Field] = &[
    AGENT,
    PROJECT,
    CONTAINER_ID,
    EVENT_ID,
    keyword(
        "verdict",
        WORD,
        "ALLOWED: a rule knows the name. DENIED: none does, the view did not answer, or who asked is no container. BYPASSED: none does, and it was asked for under a bypass.",
    ),
    keyword("l4_proto", WORD, "udp or tcp."),
    of(Kind::Ip, "src_ip", "Who asked."),
    number("src_port", "", "The port it asked from."),
    keyword("qname", CUT, "The name, in presentation form, with a dot at its end."),
    keyword("qtype", WORD, "Type of the question: A, AAAA, HTTPS."),
    keyword("qclass", WORD, "Class of the question: IN."),
    keyword("rcode", WORD, "The answer's code: NOERROR, NXDOMAIN, REFUSED. None: there was no answer."),
    keyword("flags", WORD, "Flags of the answer's header; `aa`: by policy, whatever another server says."),
    number("dns_id", "", "The question's identifier."),
    number("size", "bytes", "Size of the question."),
    number("rsize", "bytes", "Size of the answer."),
    fraction("duration_ms", "milliseconds", "From the question to the answer."),
    of(
        Kind::Boolean,
        "parsed",
        "Whether the line was understood; if not, it is the body, cut at 1024 bytes.",
    ),
];
