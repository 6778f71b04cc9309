//! A scalar into a column of a time type.

use crate::clickhouse::{Column, Kind};
use crate::config::Unit;
use crate::decode::coerce::{Scalar, mismatch, out_of_range};
use crate::decode::number::Number;
use crate::decode::time::{self, Instant};
use crate::decode::value::DecodeContext;
use crate::decode::value_reader::Result;

/// `DateTime` and `DateTime64`.
pub fn put_time(
    column: &mut Column,
    kind: &Kind,
    value: Scalar<'_>,
    context: &mut DecodeContext,
) -> Result<()> {
    let (at, is_beyond) =
        point_in_time(kind, context.unit, value).ok_or_else(|| mismatch(value, "a time"))?;
    context.was_truncated |= is_beyond;
    put_instant(column, kind, at, &mut context.was_truncated)
        .ok_or_else(|| out_of_range(value, "its time type"))
}

pub fn put_date(
    column: &mut Column,
    kind: &Kind,
    value: Scalar<'_>,
    context: &mut DecodeContext,
) -> Result<()> {
    let days = match (value, number_of(value, context.unit)) {
        (Scalar::Time(at), _) => Some(at.days()),
        (Scalar::Float(float), _) => time::from_float(float, context.unit, 0).map(|at| at.days()),
        (_, Some(number)) => time::from_number(&number, context.unit).map(|(at, _)| at.days()),
        (Scalar::Text(text), None) => time::day_from_text(text),
        _ => None,
    };
    let days = days.ok_or_else(|| mismatch(value, "a date"))?;
    put_day(column, kind, days).ok_or_else(|| out_of_range(value, "its date type"))
}

/// `Time` and `Time64`.
pub fn put_time_of_day(
    column: &mut Column,
    scale: Option<u32>,
    value: Scalar<'_>,
    context: &mut DecodeContext,
) -> Result<()> {
    let nanos = match value {
        Scalar::Float(float) => time::duration_from_float(float, context.unit, scale.unwrap_or(0)),
        Scalar::Number(number) => time::duration_from_number(&number, context.unit),
        Scalar::Text(text) => match digits_of(text) {
            Some(number) => time::duration_from_number(&number, context.unit),
            None => time::duration_from_text(text),
        },
        Scalar::Bool(_) | Scalar::Bytes(_) | Scalar::Time(_) => None,
    };
    let (nanos, is_beyond) = nanos.ok_or_else(|| mismatch(value, "a time of day"))?;
    put_duration(column, scale, nanos, &mut context.was_truncated)
        .ok_or_else(|| out_of_range(value, "its time type"))?;
    context.was_truncated |= is_beyond;
    Ok(())
}

/// Whether a time type keeps all of a value that a Variant could keep otherwise: of a text everything that it says.
pub fn keeps_all(kind: &Kind, value: Scalar<'_>, is_exact: bool) -> bool {
    match (kind, value) {
        (Kind::Date | Kind::Date32, Scalar::Text(text)) => time::is_plain_day(text),
        (Kind::DateTime { .. } | Kind::DateTime64 { .. }, Scalar::Text(text)) => {
            time::is_calendar_time(text) || (!is_exact && digits_of(text).is_none())
        }
        (Kind::Time { .. }, Scalar::Text(text)) => text.contains(':'),
        (Kind::Date | Kind::Date32, _) => false,
        _ => true,
    }
}

/// Appends a point in time to a column of a time type. `None` if it does not fit.
#[inline]
pub fn put_instant(column: &mut Column, kind: &Kind, at: Instant, was_truncated: &mut bool) -> Option<()> {
    match kind {
        Kind::DateTime { .. } => {
            column.push_fixed(u32::try_from(at.seconds).ok()?.to_le_bytes());
            *was_truncated |= at.nanos > 0;
        }
        Kind::DateTime64 { scale, .. } => {
            if !(time::YEAR_1..time::YEAR_10000).contains(&at.seconds) {
                return None;
            }
            column.push_fixed(at.ticks(*scale)?.to_le_bytes());
            *was_truncated |= at.exceeds(*scale);
        }
        Kind::Date | Kind::Date32 => return put_day(column, kind, at.days()),
        _ => return None,
    }
    Some(())
}

/// Appends days since 1970.
fn put_day(column: &mut Column, kind: &Kind, days: i64) -> Option<()> {
    match kind {
        Kind::Date => column.push_fixed(u16::try_from(days).ok()?.to_le_bytes()),
        // 1900-01-01 to 2299-12-31: <https://clickhouse.com/docs/sql-reference/data-types/date32>.
        _ if (-25_567..=120_529).contains(&days) => column.push_fixed((days as i32).to_le_bytes()),
        _ => return None,
    }
    Some(())
}

/// Appends a time of day. Cut digits round towards the past.
fn put_duration(column: &mut Column, scale: Option<u32>, nanos: i64, was_truncated: &mut bool) -> Option<()> {
    let tick = 10i64.pow(9 - scale.unwrap_or(0));
    let ticks = nanos.div_euclid(tick);
    // Up to ±999:59:59 and its fraction: <https://clickhouse.com/docs/sql-reference/data-types/time>.
    if nanos.abs() >= 3_600_000 * 1_000_000_000 {
        return None;
    }
    match scale {
        None => column.push_fixed((ticks as i32).to_le_bytes()),
        Some(_) => column.push_fixed(ticks.to_le_bytes()),
    }
    *was_truncated |= nanos.rem_euclid(tick) != 0;
    Some(())
}

/// A point in time, and whether it has digits beyond the nanosecond.
fn point_in_time(kind: &Kind, unit: Unit, value: Scalar<'_>) -> Option<(Instant, bool)> {
    let (zone, scale) = match kind {
        Kind::DateTime { zone } => (zone, 0),
        Kind::DateTime64 { zone, scale } => (zone, *scale),
        _ => return None,
    };
    match (value, number_of(value, unit)) {
        (Scalar::Time(at), _) => Some((at, false)),
        // The float that is nearest to a time is not exactly that time.
        (Scalar::Float(float), _) => Some((time::from_float(float, unit, scale)?, false)),
        (_, Some(number)) => time::from_number(&number, unit),
        (Scalar::Text(text), None) => time::from_text(text, zone),
        _ => None,
    }
}

/// A number, or a text that counts since 1970: of digits alone, or with a sign or a point. 8 digits are a day and 14 a day and a
/// time, unless a unit says that they count.
fn number_of(value: Scalar<'_>, unit: Unit) -> Option<Number<'_>> {
    match value {
        Scalar::Number(number) => Some(number),
        Scalar::Text(text) => {
            let is_calendar = unit == Unit::Auto && matches!(text.len(), 8 | 14);
            let is_calendar = is_calendar && text.bytes().all(|byte| byte.is_ascii_digit());
            if is_calendar { None } else { digits_of(text) }
        }
        _ => None,
    }
}

/// A number in a text that is nothing but digits, and perhaps a sign or a point.
fn digits_of(text: &str) -> Option<Number<'_>> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = unsigned.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_number { Number::from_text(text) } else { None }
}
