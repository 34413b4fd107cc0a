//! The kernel side's clock.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Now, in nanoseconds of `CLOCK_BOOTTIME`.
pub(crate) fn boot_ns() -> u64 {
    // The clock exists on every kernel that can load the programs.
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    nanoseconds(now)
}

/// A time as the maps hold it; what does not fit is for ever.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
