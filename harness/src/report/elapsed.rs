//! Durations for people.

use std::time::Duration;

/// `12ms`, `3.4s`, `2m05s`.
pub fn elapsed(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds >= 60 {
        format!("{}m{:02}s", seconds / 60, seconds % 60)
    } else if seconds >= 1 {
        format!("{seconds}.{}s", duration.subsec_millis() / 100)
    } else {
        format!("{}ms", duration.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::elapsed;

    #[test]
    fn the_unit_fits_the_length() {
        assert_eq!(elapsed(Duration::from_micros(12_900)), "12ms");
        assert_eq!(elapsed(Duration::from_millis(59_990)), "59.9s");
        assert_eq!(elapsed(Duration::from_secs(125)), "2m05s");
    }
}
