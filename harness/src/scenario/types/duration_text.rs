//! Durations as text: `250ms`, `2s`, `1m`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// Reads `250ms`, `2s`, `1m`.
///
/// # Errors
/// What the text should have looked like.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration such as 250ms, 2s or 1m");
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err(wrong()),
    }
}

/// In seconds where they are whole, else in milliseconds; [`parse`] reads it back.
pub fn text(duration: &Duration) -> String {
    let ms = duration.as_millis();
    if ms.is_multiple_of(1000) { format!("{}s", ms / 1000) } else { format!("{ms}ms") }
}

/// For serde's `with`.
pub fn deserialize<'de, D: Deserializer<'de>>(de: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(de)?).map_err(D::Error::custom)
}

/// For serde's `with`.
pub fn serialize<S: Serializer>(duration: &Duration, ser: S) -> Result<S::Ok, S::Error> {
    ser.serialize_str(&text(duration))
}

/// The same for an absent duration.
pub mod option {
    use super::{Deserialize, Deserializer, Duration, Error, Serializer};

    /// For serde's `with`.
    pub fn deserialize<'de, D: Deserializer<'de>>(de: D) -> Result<Option<Duration>, D::Error> {
        Option::<String>::deserialize(de)?
            .map(|text| super::parse(&text).map_err(D::Error::custom))
            .transpose()
    }

    /// For serde's `with`.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, ser: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => ser.serialize_some(&super::text(duration)),
            None => ser.serialize_none(),
        }
    }
}
