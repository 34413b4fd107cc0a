//! The document of `clawker-egress`: one declaration is the struct and its OTLP attributes. What they are called and
//! mean is in `documents`, where the store's mapping, the docs and the harness's field names come from as well.

mod encode;
mod field;
mod from_record;
#[cfg(test)]
pub(crate) mod sample;
mod words;

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use abi::{CloseReason, Direction, Hook, LossPoint, Reason, Verdict};

pub use documents::{Field, Kind};
pub use field::{FieldValue, Scalar};
pub use from_record::{EventId, Owner};
pub(crate) use from_record::{address, text};
pub use words::{Attribution, L7Proto, RecordType, UnknownWord, Words};

/// The data stream, and the sender's `service.name`.
pub const STREAM: &str = documents::EGRESS.name;

macro_rules! document {
    ($(#[$meta:meta])* $name:ident { $($field:ident: $value:ty,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $(#[doc = concat!("`", stringify!($field), "` of [`documents::EGRESS`].")] pub $field: $value,)+
        }

        impl $name {
            /// Every attribute, in the order of the declaration.
            pub const FIELDS: &'static [Field] = documents::EGRESS.fields;

            /// Hands over the attributes that have a value, under the names of [`FIELDS`](Self::FIELDS).
            pub fn attributes(&self, mut each: impl FnMut(&'static str, Scalar<'_>)) {
                $(if let Some(value) = self.$field.scalar() {
                    each(stringify!($field), value);
                })+
            }
        }

        const _: () = assert!(
            documents::agree($name::FIELDS, &[$((stringify!($field), <$value as FieldValue>::KIND),)+]),
            "the fields are not those of the table in `documents`",
        );
    };
}

document! {
    /// What one flow, or one denied attempt, of one container did; or what of it was lost.
    EgressDocument {
        agent: Arc<str>,
        project: Arc<str>,
        container_id: Arc<str>,
        verdict: Option<Verdict>,
        reason: Option<Reason>,
        l4_proto: Option<Cow<'static, str>>,
        l7_proto: Option<L7Proto>,
        src_ip: Option<IpAddr>,
        src_port: Option<u16>,
        dst_ip: Option<IpAddr>,
        dst_port: Option<u16>,
        dst_host: Option<Arc<str>>,
        actual_dst_ip: Option<IpAddr>,
        actual_dst_port: Option<u16>,
        direction: Option<Direction>,
        bytes_in: Option<u64>,
        bytes_out: Option<u64>,
        packets_in: Option<u64>,
        packets_out: Option<u64>,
        duration_ms: u64,
        close_reason: Option<CloseReason>,
        event_count: Option<u64>,
        event_id: String,
        attribution: Attribution,
        dst_host_ambiguous: Option<bool>,
        cgroup_id: u64,
        pid: Option<u32>,
        comm: Option<String>,
        hook: Option<Hook>,
        record_type: RecordType,
        loss_point: Option<LossPoint>,
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
