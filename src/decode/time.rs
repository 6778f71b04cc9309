//! Points in time from texts and numbers.
//!
//! Texts: RFC 3339 and the ISO 8601 calendar forms near it, and ClickHouse's own `YYYY-MM-DD hh:mm:ss[.fraction]`,
//! which is meant in the column's time zone. Numbers count since 1970 in a unit that is given or read from the
//! magnitude. Digits beyond what a column keeps are cut towards the past.

use jiff::civil;

use crate::columns::Zone;
use crate::config::Unit;

/// A point in time: seconds since 1970, and nanoseconds that always add to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instant {
    pub seconds: i64,
    pub nanos: u32,
}

const BILLION: i128 = 1_000_000_000;

impl Instant {
    fn from_nanos(nanos: i128) -> Option<Instant> {
        let seconds = i64::try_from(nanos.div_euclid(BILLION)).ok()?;
        Some(Instant { seconds, nanos: nanos.rem_euclid(BILLION) as u32 })
    }

    pub fn from_system(at: std::time::SystemTime) -> Instant {
        // A clock before 1970 is no clock: it reads as 1970.
        let since = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Instant { seconds: since.as_secs() as i64, nanos: since.subsec_nanos() }
    }

    /// Whole units of 10^-`scale` seconds since 1970; `None` beyond 64 bits.
    pub fn ticks(self, scale: u32) -> Option<i64> {
        let fraction = self.nanos / 10u32.pow(9 - scale);
        self.seconds.checked_mul(10i64.pow(scale))?.checked_add(fraction as i64)
    }

    /// Days since 1970.
    pub fn days(self) -> i64 {
        self.seconds.div_euclid(86400)
    }
}

/// A whole number since 1970.
pub fn from_integer(value: i64, unit: Unit) -> Option<Instant> {
    Instant::from_nanos(value as i128 * nanos_per(unit, value.unsigned_abs() as f64))
}

/// A number with a fraction since 1970. It is read from its shortest decimal digits, so that 1730000000.123
/// seconds are 123 milliseconds and not 122.999999.
pub fn from_float(value: f64, unit: Unit) -> Option<Instant> {
    if !value.is_finite() || value.abs() >= 1e30 {
        return None;
    }
    let per = nanos_per(unit, value.abs());
    let text = format!("{}", value.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let whole: i128 = whole.parse().ok()?;
    // One unit has at most ten digits of nanoseconds: what lies beyond twelve digits cannot matter.
    let digits = &fraction[..fraction.len().min(12)];
    let parts: i128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    let denominator = 10i128.pow(digits.len() as u32);
    let numerator = whole.checked_mul(per)?.checked_mul(denominator)?.checked_add(parts * per)?;
    let nanos = if value < 0.0 { (-numerator).div_euclid(denominator) } else { numerator / denominator };
    Instant::from_nanos(nanos)
}

fn nanos_per(unit: Unit, magnitude: f64) -> i128 {
    match unit {
        Unit::Seconds => BILLION,
        Unit::Milliseconds => 1_000_000,
        Unit::Microseconds => 1_000,
        Unit::Nanoseconds => 1,
        Unit::Auto if magnitude < 1e11 => BILLION,
        Unit::Auto if magnitude < 1e14 => 1_000_000,
        Unit::Auto if magnitude < 1e17 => 1_000,
        Unit::Auto => 1,
    }
}

/// What a text says before any time zone is applied.
struct Text {
    date: civil::Date,
    /// Seconds of the day, at most 86400 (a leap second).
    second: i64,
    nanos: u32,
    /// Seconds east of UTC, if the text says so.
    offset: Option<i64>,
}

/// A point in time from a text that is not a number; `None` if it is no time.
pub fn from_text(text: &str, zone: &Zone) -> Option<Instant> {
    let text = parse(text.as_bytes())?;
    let days = days_since_1970(text.date);
    let local = days * 86400 + text.second;
    let seconds = match (text.offset, zone) {
        (Some(offset), _) => local - offset,
        (None, Zone::Utc) => local,
        (None, Zone::Named(zone)) => {
            let second = text.second.min(86399);
            let time = civil::Time::constant(
                (second / 3600) as i8,
                (second / 60 % 60) as i8,
                (second % 60) as i8,
                0,
            );
            let at = zone.to_ambiguous_timestamp(text.date.to_datetime(time)).earlier().ok()?;
            at.as_second() + (text.second - second)
        }
    };
    Some(Instant { seconds, nanos: text.nanos })
}

/// The calendar day that a text names, as days since 1970: the day as written, whatever its offset.
pub fn day_from_text(text: &str) -> Option<i64> {
    parse(text.as_bytes()).map(|text| days_since_1970(text.date))
}

fn days_since_1970(date: civil::Date) -> i64 {
    // Howard Hinnant's days_from_civil: years begin in March, so that the leap day is the last of its year.
    let (y, m, d) = (date.year() as i64, date.month() as i64, date.day() as i64);
    let y = if m <= 2 { y - 1 } else { y };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * ((m + 9) % 12) + 2) / 5 + d - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146097 + day_of_era - 719468
}

/// `YYYY-MM-DD`, then optionally `T` or a space, `hh:mm`, `:ss`, a fraction, and `Z` or an offset.
fn parse(text: &[u8]) -> Option<Text> {
    let mut rest = text;
    let year = digits(&mut rest, 4)?;
    byte(&mut rest, b"-")?;
    let month = digits(&mut rest, 2)?;
    byte(&mut rest, b"-")?;
    let day = digits(&mut rest, 2)?;
    let date = civil::Date::new(year as i16, month as i8, day as i8).ok()?;
    if rest.is_empty() {
        return Some(Text { date, second: 0, nanos: 0, offset: None });
    }

    byte(&mut rest, b"Tt ")?;
    let hour = digits(&mut rest, 2)?;
    byte(&mut rest, b":")?;
    let minute = digits(&mut rest, 2)?;
    let (mut second, mut nanos) = (0, 0);
    if byte(&mut rest, b":").is_some() {
        second = digits(&mut rest, 2)?;
        if byte(&mut rest, b".,").is_some() {
            let len = rest.iter().take_while(|b| b.is_ascii_digit()).count();
            if len == 0 {
                return None;
            }
            for i in 0..9 {
                nanos = nanos * 10 + rest.get(i).filter(|_| i < len).map_or(0, |b| (b - b'0') as u32);
            }
            rest = &rest[len..];
        }
    }
    // 60 is a leap second: RFC 3339, 5.6.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }

    let offset = match byte(&mut rest, b"Zz+-") {
        None => None,
        Some(b'Z' | b'z') => Some(0),
        Some(sign) => {
            let hours = digits(&mut rest, 2)?;
            let minutes = if rest.is_empty() {
                0
            } else {
                byte(&mut rest, b":");
                digits(&mut rest, 2)?
            };
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = (hours * 3600 + minutes * 60) as i64;
            Some(if sign == b'-' { -seconds } else { seconds })
        }
    };
    rest.is_empty().then_some(Text {
        date,
        second: (hour * 3600 + minute * 60 + second) as i64,
        nanos,
        offset,
    })
}

fn digits(rest: &mut &[u8], count: usize) -> Option<u32> {
    let (head, tail) = rest.split_at_checked(count)?;
    let mut value = 0;
    for byte in head {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value * 10 + (byte - b'0') as u32;
    }
    *rest = tail;
    Some(value)
}

fn byte(rest: &mut &[u8], allowed: &[u8]) -> Option<u8> {
    let first = *rest.first()?;
    if !allowed.contains(&first) {
        return None;
    }
    *rest = &rest[1..];
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> Option<(i64, u32)> {
        from_text(text, &Zone::Utc).map(|at| (at.seconds, at.nanos))
    }

    #[test]
    fn texts_are_read() {
        assert_eq!(utc("2024-10-27T03:33:20Z"), Some((1_730_000_000, 0)));
        assert_eq!(utc("2024-10-27 03:33:20"), Some((1_730_000_000, 0)));
        assert_eq!(utc("2024-10-27T05:33:20.123456789999+02:00"), Some((1_730_000_000, 123_456_789)));
        assert_eq!(utc("2024-10-26T22:33:20-0500"), Some((1_730_000_000, 0)));
        assert_eq!(utc("2024-10-27T03:33Z"), Some((1_729_999_980, 0)));
        assert_eq!(utc("1969-12-31T23:59:59.5Z"), Some((-1, 500_000_000)));
        assert_eq!(utc("2016-12-31T23:59:60Z"), Some((1_483_228_800, 0)));
        assert_eq!(utc("1970-01-01"), Some((0, 0)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2024",
            "2024-W43",
            "2024-W43-7",
            "2024-300",
            "2024-13-01",
            "2024-02-30",
            "2024-10-27T",
            "2024-10-27T25:00",
            "2024-10-27T03:33:20.Z",
            "2024-10-27T03:33:20Zulu",
            "2024-10-27T03:33:20+2",
            "27.10.2024",
            "2024-10-27T03:61",
        ] {
            assert_eq!(utc(text), None, "{text}");
        }
    }

    #[test]
    fn texts_without_an_offset_are_local() {
        let zone = Zone::Named(jiff::tz::TimeZone::get("America/New_York").unwrap());
        assert_eq!(from_text("2024-10-26 23:33:20", &zone).unwrap().seconds, 1_730_000_000);
        assert_eq!(from_text("2024-10-26T23:33:20Z", &zone).unwrap().seconds, 1_729_985_600);
    }

    #[test]
    fn numbers_are_read_by_magnitude_or_unit() {
        for (value, unit, expected) in [
            (1_730_000_000, Unit::Auto, (1_730_000_000, 0)),
            (1_730_000_000_123, Unit::Auto, (1_730_000_000, 123_000_000)),
            (1_730_000_000_123_456, Unit::Auto, (1_730_000_000, 123_456_000)),
            (1_730_000_000_123_456_789, Unit::Auto, (1_730_000_000, 123_456_789)),
            (5, Unit::Milliseconds, (0, 5_000_000)),
            (-1, Unit::Milliseconds, (-1, 999_000_000)),
        ] {
            let at = from_integer(value, unit).unwrap();
            assert_eq!((at.seconds, at.nanos), expected, "{value}");
        }
        let at = from_float(1_730_000_000.123, Unit::Auto).unwrap();
        assert_eq!((at.seconds, at.nanos), (1_730_000_000, 123_000_000));
        let at = from_float(-0.25, Unit::Seconds).unwrap();
        assert_eq!((at.seconds, at.nanos), (-1, 750_000_000));
        assert_eq!(from_float(f64::INFINITY, Unit::Auto), None);
    }

    #[test]
    fn days_agree_with_the_calendar_library() {
        for year in [1899, 1900, 1969, 1970, 2000, 2024, 2100, 2299] {
            for month in 1..=12 {
                let date = civil::Date::new(year, month, 28).unwrap();
                let expected = (date - civil::Date::constant(1970, 1, 1)).get_days() as i64;
                assert_eq!(days_since_1970(date), expected, "{date}");
            }
        }
    }
}
