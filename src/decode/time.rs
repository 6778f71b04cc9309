//! Points in time from texts and numbers.
//!
//! Texts: RFC 3339 and the ISO 8601 calendar forms near it, and ClickHouse's own `YYYY-MM-DD hh:mm:ss[.fraction]`,
//! which is meant in the column's time zone. Numbers count since 1970 in a unit that is given or read from the
//! magnitude. Digits beyond what a column keeps are cut towards the past.

use jiff::civil;

use crate::clickhouse::Zone;
use crate::config::Unit;
use crate::decode::number::Number;

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
        let fraction = self.nanos / TENS[9 - scale as usize];
        self.seconds.checked_mul(TENS[scale as usize] as i64)?.checked_add(fraction as i64)
    }

    /// Whether there is more of it than 10^-`scale` of a second can say.
    pub fn exceeds(self, scale: u32) -> bool {
        !self.nanos.is_multiple_of(TENS[9 - scale as usize])
    }

    /// Days since 1970.
    pub fn days(self) -> i64 {
        self.seconds.div_euclid(86400)
    }
}

/// Where `DateTime64` begins, in seconds, and where it ends:
/// <https://clickhouse.com/docs/sql-reference/data-types/datetime64>.
pub const YEAR_1900: i64 = -2_208_988_800;
pub const YEAR_2300: i64 = 10_413_792_000;

/// Powers of ten.
const TENS: [u32; 10] =
    [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000];

/// The ticks of a `DateTime64(scale)` for a number that counts no finer ones since 1970: what most clocks send. `None` for
/// all others, and beyond 2299.
#[inline(always)]
pub fn ticks(count: u64, unit: Unit, scale: u32) -> Option<i64> {
    let finer = scale.checked_sub(decimals(unit, count))?;
    let ticks = count.checked_mul(TENS[finer as usize] as u64)?;
    let is_within = ticks < YEAR_2300 as u64 * TENS[scale as usize] as u64;
    i64::try_from(ticks).ok().filter(|_| is_within)
}

/// A number since 1970, and whether it has digits beyond the nanosecond.
#[inline]
pub fn from_number(number: &Number<'_>, unit: Unit) -> Option<(Instant, bool)> {
    let Some(magnitude) = number.small().filter(|magnitude| *magnitude <= i64::MAX as u64) else {
        // A fraction changes nothing, and beyond 64 bits there is no time.
        let (nanos, was_cut) = number.floor(9 - decimals(unit, number.to_f64().abs() as u64))?;
        return Some((Instant::from_nanos(nanos)?, was_cut));
    };
    let count = if number.is_negative() { -(magnitude as i64) } else { magnitude as i64 };
    let (seconds, nanos) = match decimals(unit, magnitude) {
        0 => (count, 0),
        3 => (count.div_euclid(1000), count.rem_euclid(1000) * 1_000_000),
        6 => (count.div_euclid(1_000_000), count.rem_euclid(1_000_000) * 1000),
        _ => (count.div_euclid(1_000_000_000), count.rem_euclid(1_000_000_000)),
    };
    Some((Instant { seconds, nanos: nanos as u32 }, false))
}

/// A number of units as nanoseconds, for a time of day. Whatever its magnitude, it counts seconds unless a unit is
/// given.
pub fn duration_from_number(number: &Number<'_>, unit: Unit) -> Option<(i64, bool)> {
    let (nanos, was_cut) = number.floor(9 - decimals(unit, 0))?;
    Some((i64::try_from(nanos).ok()?, was_cut))
}

/// The decimals of a second that a unit counts: 3 for milliseconds.
#[inline(always)]
fn decimals(unit: Unit, magnitude: u64) -> u32 {
    match unit {
        Unit::Seconds => 0,
        Unit::Milliseconds => 3,
        Unit::Microseconds => 6,
        Unit::Nanoseconds => 9,
        Unit::Auto if magnitude < 100_000_000_000 => 0,
        Unit::Auto if magnitude < 100_000_000_000_000 => 3,
        Unit::Auto if magnitude < 100_000_000_000_000_000 => 6,
        Unit::Auto => 9,
    }
}

/// What a text says before any time zone is applied.
struct Text {
    date: civil::Date,
    /// Seconds of the day, at most 86400 (a leap second).
    second: i64,
    nanos: u32,
    /// Whether there are digits beyond the nanosecond.
    was_cut: bool,
    /// Seconds east of UTC, if the text says so.
    offset: Option<i64>,
}

/// A point in time from a text that is not a number, and whether it has digits beyond the nanosecond; `None` if it is
/// no time.
pub fn from_text(text: &str, zone: &Zone) -> Option<(Instant, bool)> {
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
    Some((Instant { seconds, nanos: text.nanos }, text.was_cut))
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
        return Some(Text { date, second: 0, nanos: 0, was_cut: false, offset: None });
    }

    byte(&mut rest, b"Tt ")?;
    let hour = digits(&mut rest, 2)?;
    byte(&mut rest, b":")?;
    let minute = digits(&mut rest, 2)?;
    let (mut second, mut nanos, mut was_cut) = (0, 0, false);
    if byte(&mut rest, b":").is_some() {
        second = digits(&mut rest, 2)?;
        if byte(&mut rest, b".,").is_some() {
            (nanos, was_cut) = fraction(&mut rest)?;
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
        was_cut,
        offset,
    })
}

/// Nanoseconds from the digits behind a point, and whether there were more of them than that.
fn fraction(rest: &mut &[u8]) -> Option<(u32, bool)> {
    let len = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let (digits, tail) = rest.split_at(len);
    *rest = tail;
    let digit = |at: usize| digits.get(at).map_or(0, |b| (b - b'0') as u32);
    let nanos = (0..9).fold(0, |nanos, at| nanos * 10 + digit(at));
    (len > 0).then_some((nanos, digits.iter().skip(9).any(|b| *b != b'0')))
}

/// Nanoseconds from `[-]h:mm:ss[.fraction]` with up to three digits of hours, and whether there were digits beyond
/// them. Two parts alone could be minutes and seconds (to ClickHouse) or hours and minutes (to people).
pub fn duration_from_text(text: &str) -> Option<(i64, bool)> {
    let mut rest = text.as_bytes();
    let is_negative = byte(&mut rest, b"-").is_some();
    let hours = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    if hours > 3 {
        return None;
    }
    let hour = digits(&mut rest, hours.max(1))?;
    byte(&mut rest, b":")?;
    let minute = digits(&mut rest, 2)?;
    byte(&mut rest, b":")?;
    let second = digits(&mut rest, 2)?;
    let (nanos, was_cut) = match byte(&mut rest, b".") {
        Some(_) => fraction(&mut rest)?,
        None => (0, false),
    };
    if minute > 59 || second > 59 || !rest.is_empty() {
        return None;
    }
    let total = (hour * 3600 + minute * 60 + second) as i64 * 1_000_000_000 + nanos as i64;
    Some((if is_negative { -total - was_cut as i64 } else { total }, was_cut))
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
        from_text(text, &Zone::Utc).map(|(at, _)| (at.seconds, at.nanos))
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
        assert_eq!(from_text("2024-10-26 23:33:20", &zone).unwrap().0.seconds, 1_730_000_000);
        assert_eq!(from_text("2024-10-26T23:33:20Z", &zone).unwrap().0.seconds, 1_729_985_600);
    }

    #[test]
    fn numbers_are_read_by_magnitude_or_unit() {
        for (text, unit, expected) in [
            ("1730000000", Unit::Auto, (1_730_000_000, 0)),
            ("1730000000123", Unit::Auto, (1_730_000_000, 123_000_000)),
            ("1730000000123456", Unit::Auto, (1_730_000_000, 123_456_000)),
            ("1730000000123456789", Unit::Auto, (1_730_000_000, 123_456_789)),
            ("5", Unit::Milliseconds, (0, 5_000_000)),
            ("-1", Unit::Milliseconds, (-1, 999_000_000)),
            ("1730000000.123", Unit::Auto, (1_730_000_000, 123_000_000)),
            ("1.73e12", Unit::Auto, (1_730_000_000, 0)),
            ("1730000000123.456", Unit::Auto, (1_730_000_000, 123_456_000)),
            ("-0.25", Unit::Seconds, (-1, 750_000_000)),
            ("1730000000.1234567891", Unit::Seconds, (1_730_000_000, 123_456_789)),
        ] {
            let (at, was_cut) = from_number(&Number::from_text(text).unwrap(), unit).unwrap();
            assert_eq!((at.seconds, at.nanos), expected, "{text}");
            assert_eq!(was_cut, text.ends_with("7891"), "{text}");
        }
        assert_eq!(from_number(&Number::from_text("1e300").unwrap(), Unit::Auto), None);
    }

    #[test]
    fn digits_beyond_what_is_kept_are_noticed() {
        let cut = |text: &str| from_text(text, &Zone::Utc).unwrap().1;
        assert!(cut("2024-10-27T03:33:20.1234567891Z") && !cut("2024-10-27T03:33:20.1234567890Z"));
        let at = Instant { seconds: 0, nanos: 120_000_000 };
        assert!(!at.exceeds(2) && at.exceeds(1) && at.exceeds(0));
    }

    #[test]
    fn times_of_day_are_read() {
        for (text, expected) in [
            ("00:00:00", Some(0)),
            ("12:34", None),
            ("12:34:56", Some(45_296_000_000_000)),
            ("9:00:00", Some(32_400_000_000_000)),
            ("-00:00:01.5", Some(-1_500_000_000)),
            ("999:59:59", Some(3_599_999_000_000_000)),
            ("1000:00:00", None),
            ("12:60", None),
            ("12", None),
            ("12:00:00Z", None),
            (":00", None),
        ] {
            assert_eq!(duration_from_text(text).map(|(nanos, _)| nanos), expected, "{text}");
        }
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
