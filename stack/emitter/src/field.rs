//! How a field's Rust type decides its kind in the store and its OTLP value.

use documents::Kind;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::event::{Outcome, What};

/// A type that an event's field may have.
pub(crate) trait FieldValue {
    /// How the store indexes it.
    const KIND: Kind;

    /// Its OTLP value; `None` leaves the attribute out.
    fn value(&self) -> Option<Value>;
}

impl<T: FieldValue> FieldValue for Option<T> {
    const KIND: Kind = T::KIND;
    fn value(&self) -> Option<Value> {
        self.as_ref().and_then(T::value)
    }
}

impl FieldValue for String {
    const KIND: Kind = Kind::Keyword;
    fn value(&self) -> Option<Value> {
        Some(Value::StringValue(self.clone()))
    }
}

impl FieldValue for u64 {
    const KIND: Kind = Kind::Long;
    fn value(&self) -> Option<Value> {
        // A count above the range of OTLP's numbers stays at its end.
        Some(Value::IntValue(i64::try_from(*self).unwrap_or(i64::MAX)))
    }
}

impl FieldValue for What {
    const KIND: Kind = Kind::Keyword;
    fn value(&self) -> Option<Value> {
        Some(Value::StringValue(self.as_str().to_owned()))
    }
}

impl FieldValue for Outcome {
    const KIND: Kind = Kind::Keyword;
    fn value(&self) -> Option<Value> {
        Some(Value::StringValue(self.as_str().to_owned()))
    }
}

/// Text for people, cut to [`Self::LONGEST`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Words(String);

impl Words {
    /// Characters.
    pub const LONGEST: usize = 1024;

    /// Such text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.chars().take(Self::LONGEST).collect())
    }
}

impl AsRef<str> for Words {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FieldValue for Words {
    const KIND: Kind = Kind::Text;
    fn value(&self) -> Option<Value> {
        Some(Value::StringValue(self.0.clone()))
    }
}

/// A moment, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment(pub u64);

impl FieldValue for Moment {
    const KIND: Kind = Kind::Date;
    fn value(&self) -> Option<Value> {
        let moment = OffsetDateTime::from_unix_timestamp_nanos(self.0.into()).ok()?;
        Some(Value::StringValue(moment.format(&Rfc3339).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_the_store_reads_dates() {
        let value = Moment(1_700_000_000_123_456_789).value();
        assert_eq!(value, Some(Value::StringValue("2023-11-14T22:13:20.123456789Z".to_owned())));
    }

    #[test]
    fn words_are_cut_between_characters() {
        assert_eq!(Words::new(&"é".repeat(2000)).0.chars().count(), Words::LONGEST);
    }
}
