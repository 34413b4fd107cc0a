//! The document of `clawker-egress`: one declaration is the struct, the table of its fields and its
//! OTLP attributes. The store's mapping, the docs and the harness's field names come from that table.

mod encode;
mod field;
mod from_record;
#[cfg(test)]
pub(crate) mod sample;
mod words;

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use abi::{CloseReason, Direction, Hook, LossPoint, Reason, Verdict};

pub use field::{Field, FieldValue, Kind, Scalar};
pub use from_record::{EventId, Owner};
pub(crate) use from_record::{address, text};
pub use words::{Attribution, L7Proto, RecordType, UnknownWord, Words};

/// The data stream, and the sender's `service.name`.
pub const STREAM: &str = "clawker-egress";

macro_rules! document {
    ($(#[$meta:meta])* $name:ident { $($field:ident: $value:ty = $about:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $(#[doc = $about] pub $field: $value,)+
        }

        impl $name {
            /// Every attribute, in the order of the declaration.
            pub const FIELDS: &'static [Field] = &[
                $(Field { name: stringify!($field), kind: <$value as FieldValue>::KIND, about: $about },)+
            ];

            /// Hands over the attributes that have a value, under the names of [`FIELDS`](Self::FIELDS).
            pub fn attributes(&self, mut each: impl FnMut(&'static str, Scalar<'_>)) {
                $(if let Some(value) = self.$field.scalar() {
                    each(stringify!($field), value);
                })+
            }
        }
    };
}

document! {
    /// What one flow, or one denied attempt, of one container did; or what of it was lost.
    EgressDocument {
        agent: Arc<str> = "Raw label `dev.clawker.agent`, byte for byte; empty where attribution is `gone` or `unknown`.",
        project: Arc<str> = "Raw label `dev.clawker.project`, byte for byte; empty like `agent`.",
        container_id: Arc<str> = "The container runtime's identifier; empty like `agent`.",
        verdict: Option<Verdict> = "What the kernel decided: ALLOWED, DENIED or BYPASSED.",
        reason: Option<Reason> = "The first row of the decision matrix that matched.",
        l4_proto: Option<Cow<'static, str>> = "tcp, udp, icmp, icmpv6, sctp, udplite, or another protocol's number.",
        l7_proto: Option<L7Proto> = "Application protocol; `unknown` here, the proxy's own document says.",
        src_ip: Option<IpAddr> = "The container's address; absent until the kernel knew it.",
        src_port: Option<u16> = "The container's port; absent until the kernel knew it.",
        dst_ip: Option<IpAddr> = "What the container tried to reach; absent where it named no address.",
        dst_port: Option<u16> = "The port it tried to reach; absent where it named no address.",
        dst_host: Option<Arc<str>> = "The latest name that led the container to `dst_ip`; empty for a direct address.",
        actual_dst_ip: Option<IpAddr> = "Where it was sent; differs from `dst_ip` if redirected.",
        actual_dst_port: Option<u16> = "The port it was sent to; differs from `dst_port` if redirected.",
        direction: Option<Direction> = "Who opened the flow: outbound is the container.",
        bytes_in: Option<u64> = "L4 payload received by the container.",
        bytes_out: Option<u64> = "L4 payload sent by the container; for TCP, acknowledged by the peer.",
        packets_in: Option<u64> = "Datagrams received; for TCP, segments, bare acknowledgements included.",
        packets_out: Option<u64> = "Datagrams sent; for TCP, segments, bare acknowledgements included.",
        duration_ms: u64 = "From the decision to the end, or from the first loss to the last, milliseconds.",
        close_reason: Option<CloseReason> = "How the flow ended; `none` if it was denied before it began.",
        event_count: Option<u64> = "Attempts this document stands for, 1 unless folded; of a loss, those that were lost, absent where that cannot be known.",
        event_id: String = "Identity of the event: node, spool, sequence. Delivery may repeat; count distinct values.",
        attribution: Attribution = "Whether its container was enrolled, or ran: known, from start to end; late, it left before the end; gone, it left before the start; unknown, nobody is known to have been there.",
        dst_host_ambiguous: Option<bool> = "More than one live name leads to the destination.",
        cgroup_id: u64 = "Inode number of the enrolled cgroup; 0 is nobody.",
        pid: Option<u32> = "Thread group of the caller: evidence, not identity.",
        comm: Option<String> = "Name of the calling process, chosen by it: evidence, not identity.",
        hook: Option<Hook> = "The hook that decided.",
        record_type: RecordType = "`flow`: a flow that ended or a denied attempt; `loss`: records that were lost, with nothing of what was in them.",
        loss_point: Option<LossPoint> = "Of a loss: where.",
    }
}

impl EgressDocument {
    /// Names of every attribute.
    pub fn field_names() -> impl Iterator<Item = &'static str> {
        Self::FIELDS.iter().map(|field| field.name)
    }
}

#[cfg(test)]
mod tests;
