//! The document of `clawker-egress`: one declaration is the struct, the table of its fields and its
//! OTLP attributes. The store's mapping, the docs and the harness's field names come from that table.

mod field;
mod from_record;
#[cfg(test)]
pub(crate) mod sample;
mod words;

use std::{borrow::Cow, net::IpAddr};

use abi::{CloseReason, Direction, Hook, Reason, Verdict};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::{LogRecord, SeverityNumber},
};

pub use field::{Field, FieldValue, Kind};
pub(crate) use from_record::text;
pub use from_record::{EventId, Owner};
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

            /// The attributes that have a value, under the names of [`FIELDS`](Self::FIELDS).
            pub fn into_attributes(self) -> Vec<KeyValue> {
                [$((stringify!($field), self.$field.into_value()),)+]
                    .into_iter()
                    .filter_map(|(name, value)| Some(key_value(name, value?)))
                    .collect()
            }
        }
    };
}

document! {
    /// What one flow, or one denied attempt, of one container did.
    EgressDocument {
        agent: String = "Raw label `dev.clawker.agent`, byte for byte; empty where attribution is `gone` or `unknown`.",
        project: String = "Raw label `dev.clawker.project`, byte for byte; empty like `agent`.",
        container_id: String = "The container runtime's identifier; empty like `agent`.",
        verdict: Verdict = "What the kernel decided: ALLOWED, DENIED or BYPASSED.",
        reason: Reason = "The first row of the decision matrix that matched.",
        l4_proto: Cow<'static, str> = "tcp, udp, icmp, icmpv6, sctp, udplite, or another protocol's number.",
        l7_proto: L7Proto = "Application protocol; `unknown` here, the proxy's own document says.",
        src_ip: Option<IpAddr> = "The container's address; absent until the kernel knew it.",
        src_port: Option<u16> = "The container's port; absent until the kernel knew it.",
        dst_ip: Option<IpAddr> = "What the container tried to reach; absent where it named no address.",
        dst_port: Option<u16> = "The port it tried to reach; absent where it named no address.",
        dst_host: String = "The latest name that led the container to `dst_ip`; empty for a direct address.",
        actual_dst_ip: Option<IpAddr> = "Where it was sent; differs from `dst_ip` if redirected.",
        actual_dst_port: Option<u16> = "The port it was sent to; differs from `dst_port` if redirected.",
        direction: Direction = "Who opened the flow: outbound is the container.",
        bytes_in: u64 = "L4 payload received by the container.",
        bytes_out: u64 = "L4 payload sent by the container; for TCP, acknowledged by the peer.",
        packets_in: u64 = "Datagrams received; for TCP, segments, bare acknowledgements included.",
        packets_out: u64 = "Datagrams sent; for TCP, segments, bare acknowledgements included.",
        duration_ms: u64 = "From the decision to the end, milliseconds.",
        close_reason: CloseReason = "How the flow ended; `none` if it was denied before it began.",
        event_count: u64 = "Attempts this document stands for; 1 unless folded.",
        event_id: String = "Identity of the event: node, reader start, sequence. Delivery may repeat; count distinct values.",
        attribution: Attribution = "Whether its container was enrolled: known, from start to end; late, retired before the end; gone, retired before the start; unknown, not by the start.",
        dst_host_ambiguous: bool = "More than one live name leads to the destination.",
        cgroup_id: u64 = "Inode number of the enrolled cgroup; 0 is nobody.",
        pid: u32 = "Thread group of the caller: evidence, not identity.",
        comm: String = "Name of the calling process, chosen by it: evidence, not identity.",
        hook: Hook = "The hook that decided.",
        record_type: RecordType = "What kind of record this is.",
    }
}

impl EgressDocument {
    /// Names of every attribute.
    pub fn field_names() -> impl Iterator<Item = &'static str> {
        Self::FIELDS.iter().map(|field| field.name)
    }

    /// One line for people: verdict, protocol, destination.
    pub fn summary(&self) -> String {
        let (verdict, l4) = (self.verdict, &self.l4_proto);
        match (self.dst_ip, self.dst_port) {
            (Some(IpAddr::V6(ip)), Some(port)) => format!("{verdict} {l4} [{ip}]:{port}"),
            (Some(ip), Some(port)) => format!("{verdict} {l4} {ip}:{port}"),
            (Some(ip), None) => format!("{verdict} {l4} {ip}"),
            (None, _) => format!("{verdict} {l4} at {}", self.hook),
        }
    }

    /// The OTLP log record: ended at `end_unix_ns`, seen at `observed_unix_ns`.
    pub fn into_log_record(self, end_unix_ns: u64, observed_unix_ns: u64) -> LogRecord {
        LogRecord {
            time_unix_nano: end_unix_ns,
            observed_time_unix_nano: observed_unix_ns,
            severity_number: SeverityNumber::Info.into(),
            severity_text: "INFO".to_owned(),
            body: Some(AnyValue { value: Some(Value::StringValue(self.summary())) }),
            attributes: self.into_attributes(),
            ..LogRecord::default()
        }
    }
}

/// One OTLP attribute.
pub(crate) fn key_value(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

#[cfg(test)]
mod tests;
