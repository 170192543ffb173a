//! Points in time: nanoseconds since 1970.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in time, in nanoseconds since 1970-01-01T00:00:00Z; negative before that.
///
/// The range is that of an `i64`: the years 1677 to 2262.
///
/// ```
/// use annals::Timestamp;
/// let moon_landing = Timestamp::from_nanos(-14_182_980_000_000_000);
/// assert!(moon_landing < Timestamp::now());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest point in time that can be told.
    pub const MIN: Timestamp = Timestamp(i64::MIN);
    /// The latest point in time that can be told.
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    /// The point that lies `nanos` nanoseconds after 1970 (before it, if negative).
    pub const fn from_nanos(nanos: i64) -> Self {
        Timestamp(nanos)
    }

    /// Nanoseconds since 1970.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// The system clock's present time.
    pub fn now() -> Self {
        SystemTime::now().into()
    }
}

impl From<SystemTime> for Timestamp {
    /// Times outside the range become [`Timestamp::MIN`] or [`Timestamp::MAX`].
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Timestamp(i64::try_from(after.as_nanos()).unwrap_or(i64::MAX)),
            Err(before) => {
                let nanos = i64::try_from(before.duration().as_nanos());
                Timestamp(nanos.map_or(i64::MIN, |n| -n))
            }
        }
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        let distance = Duration::from_nanos(time.0.unsigned_abs());
        if time.0 < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ns", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_time_round_trips_on_both_sides_of_1970() {
        for nanos in [0, 1, -1, 1_700_000_000_123_456_789, -86_400_000_000_001] {
            let time = Timestamp::from_nanos(nanos);
            assert_eq!(Timestamp::from(SystemTime::from(time)), time);
        }
    }
}
