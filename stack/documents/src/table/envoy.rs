//! What the proxy saw.

use super::{AGENT, CONTAINER_ID, EVENT_ID, PROJECT};
use crate::{
    Field, Kind, Stream, Strictness,
    field::{CUT, UNCUT, WORD, keyword, number, of},
};

/// What the proxy did with a request or a connection.
pub const ENVOY: Stream = Stream {
    name: "clawker-envoy",
    title: "Proxy",
    about: "What the proxy did: a document for each request, and for each connection that it handed on or refused. Written by Envoy.",
    strictness: Strictness::Refused,
    fields: FIELDS,
    columns: &[
        "agent",
        "project",
        "verdict",
        "reason",
        "l7_proto",
        "method",
        "request_host",
        "path",
        "response_code",
        "bytes_out",
        "bytes_in",
    ],
};

const FIELDS: &[Field] = &[
    AGENT,
    PROJECT,
    CONTAINER_ID,
    EVENT_ID,
    keyword(
        "verdict",
        WORD,
        "What the proxy decided: ALLOWED, or DENIED, where it let nothing out. An answer of 5xx from the other side is ALLOWED.",
    ),
    keyword(
        "reason",
        WORD,
        "The rule's answer that applied; `malformed` if it was answered before there was one, or asks for an upgrade that is made for nobody; `forbidden_address`, `no_address` and `limit` where a rule permits it and the proxy does not (docs/operating.md); `no_chain` if it was over before it was known whose it is; absent where nothing was asked.",
    ),
    keyword("l4_proto", WORD, "tcp."),
    keyword("l7_proto", WORD, "What the rule says is spoken: http, https, tcp."),
    of(Kind::Ip, "src_ip", "The container's address."),
    number("src_port", "", "The container's port: joins with `src_port` of clawker-egress."),
    number(
        "listener_port",
        "",
        "The proxy's port that it came to: joins with `actual_dst_port` of clawker-egress.",
    ),
    keyword("dst_host", CUT, "Of a connection: the name that its rule is for."),
    number("dst_port", "", "The port that the rule is for."),
    of(Kind::Ip, "actual_dst_ip", "Whom the proxy connected to; absent if it did not."),
    number("actual_dst_port", "", "The port it connected to; absent if it did not."),
    number("bytes_in", "bytes", "What the container received."),
    number("bytes_out", "bytes", "What the container sent."),
    number("duration_ms", "milliseconds", "From the first byte to the last."),
    keyword("response_flags", CUT, "Envoy's own words for what went wrong."),
    keyword("close_reason", WORD, "Who closed the connection, and how."),
    keyword("termination", CUT, "Why the proxy ended the connection."),
    keyword("sni", CUT, "The name in the container's TLS hello: its claim."),
    keyword("method", CUT, "Of a request: its method."),
    keyword("path", UNCUT, "Of a request: its path and query, cut at 1024 bytes."),
    keyword("request_host", CUT, "Of a request: the host it names, cut at 255 bytes."),
    number("response_code", "", "Of a request: the answer's code; 0 if none came."),
    keyword("response_code_details", CUT, "Of a request: who made the answer, and why."),
    number("grpc_status", "", "Of a gRPC call: its status."),
    keyword("protocol", WORD, "HTTP/1.1, HTTP/2."),
    keyword("upgrade", WORD, "What the request asks to go on with: websocket."),
    keyword("content_type", WORD, "Type of what the request carries: application/grpc."),
];
