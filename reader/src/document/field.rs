//! How a field's Rust type decides its kind in the store and its OTLP value.

use std::{borrow::Cow, net::IpAddr};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use serde::Serialize;

/// One attribute of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Field {
    /// Its name below `attributes.`.
    pub name: &'static str,
    /// How the store indexes it.
    pub kind: Kind,
    /// What it says, in one line.
    pub about: &'static str,
}

/// How the store indexes an attribute; the words are those of its mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Exact text.
    Keyword,
    /// An address; never an empty string.
    Ip,
    /// A whole number.
    Long,
    /// True or false.
    Boolean,
}

impl Kind {
    /// The mapping's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keyword => "keyword",
            Self::Ip => "ip",
            Self::Long => "long",
            Self::Boolean => "boolean",
        }
    }
}

/// A type that a document's field may have.
pub trait FieldValue {
    /// How the store indexes it.
    const KIND: Kind;

    /// Its OTLP value; `None` leaves the attribute out.
    fn into_value(self) -> Option<Value>;
}

impl FieldValue for String {
    const KIND: Kind = Kind::Keyword;
    fn into_value(self) -> Option<Value> {
        Some(Value::StringValue(self))
    }
}

impl FieldValue for Cow<'static, str> {
    const KIND: Kind = Kind::Keyword;
    fn into_value(self) -> Option<Value> {
        Some(Value::StringValue(self.into_owned()))
    }
}

impl<T: FieldValue> FieldValue for Option<T> {
    const KIND: Kind = T::KIND;
    fn into_value(self) -> Option<Value> {
        self.and_then(T::into_value)
    }
}

impl FieldValue for IpAddr {
    const KIND: Kind = Kind::Ip;
    fn into_value(self) -> Option<Value> {
        Some(Value::StringValue(self.to_string()))
    }
}

impl FieldValue for u64 {
    const KIND: Kind = Kind::Long;
    /// OTLP has signed numbers only; a count above their range stays at its end.
    fn into_value(self) -> Option<Value> {
        Some(Value::IntValue(i64::try_from(self).unwrap_or(i64::MAX)))
    }
}

impl FieldValue for u32 {
    const KIND: Kind = Kind::Long;
    fn into_value(self) -> Option<Value> {
        Some(Value::IntValue(self.into()))
    }
}

impl FieldValue for u16 {
    const KIND: Kind = Kind::Long;
    fn into_value(self) -> Option<Value> {
        Some(Value::IntValue(self.into()))
    }
}

impl FieldValue for bool {
    const KIND: Kind = Kind::Boolean;
    fn into_value(self) -> Option<Value> {
        Some(Value::BoolValue(self))
    }
}

/// Closed sets are keywords: their word is their value.
macro_rules! word {
    ($($set:ty),+ $(,)?) => {$(
        impl FieldValue for $set {
            const KIND: Kind = Kind::Keyword;
            fn into_value(self) -> Option<Value> {
                Some(Value::StringValue(self.as_str().to_owned()))
            }
        }
    )+};
}

word!(
    abi::Verdict,
    abi::Reason,
    abi::Hook,
    abi::CloseReason,
    abi::Direction,
    abi::LossPoint,
    super::Attribution,
    super::L7Proto,
    super::RecordType,
);
