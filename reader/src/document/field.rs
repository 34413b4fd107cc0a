//! How a field's Rust type decides its kind in the store and its OTLP value.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use documents::Kind;

/// A field's value, as OTLP has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar<'a> {
    /// Text.
    Text(&'a str),
    /// Written as text.
    Address(IpAddr),
    /// OTLP has signed numbers only.
    Number(i64),
    /// True or false.
    Truth(bool),
}

/// A type that a document's field may have.
pub trait FieldValue {
    /// How the store indexes it.
    const KIND: Kind;

    /// Its OTLP value; `None` leaves the attribute out.
    fn scalar(&self) -> Option<Scalar<'_>>;
}

impl<T: FieldValue> FieldValue for Option<T> {
    const KIND: Kind = T::KIND;
    fn scalar(&self) -> Option<Scalar<'_>> {
        self.as_ref().and_then(T::scalar)
    }
}

macro_rules! value {
    ($($kind:ident $value:ty = $this:ident => $scalar:expr;)+) => {$(
        impl FieldValue for $value {
            const KIND: Kind = Kind::$kind;
            fn scalar(&self) -> Option<Scalar<'_>> {
                let $this = self;
                Some($scalar)
            }
        }
    )+};
}

value! {
    Keyword String = text => Scalar::Text(text);
    Keyword Arc<str> = text => Scalar::Text(text);
    Keyword Cow<'static, str> = text => Scalar::Text(text);
    Ip IpAddr = address => Scalar::Address(*address);
    // A count above the range of OTLP's numbers stays at its end.
    Long u64 = number => Scalar::Number(i64::try_from(*number).unwrap_or(i64::MAX));
    Long u32 = number => Scalar::Number(i64::from(*number));
    Long u16 = number => Scalar::Number(i64::from(*number));
    Boolean bool = truth => Scalar::Truth(*truth);
    // Closed sets are keywords: their word is their value.
    Keyword abi::Verdict = word => Scalar::Text(word.as_str());
    Keyword abi::Reason = word => Scalar::Text(word.as_str());
    Keyword abi::Hook = word => Scalar::Text(word.as_str());
    Keyword abi::CloseReason = word => Scalar::Text(word.as_str());
    Keyword abi::Direction = word => Scalar::Text(word.as_str());
    Keyword abi::LossPoint = word => Scalar::Text(word.as_str());
    Keyword super::Attribution = word => Scalar::Text(word.as_str());
    Keyword super::L7Proto = word => Scalar::Text(word.as_str());
    Keyword super::RecordType = word => Scalar::Text(word.as_str());
}
