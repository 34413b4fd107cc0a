//! The two clocks: records carry time since boot, documents carry wall-clock time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_BOOTTIME`, the kernel side's clock.
///
/// # Errors
/// Where the kernel refuses the clock (a seccomp filter, for instance).
pub fn boot_ns() -> nix::Result<u64> {
    Ok(nanoseconds(Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME)?)))
}

/// Wall clock less boot clock, as measured at one moment. The wall clock may be set at any time, so
/// measure again for each batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    boot: u64,
    wall: u64,
}

impl Offset {
    /// Reads both clocks.
    ///
    /// # Errors
    /// Where the kernel refuses the boot clock.
    pub fn measure() -> nix::Result<Self> {
        Ok(Self { boot: boot_ns()?, wall: unix_ns(SystemTime::now()) })
    }

    /// Two readings taken at the same moment, nanoseconds since boot and since 1970.
    pub const fn new(boot: u64, wall: u64) -> Self {
        Self { boot, wall }
    }

    /// The moment of the measurement, nanoseconds since 1970.
    pub const fn now_unix_ns(self) -> u64 {
        self.wall
    }

    /// The moment of the measurement, nanoseconds since boot.
    pub const fn now_boot_ns(self) -> u64 {
        self.boot
    }

    /// Nanoseconds since 1970 of a time since boot, before or after the measurement.
    pub const fn wall_of(self, boot_ns: u64) -> u64 {
        translate(boot_ns, self.boot, self.wall)
    }

    /// Nanoseconds since boot of a time since 1970; 0 where that was before.
    pub const fn boot_of(self, wall_ns: u64) -> u64 {
        translate(wall_ns, self.wall, self.boot)
    }
}

const fn translate(time: u64, from: u64, to: u64) -> u64 {
    if time >= from {
        to.saturating_add(time.saturating_sub(from))
    } else {
        to.saturating_sub(from.saturating_sub(time))
    }
}

fn unix_ns(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, nanoseconds)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn translates_times_before_and_after_the_measurement() {
        let offset = Offset::new(1_000, 5_000_000);
        assert_eq!(offset.wall_of(400), 4_999_400);
        assert_eq!(offset.wall_of(1_600), 5_000_600);
        assert_eq!(offset.boot_of(4_999_400), 400);
        assert_eq!(offset.boot_of(5_000_600), 1_600);
        assert_eq!(offset.boot_of(1), 0);
    }

    #[test]
    fn the_boot_clock_does_not_go_back() {
        let first = boot_ns().unwrap();
        assert!(first > 0);
        assert!(boot_ns().unwrap() >= first);
    }
}
