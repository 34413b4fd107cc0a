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

/// Which boot this is, as the kernel numbers them.
pub(crate) fn boot_id() -> Result<u128> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(PATH).map_err(Error::file(PATH))?;
    u128::from_str_radix(&text.trim().replace('-', ""), 16)
        .map_err(|error| Error::file(PATH)(io::Error::other(error)))
}

/// A time as the maps hold it; what does not fit is for ever.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
