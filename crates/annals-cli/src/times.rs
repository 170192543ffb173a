//! Times as text: RFC 3339 in UTC, exact to the nanosecond, over the whole range of a
//! [`Timestamp`]; and friendlier forms for what a person types.

use annals::{AsOf, Timestamp};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Zoned};
use serde::{Serialize, Serializer};
use std::fmt;

/// A time that is shown as RFC 3339.
#[derive(Clone, Copy)]
pub struct Time(pub Timestamp);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let time = jiff::Timestamp::from_nanosecond(i128::from(nanos));
        write!(f, "{}", time.expect("its range is the wider one"))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Parses RFC 3339, with any offset from UTC.
pub fn parse(text: &str) -> Result<Timestamp, String> {
    // The parser ignores the name of a time zone, even if it contradicts the offset.
    if text.contains('[') {
        return Err(format!("{text:?} is not a time of RFC 3339: it names a time zone"));
    }
    let time: jiff::Timestamp = text.parse().map_err(|e| format!("{text:?} is not a time of RFC 3339: {e}"))?;
    in_range(time)
}

/// Parses what [`parse`] accepts, and times in UTC without an offset: `2024-05-01 10:00`,
/// `2024-05-01`.
pub fn parse_lenient(text: &str) -> Result<Timestamp, String> {
    let plain = text.chars().all(|c| c.is_ascii_digit() || "-:.T ".contains(c));
    match text.parse::<DateTime>() {
        Ok(time) if plain => in_range(utc(time)?.timestamp()),
        _ => parse(text),
    }
}

/// Parses what a person types: what [`parse_lenient`] accepts, `now`, `today` and `yesterday`
/// (their midnight), and a time ago: `2h`, `3 days ago`.
pub fn parse_friendly(text: &str) -> Result<Timestamp, String> {
    friendly(text, jiff::Timestamp::now().to_zoned(TimeZone::UTC))
}

/// Parses a point in history: a number is a position, anything else a time as [`parse_friendly`]
/// accepts it.
pub fn parse_point(text: &str) -> Result<AsOf, String> {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
        return text.parse().map(AsOf::Position).map_err(|e| format!("{text:?} is not a position: {e}"));
    }
    parse_friendly(text).map(AsOf::Time)
}

fn friendly(text: &str, now: Zoned) -> Result<Timestamp, String> {
    let day = |back: i64| {
        let day = now.checked_sub(Span::new().days(back)).and_then(|day| day.start_of_day());
        day.map_err(|e| e.to_string())
    };
    let then = match text {
        "now" => now,
        "today" => day(0)?,
        "yesterday" => day(1)?,
        _ => match text.parse::<Span>() {
            // Other spans look like a time of day, or like a time in the future.
            Ok(span) if text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains(':') => {
                now.checked_sub(span.abs()).map_err(|e| e.to_string())?
            }
            _ => return parse_lenient(text),
        },
    };
    in_range(then.timestamp())
}

fn utc(time: DateTime) -> Result<Zoned, String> {
    time.to_zoned(TimeZone::UTC).map_err(|e| e.to_string())
}

fn in_range(time: jiff::Timestamp) -> Result<Timestamp, String> {
    let nanos = i64::try_from(time.as_nanosecond());
    let nanos =
        nanos.map_err(|_| format!("{time} is outside of {} to {}", Time(Timestamp::MIN), Time(Timestamp::MAX)))?;
    Ok(Timestamp::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(nanos: i64) -> String {
        Time(Timestamp::from_nanos(nanos)).to_string()
    }

    #[test]
    fn times_round_trip_over_the_whole_range() {
        let nanos = [i64::MIN, i64::MIN + 1, -1, 0, 1, 999_999_999, 1_500_000_000, 1_270_047_582_000_000_000, i64::MAX];
        for nanos in nanos {
            assert_eq!(parse(&shown(nanos)).unwrap().as_nanos(), nanos, "{}", shown(nanos));
        }
        assert_eq!(shown(i64::MIN), "1677-09-21T00:12:43.145224192Z");
        assert_eq!(shown(i64::MAX), "2262-04-11T23:47:16.854775807Z");
        assert_eq!(shown(-1), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(shown(500_000_000), "1970-01-01T00:00:00.5Z");
    }

    #[test]
    fn offsets_are_counted_in() {
        assert_eq!(shown(parse("2010-03-31T16:59:42.000+02:00").unwrap().as_nanos()), "2010-03-31T14:59:42Z");
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for text in [
            "",
            "x",
            "2010-03-31",
            "2010-03-31T14:59:42",
            "2010-13-31T14:59:42Z",
            "1600-01-01T00:00:00Z",
            "3000-01-01T00:00:00Z",
            "2010-03-31T14:59:42+00:00[Europe/Berlin]",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        for text in [
            "2010-03-31T14:59:42+99:00",
            "2010-13-31",
            "2010-02-29",
            "soon",
            "Now",
            "1600-01-01",
            "99999 years",
            "10:00",
            "10:00:00",
            "+2h",
            "-2h",
            "2h30",
            "2h in",
        ] {
            assert!(parse_friendly(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_point_is_a_position_or_a_time() {
        assert_eq!(parse_point("17"), Ok(AsOf::Position(17)));
        assert_eq!(parse_point("1970-01-01T00:00:01Z"), Ok(AsOf::Time(Timestamp::from_nanos(1_000_000_000))));
        assert!(matches!(parse_point("2012-05-01"), Ok(AsOf::Time(_))));
        for text in ["", "-1", "1.5", "soon", "99999999999999999999"] {
            assert!(parse_point(text).is_err(), "{text}");
        }
    }

    #[test]
    fn people_may_be_brief() {
        let now = || "2024-03-01T10:00:00Z".parse::<jiff::Timestamp>().unwrap().to_zoned(TimeZone::UTC);
        let cases = [
            ("now", "2024-03-01T10:00:00Z"),
            ("today", "2024-03-01T00:00:00Z"),
            ("yesterday", "2024-02-29T00:00:00Z"),
            ("2h", "2024-03-01T08:00:00Z"),
            ("2h ago", "2024-03-01T08:00:00Z"),
            ("3 days", "2024-02-27T10:00:00Z"),
            ("2024-01-02", "2024-01-02T00:00:00Z"),
            ("2024-01-02 03:04", "2024-01-02T03:04:00Z"),
            ("2024-01-02T03:04:05.5", "2024-01-02T03:04:05.5Z"),
            ("2024-01-02T03:04:05+01:00", "2024-01-02T02:04:05Z"),
        ];
        for (text, time) in cases {
            assert_eq!(Time(friendly(text, now()).unwrap()).to_string(), time, "{text}");
        }
    }
}
