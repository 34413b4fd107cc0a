//! The kernel side's clock.

use nix::time::{ClockId, clock_gettime};

/// Now, in nanoseconds of `CLOCK_BOOTTIME`.
pub fn boot_ns() -> u64 {
    // The clock exists on every kernel that can load the programs.
    let now =
        clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(std::time::Duration::ZERO, std::time::Duration::from);
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
