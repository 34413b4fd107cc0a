//! What the kernel decided: the reader's documents.

use super::EVENT_ID;
use crate::{
    Field, Kind, Stream, Strictness,
    field::{CUT, UNCUT, WORD, keyword, number, of},
};

/// What one flow, or one denied attempt, of one container did; or what of it was lost.
pub const EGRESS: Stream = Stream {
    name: "clawker-egress",
    title: "Egress",
    about: "What the kernel decided: a document for each flow that ended, each denied attempt, and each loss. Written by the reader.",
    strictness: Strictness::Refused,
    fields: FIELDS,
    columns: &[
        "agent",
        "project",
        "verdict",
        "reason",
        "l4_proto",
        "dst_host",
        "dst_ip",
        "dst_port",
        "bytes_out",
        "bytes_in",
        "comm",
    ],
};

const FIELDS: &[Field] = &[
    keyword(
        "agent",
        UNCUT,
        "Raw label `dev.clawker.agent`, byte for byte; empty where attribution is `gone` or `unknown`.",
    ),
    keyword("project", UNCUT, "Raw label `dev.clawker.project`, byte for byte; empty like `agent`."),
    keyword("container_id", WORD, "The container runtime's identifier; empty like `agent`."),
    keyword("verdict", WORD, "What the kernel decided: ALLOWED, DENIED or BYPASSED."),
    keyword("reason", WORD, "The first row of the decision matrix that matched."),
    keyword("l4_proto", WORD, "tcp, udp, icmp, icmpv6, sctp, udplite, or another protocol's number."),
    keyword("l7_proto", WORD, "Application protocol; `unknown` here, the proxy's own document says."),
    of(Kind::Ip, "src_ip", "The container's address; absent until the kernel knew it."),
    number("src_port", "", "The container's port; absent until the kernel knew it."),
    of(Kind::Ip, "dst_ip", "What the container tried to reach; absent where it named no address."),
    number("dst_port", "", "The port it tried to reach; absent where it named no address."),
    keyword(
        "dst_host",
        CUT,
        "The latest name that led the container to `dst_ip`; empty for a direct address.",
    ),
    of(Kind::Ip, "actual_dst_ip", "Where it was sent; differs from `dst_ip` if redirected."),
    number("actual_dst_port", "", "The port it was sent to; differs from `dst_port` if redirected."),
    keyword("direction", WORD, "Who opened the flow: outbound is the container."),
    number("bytes_in", "bytes", "L4 payload received by the container."),
    number("bytes_out", "bytes", "L4 payload sent by the container; for TCP, acknowledged by the peer."),
    number("packets_in", "packets", "Datagrams received; for TCP, segments, bare acknowledgements included."),
    number("packets_out", "packets", "Datagrams sent; for TCP, segments, bare acknowledgements included."),
    number(
        "duration_ms",
        "milliseconds",
        "From the decision to the end, or from the first loss to the last, milliseconds.",
    ),
    keyword("close_reason", WORD, "How the flow ended; `none` if it was denied before it began."),
    number(
        "event_count",
        "",
        "Attempts this document stands for, 1 unless folded; of a loss, those that were lost, absent where that cannot be known.",
    ),
    EVENT_ID,
    keyword(
        "attribution",
        WORD,
        "Whether its container was enrolled, or ran: known, from start to end; late, it left before the end; gone, it left before the start; unknown, nobody is known to have been there.",
    ),
    of(Kind::Boolean, "dst_host_ambiguous", "More than one live name leads to the destination."),
    number("cgroup_id", "", "Inode number of the enrolled cgroup; 0 is nobody."),
    number("pid", "", "Thread group of the caller: evidence, not identity."),
    keyword("comm", WORD, "Name of the calling process, chosen by it: evidence, not identity."),
    keyword("hook", WORD, "The hook that decided."),
    keyword(
        "record_type",
        WORD,
        "`flow`: a flow that ended or a denied attempt; `loss`: records that were lost, with nothing of what was in them.",
    ),
    keyword("loss_point", WORD, "Of a loss: where."),
];
