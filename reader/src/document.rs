//! The document of `clawker-egress`: one declaration is the struct, the table of its fields and its
//! OTLP attributes. The store's mapping, the docs and the harness's field names come from that table.

mod field;
mod from_record;
#[cfg(test)]
pub(crate) mod sample;
mod words;

use std::{borrow::Cow, net::IpAddr};

use abi::{CloseReason, Direction, Hook, LossPoint, Reason, Verdict};
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
    /// What one flow, or one denied attempt, of one container did; or what of it was lost.
    EgressDocument {
        agent: String = "Raw label `dev.clawker.agent`, byte for byte; empty where attribution is `gone` or `unknown`.",
        project: String = "Raw label `dev.clawker.project`, byte for byte; empty like `agent`.",
        container_id: String = "The container runtime's identifier; empty like `agent`.",
        verdict: Option<Verdict> = "What the kernel decided: ALLOWED, DENIED or BYPASSED.",
        reason: Option<Reason> = "The first row of the decision matrix that matched.",
        l4_proto: Option<Cow<'static, str>> = "tcp, udp, icmp, icmpv6, sctp, udplite, or another protocol's number.",
        l7_proto: Option<L7Proto> = "Application protocol; `unknown` here, the proxy's own document says.",
        src_ip: Option<IpAddr> = "The container's address; absent until the kernel knew it.",
        src_port: Option<u16> = "The container's port; absent until the kernel knew it.",
        dst_ip: Option<IpAddr> = "What the container tried to reach; absent where it named no address.",
        dst_port: Option<u16> = "The port it tried to reach; absent where it named no address.",
        dst_host: Option<String> = "The latest name that led the container to `dst_ip`; empty for a direct address.",
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
        attribution: Attribution = "Whether its container was enrolled: known, from start to end; late, retired before the end; gone, retired before the start; unknown, not by the start.",
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

    /// One line for people: verdict, protocol, destination; or how much was lost where.
    pub fn summary(&self) -> String {
        if let Some(point) = self.loss_point {
            let count =
                self.event_count.map_or_else(|| "an unknown number".to_owned(), |count| count.to_string());
            return format!("LOST {count} at {point}");
        }
        let verdict = self.verdict.map_or("", Verdict::as_str);
        let l4 = self.l4_proto.as_deref().unwrap_or_default();
        match (self.dst_ip, self.dst_port) {
            (Some(IpAddr::V6(ip)), Some(port)) => format!("{verdict} {l4} [{ip}]:{port}"),
            (Some(ip), Some(port)) => format!("{verdict} {l4} {ip}:{port}"),
            (Some(ip), None) => format!("{verdict} {l4} {ip}"),
            (None, _) => format!("{verdict} {l4} at {}", self.hook.map_or("", Hook::as_str)),
        }
    }

    /// The OTLP log record: ended at `end_unix_ns`, seen at `observed_unix_ns`.
    pub fn into_log_record(self, end_unix_ns: u64, observed_unix_ns: u64) -> LogRecord {
        let severity = if self.loss_point.is_some() { SeverityNumber::Error } else { SeverityNumber::Info };
        LogRecord {
            time_unix_nano: end_unix_ns,
            observed_time_unix_nano: observed_unix_ns,
            severity_number: severity.into(),
            severity_text: severity.as_str_name().trim_start_matches("SEVERITY_NUMBER_").to_owned(),
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
