//! The kernel side's clock.

use std::{fs, io, time::Duration};

use nix::time::{ClockId, clock_gettime};

use crate::error::{Error, Result};

/// Now, in nanoseconds of `CLOCK_BOOTTIME`.
pub(crate) fn boot_ns() -> u64 {
    // The clock exists on every kernel that can load the programs.
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    nanoseconds(now)
}

/// Where the kernel says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Which boot this is, as the kernel numbers them.
pub(crate) fn boot_id() -> Result<u128> {
    u128::from_str_radix(&boot()?.trim().replace('-', ""), 16)
        .map_err(|error| Error::file(BOOT_ID)(io::Error::other(error)))
}

/// The same, as the kernel writes it.
pub(crate) fn boot() -> Result<String> {
    fs::read_to_string(BOOT_ID).map_err(Error::file(BOOT_ID))
}

/// A time as the maps hold it; what does not fit is for ever.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
