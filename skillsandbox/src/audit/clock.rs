//! Time since boot, which events carry, to the time of day.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_gettime};
use serde::{Serialize, Serializer};

/// The distance between the two clocks, taken once per run: a clock set during the run does not
/// reorder its records.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    boot_to_unix_ns: i128,
}

impl Clock {
    /// Reads both clocks now.
    #[must_use]
    pub fn capture() -> Self {
        let before = boot_time();
        let unix = nanoseconds(clock_gettime(ClockId::Realtime));
        let after = boot_time();
        Self {
            boot_to_unix_ns: unix - i128::midpoint(before, after),
        }
    }

    /// A clock at a known distance, in nanoseconds.
    #[must_use]
    pub const fn with_offset(boot_to_unix_ns: i128) -> Self {
        Self { boot_to_unix_ns }
    }

    /// Time of day at boot, in nanoseconds since 1970.
    #[must_use]
    pub fn offset(&self) -> i128 {
        self.boot_to_unix_ns
    }

    /// Nanoseconds since boot, now (`CLOCK_BOOTTIME`, as the kernel side reads).
    #[must_use]
    pub fn boot_ns() -> u64 {
        u64::try_from(boot_time()).unwrap_or_default()
    }

    /// The time of day at this many nanoseconds since boot.
    #[must_use]
    pub fn time(&self, boot_ns: u64) -> Time {
        let unix = i128::from(boot_ns).saturating_add(self.boot_to_unix_ns);
        Time {
            unix_ns: u64::try_from(unix.max(0)).unwrap_or(u64::MAX),
        }
    }
}

fn boot_time() -> i128 {
    let now = nanoseconds(clock_gettime(ClockId::Boottime));
    #[cfg(test)]
    let now = tests::as_if_booted_a_minute_ago(now);
    now
}

fn nanoseconds(time: Timespec) -> i128 {
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

/// A time of day, written as RFC 3339 in UTC with nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    unix_ns: u64,
}

impl Time {
    /// So many nanoseconds after 1970.
    pub(crate) const fn at(unix_ns: u64) -> Self {
        Self { unix_ns }
    }

    /// Nanoseconds since 1970.
    pub(crate) const fn unix_ns(self) -> u64 {
        self.unix_ns
    }

    /// The same as the standard library's type.
    #[must_use]
    pub fn system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.unix_ns)
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        humantime::format_rfc3339_nanos(self.system_time()).fmt(out)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;

    /// What tests record is of one day, however long their host has been up.
    pub(super) fn as_if_booted_a_minute_ago(now: i128) -> i128 {
        static FIRST: OnceLock<i128> = OnceLock::new();
        now - FIRST.get_or_init(|| now) + 60_000_000_000
    }

    #[test]
    fn time_is_rfc_3339_in_utc_with_nanoseconds() {
        let clock = Clock::with_offset(1_767_225_600_000_000_000);
        assert_eq!(clock.time(7).to_string(), "2026-01-01T00:00:00.000000007Z");
    }

    #[test]
    fn the_captured_clock_agrees_with_the_time_of_day() {
        let clock = Clock::capture();
        let now = clock.time(Clock::boot_ns()).system_time();
        let apart = now
            .duration_since(SystemTime::now())
            .unwrap_or_else(|behind| behind.duration());
        assert!(apart < Duration::from_secs(1), "{apart:?}");
    }

    #[test]
    fn any_number_of_nanoseconds_can_be_written() {
        for offset in [i128::MIN, -1, 0, i128::MAX] {
            for boot_ns in [0, u64::MAX] {
                assert!(
                    Clock::with_offset(offset)
                        .time(boot_ns)
                        .to_string()
                        .ends_with('Z')
                );
            }
        }
    }
}
