//! Points in time from texts and numbers.
//!
//! Texts: RFC 3339 and the ISO 8601 calendar forms near it, with or without their separators; RFC 1123, as HTTP and mail have it;
//! and ClickHouse's own `YYYY-MM-DD hh:mm:ss[.fraction]`, which is meant in the column's time zone. Numbers count since 1970 in
//! a unit that is given or read from the magnitude. Digits beyond what a column keeps are cut towards the past; floats of binary
//! formats are rounded.

use jiff::civil;

use crate::clickhouse::Zone;
use crate::config::Unit;
use crate::decode::coerce::float_text;
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

    /// From a float that counts milliseconds since 1970.
    pub fn from_millis(millis: f64) -> Instant {
        let whole = millis.floor();
        let nanos = ((millis - whole) * 1e6).round() as i64 + (whole as i64).rem_euclid(1000) * 1_000_000;
        let seconds = (whole as i64).div_euclid(1000) + nanos.div_euclid(1_000_000_000);
        Instant { seconds, nanos: nanos.rem_euclid(1_000_000_000) as u32 }
    }

    pub fn from_system(at: std::time::SystemTime) -> Instant {
        // A clock before 1970 is wrong: it reads as 1970.
        let since = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Instant { seconds: since.as_secs() as i64, nanos: since.subsec_nanos() }
    }

    /// Full units of 10^-`scale` seconds since 1970; `None` beyond 64 bits.
    pub fn ticks(self, scale: u32) -> Option<i64> {
        let fraction = self.nanos / TENS[9 - scale as usize];
        self.seconds.checked_mul(TENS[scale as usize] as i64)?.checked_add(fraction as i64)
    }

    /// Whether there is more of it than 10^-`scale` of a second can say.
    pub fn exceeds(self, scale: u32) -> bool {
        !self.nanos.is_multiple_of(TENS[9 - scale as usize])
    }

    /// Such as `2026-11-30T12:00:00.123Z`; a time that no calendar has, in seconds.
    pub fn to_rfc3339(self) -> String {
        match jiff::Timestamp::new(self.seconds, self.nanos as i32) {
            Ok(at) => at.to_string(),
            Err(_) => self.seconds.to_string(),
        }
    }

    /// Days since 1970.
    pub fn days(self) -> i64 {
        self.seconds.div_euclid(86400)
    }
}

/// Where `DateTime64` begins, in seconds, and where it ends:
/// <https://clickhouse.com/docs/sql-reference/data-types/datetime64>.
pub const YEAR_1: i64 = -62_135_596_800;
pub const YEAR_10000: i64 = 253_402_300_800;

/// Powers of ten.
const TENS: [u32; 10] =
    [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000];

/// The ticks of a `DateTime64(scale)` for a number that counts no finer ones since 1970: what most clocks send. `None` for
/// all others, and beyond 9999.
#[inline(always)]
pub fn ticks(count: u64, unit: Unit, scale: u32) -> Option<i64> {
    let finer = scale.checked_sub(decimals(unit, count))?;
    let ticks = count.checked_mul(TENS[finer as usize] as u64)?;
    let is_within = ticks / (TENS[scale as usize] as u64) < YEAR_10000 as u64;
    i64::try_from(ticks).ok().filter(|_| is_within)
}

/// A number since 1970, and whether it has digits beyond the nanosecond.
#[inline]
pub fn from_number(number: &Number<'_>, unit: Unit) -> Option<(Instant, bool)> {
    let Some(magnitude) = number.small().filter(|magnitude| *magnitude <= i64::MAX as u64) else {
        // A fraction changes nothing, and beyond 64 bits there is no time.
        let (nanos, was_truncated) = number.floor(9 - decimals(unit, number.to_f64().abs() as u64))?;
        return Some((Instant::from_nanos(nanos)?, was_truncated));
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

/// A float since 1970, rounded to 10^-`scale` seconds: the float that is nearest to a time is not exactly that time.
pub fn from_float(float: f64, unit: Unit, scale: u32) -> Option<Instant> {
    let digits = float_text(float);
    let number = Number::from_text(&digits)?;
    let (nanos, _) = number.floor(9 - decimals(unit, float.abs() as u64))?;
    Instant::from_nanos(rounded(nanos, scale))
}

/// The same for a time of day.
pub fn duration_from_float(float: f64, unit: Unit, scale: u32) -> Option<(i64, bool)> {
    let digits = float_text(float);
    let (nanos, _) = Number::from_text(&digits)?.floor(9 - decimals(unit, 0))?;
    Some((i64::try_from(rounded(nanos, scale)).ok()?, false))
}

fn rounded(nanos: i128, scale: u32) -> i128 {
    let tick = i128::from(TENS[9 - scale as usize]);
    (nanos + tick / 2).div_euclid(tick) * tick
}

/// A number of units as nanoseconds, for a time of day. Whatever its magnitude, it counts seconds unless a unit is
/// non_payload.
pub fn duration_from_number(number: &Number<'_>, unit: Unit) -> Option<(i64, bool)> {
    let (nanos, was_truncated) = number.floor(9 - decimals(unit, 0))?;
    Some((i64::try_from(nanos).ok()?, was_truncated))
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

/// The fields of a text before any time zone is applied.
struct Text {
    date: civil::Date,
    /// Seconds of the day, at most 86400 (a leap second).
    second: i64,
    nanos: u32,
    /// Whether there are digits beyond the nanosecond.
    was_truncated: bool,
    /// Seconds east of UTC, if the text says so.
    offset: Option<i64>,
}

/// A point in time from a text that is not a number, and whether it has digits beyond the nanosecond;
/// `None` if it is not a time.
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
    Some((Instant { seconds, nanos: text.nanos }, text.was_truncated))
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

/// Whether a text is a day of the calendar and nothing else, written as ClickHouse writes it.
pub fn is_plain_day(text: &str) -> bool {
    is_dated(text) && text.len() == 10 && parse(text.as_bytes()).is_some()
}

/// Whether a text is a day of the calendar and a time of that day, as RFC 3339 or ClickHouse write them.
pub fn is_calendar_time(text: &str) -> bool {
    let has_time = matches!(text.as_bytes().get(10), Some(b'T' | b't' | b' '));
    is_dated(text) && has_time && text.as_bytes().get(13) == Some(&b':') && parse(text.as_bytes()).is_some()
}

/// `YYYY-MM-DD…`
fn is_dated(text: &str) -> bool {
    let is_in_place = |(at, byte): (usize, &u8)| match at {
        4 | 7 => *byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    text.len() >= 10 && text.as_bytes()[..10].iter().enumerate().all(is_in_place)
}

/// A day, then optionally `T` or a space, a time, and `Z` or an offset.
fn parse(text: &[u8]) -> Option<Text> {
    let mut rest = text;
    let (date, clock) = match fixed_width(&mut rest) {
        Some(fixed) => fixed,
        None => free_width(&mut rest)?,
    };
    let Some((hour, minute, second)) = clock else {
        return Some(Text { date, second: 0, nanos: 0, was_truncated: false, offset: None });
    };
    let (mut nanos, mut was_truncated) = (0, false);
    if byte(&mut rest, b".,").is_some() {
        (nanos, was_truncated) = fraction(&mut rest)?;
    }
    // 60 is a leap second: RFC 3339, 5.6. 24:00:00 is the end of a day: ISO 8601, 4.2.3 of 2004.
    let is_end = hour == 24 && minute == 0 && second == 0 && nanos == 0;
    if (hour > 23 && !is_end) || minute > 59 || second > 60 {
        return None;
    }
    let offset = offset(&mut rest)?;
    rest.is_empty().then_some(Text {
        date,
        second: (hour * 3600 + minute * 60 + second) as i64,
        nanos,
        was_truncated,
        offset,
    })
}

/// Hour, minute and second; none where the text has a day alone.
type Clock = Option<(u32, u32, u32)>;

/// `YYYY-MM-DDThh:mm:ss`, which nearly all devices send: [`free_width`] would read the same, but slower.
#[inline]
fn fixed_width(rest: &mut &[u8]) -> Option<(civil::Date, Clock)> {
    let (text, tail) = rest.split_first_chunk::<19>()?;
    let [_, _, _, _, b'-', _, _, b'-', _, _, b'T' | b't' | b' ', _, _, b':', _, _, b':', _, _] = text else {
        return None;
    };
    let mut are_digits = true;
    let mut pair = |at: usize| {
        let (tens, ones) = (text[at].wrapping_sub(b'0'), text[at + 1].wrapping_sub(b'0'));
        are_digits &= tens < 10 && ones < 10;
        u32::from(tens) * 10 + u32::from(ones)
    };
    let year = pair(0) * 100 + pair(2);
    let (month, day, hour, minute, second) = (pair(5), pair(8), pair(11), pair(14), pair(17));
    if !are_digits {
        return None;
    }
    let date = civil::Date::new(year as i16, month as i8, day as i8).ok()?;
    *rest = tail;
    Some((date, Some((hour, minute, second))))
}

/// The same in any form that is read.
fn free_width(rest: &mut &[u8]) -> Option<(civil::Date, Clock)> {
    let text = *rest;
    // `Mon, 30 Nov …` or `30 Nov …`
    let is_named = text.first()?.is_ascii_alphabetic() || matches!(text, [_, b' ', ..] | [_, _, b' ', ..]);
    let date = if is_named { named_date(rest)? } else { numeric_date(rest)? };
    if rest.is_empty() && !is_named {
        return Some((date, None));
    }
    // 14 digits in a row have nothing between the day and the time.
    let is_run = rest.first().is_some_and(u8::is_ascii_digit) && text.len() - rest.len() == 8;
    if !is_run {
        byte(rest, b"Tt ")?;
    }
    Some((date, Some(clock(rest)?)))
}

/// `YYYY-M-D`, `YYYY/M/D` or `YYYYMMDD`.
fn numeric_date(rest: &mut &[u8]) -> Option<civil::Date> {
    let year = digits(rest, 4)?;
    let (month, day) = match byte(rest, b"-/") {
        Some(separator) => {
            let month = one_or_two_digits(rest)?;
            byte(rest, &[separator])?;
            (month, one_or_two_digits(rest)?)
        }
        None => (digits(rest, 2)?, digits(rest, 2)?),
    };
    civil::Date::new(year as i16, month as i8, day as i8).ok()
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// In full, or by its first three characters.
fn month(word: &[u8]) -> Option<i8> {
    let is_it = |name: &&str| {
        word.eq_ignore_ascii_case(name.as_bytes()) || word.eq_ignore_ascii_case(&name.as_bytes()[..3])
    };
    MONTHS.iter().position(is_it).map(|at| at as i8 + 1)
}

/// `[Mon, ]30 Nov 2026`: RFC 1123, 5.2.14.
fn named_date(rest: &mut &[u8]) -> Option<civil::Date> {
    if rest.first()?.is_ascii_alphabetic() {
        let comma = rest.iter().position(|byte| *byte == b',')?;
        *rest = &rest[comma + 1..];
        byte(rest, b" ")?;
    }
    let day = one_or_two_digits(rest)?;
    byte(rest, b" ")?;
    let end = rest.iter().position(|byte| *byte == b' ')?;
    let month = month(&rest[..end])?;
    *rest = &rest[end + 1..];
    civil::Date::new(digits(rest, 4)? as i16, month, day as i8).ok()
}

/// `h:m[:s]` or `hhmmss`.
fn clock(rest: &mut &[u8]) -> Option<(u32, u32, u32)> {
    let hour = one_or_two_digits(rest)?;
    if byte(rest, b":").is_none() {
        return Some((hour, digits(rest, 2)?, digits(rest, 2)?));
    }
    let minute = one_or_two_digits(rest)?;
    let second = if byte(rest, b":").is_some() { one_or_two_digits(rest)? } else { 0 };
    Some((hour, minute, second))
}

/// Nothing, or seconds east of UTC: `Z`, `UTC`, `GMT`, `+h`, `+hh`, `+hhmm`, `+hh:mm`; a blank may precede them.
fn offset(rest: &mut &[u8]) -> Option<Option<i64>> {
    if rest.is_empty() {
        return Some(None);
    }
    byte(rest, b" ");
    if matches!(*rest, b"Z" | b"z" | b"UTC" | b"GMT") {
        *rest = &[];
        return Some(Some(0));
    }
    let sign = byte(rest, b"+-")?;
    let hours = one_or_two_digits(rest)?;
    let minutes = if rest.is_empty() {
        0
    } else {
        byte(rest, b":");
        digits(rest, 2)?
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = (hours * 3600 + minutes * 60) as i64;
    Some(Some(if sign == b'-' { -seconds } else { seconds }))
}

fn one_or_two_digits(rest: &mut &[u8]) -> Option<u32> {
    let count = rest.iter().take(2).take_while(|byte| byte.is_ascii_digit()).count();
    digits(rest, count.max(1))
}

/// Nanoseconds from the digits behind a point, and whether there were more of them than that.
fn fraction(rest: &mut &[u8]) -> Option<(u32, bool)> {
    let len = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let (digits, tail) = rest.split_at(len);
    *rest = tail;
    let (kept, cut) = digits.split_at(len.min(9));
    let count = kept.iter().fold(0, |count, digit| count * 10 + (digit - b'0') as u32);
    (len > 0).then_some((count * TENS[9 - kept.len()], cut.iter().any(|digit| *digit != b'0')))
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
    let (nanos, was_truncated) = match byte(&mut rest, b".") {
        Some(_) => fraction(&mut rest)?,
        None => (0, false),
    };
    if minute > 59 || second > 59 || !rest.is_empty() {
        return None;
    }
    let total = (hour * 3600 + minute * 60 + second) as i64 * 1_000_000_000 + nanos as i64;
    Some((if is_negative { -total - was_truncated as i64 } else { total }, was_truncated))
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
#[path = "time_tests.rs"]
mod tests;
