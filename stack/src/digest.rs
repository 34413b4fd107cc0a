//! Digests of what is configured, to tell whether it differs.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Of bytes: 64 digits.
#[must_use]
pub fn of_bytes(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// Of a value, whatever the order of its keys.
#[must_use]
pub fn of_value(value: &Value) -> String {
    let mut value = value.clone();
    value.sort_all_objects();
    of_bytes(value.to_string().as_bytes())
}

/// Of bytes, where 16 digits will do: among those of one file.
#[must_use]
pub fn short(bytes: &[u8]) -> String {
    of_bytes(bytes).chars().take(16).collect()
}
