//! One scalar into one column: what fits is appended, what does not is a [`Reason`], never bent.
//!
//! Where `JSONEachRow` is lenient without loss, so is this: numbers in strings for numeric columns, booleans for
//! numbers, numbers as text for String columns.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::clickhouse::{Column, EnumNames, Kind};
use crate::config::Unit;
use crate::core::reason::{Code, Reason};
use crate::decode::number::{Misfit, Number};
use crate::decode::time::{self, Instant};

#[derive(Debug, Clone, Copy)]
pub enum Scalar<'a> {
    Bool(bool),
    Number(Number<'a>),
    Text(&'a str),
}

/// Appends a value. `was_cut` is set when a time had more digits than the column keeps.
#[inline]
pub fn put(
    column: &mut Column,
    kind: &Kind,
    unit: Unit,
    value: Scalar<'_>,
    was_cut: &mut bool,
) -> Result<(), Box<Reason>> {
    match kind {
        Kind::Int { bytes, signed } => put_integer(column, *bytes, *signed, value),
        Kind::Float64 => {
            let float = float(value, |number| number.to_f64(), f64::from)?;
            column.push_fixed(float.to_le_bytes());
            Ok(())
        }
        Kind::Float32 => {
            column.push_fixed(float(value, |number| number.to_f32(), f32::from)?.to_le_bytes());
            Ok(())
        }
        Kind::String => {
            column.push_string(written(&value).as_bytes());
            Ok(())
        }
        Kind::DateTime { .. } | Kind::DateTime64 { .. } => {
            let (at, beyond) = point_in_time(kind, unit, value).ok_or_else(|| mismatch(value, "a time"))?;
            *was_cut |= beyond;
            put_instant(column, kind, at, was_cut).ok_or_else(|| out_of_range(value, "its time type"))
        }
        _ => put_other(column, kind, unit, value, was_cut),
    }
}

/// What is met less often.
fn put_other(
    column: &mut Column,
    kind: &Kind,
    unit: Unit,
    value: Scalar<'_>,
    was_cut: &mut bool,
) -> Result<(), Box<Reason>> {
    match kind {
        Kind::Bool => {
            let flag = match value {
                Scalar::Bool(flag) => flag,
                Scalar::Text("false" | "0") => false,
                Scalar::Text("true" | "1") => true,
                Scalar::Text(_) => return Err(mismatch(value, "a Bool")),
                Scalar::Number(number) => match number.small() {
                    Some(0) => false,
                    Some(1) if !number.is_negative() => true,
                    _ => return Err(out_of_range(value, "Bool")),
                },
            };
            column.push_fixed([flag as u8]);
        }
        Kind::BFloat16 => {
            let float: f32 = float(value, |number| number.to_f32(), f32::from)?;
            column.push_fixed(bfloat16(float).to_le_bytes());
        }
        Kind::Decimal { bytes, precision, scale } => {
            let number = match value {
                Scalar::Number(number) => Some(number),
                Scalar::Text(text) => Number::from_text(text),
                Scalar::Bool(_) => None,
            };
            let number = number.ok_or_else(|| mismatch(value, "a number"))?;
            let wanted = || format!("Decimal({precision}, {scale})");
            let scaled = number.scaled(*scale).map_err(|misfit| match misfit {
                Misfit::Fraction => Box::new(Reason::new(
                    Code::OutOfRange,
                    format!("{} has more decimals than {} keeps", show(value), wanted()),
                )),
                Misfit::TooLarge => out_of_range(value, &wanted()),
            })?;
            let encoded = scaled.to_bytes(*bytes, true, number.is_negative());
            let encoded = encoded.filter(|_| scaled.has_digits(*precision));
            column.push_wide(&encoded.ok_or_else(|| out_of_range(value, &wanted()))?[..*bytes]);
        }
        Kind::FixedString(width) => {
            let text = written(&value).as_bytes();
            if text.len() > *width {
                return Err(out_of_range(value, &format!("FixedString({width})")));
            }
            let mut padded = text.to_vec();
            padded.resize(*width, 0);
            column.push_wide(&padded);
        }
        Kind::Uuid => {
            let Scalar::Text(text) = value else { return Err(mismatch(value, "a UUID")) };
            let uuid = uuid(text).ok_or_else(|| mismatch(value, "a UUID"))?;
            // On the wire a UUID is two little-endian halves of 64 bits.
            column.push_fixed::<16>(std::array::from_fn(|i| if i < 8 { uuid[7 - i] } else { uuid[23 - i] }));
        }
        Kind::Ipv4 => {
            let Scalar::Text(text) = value else { return Err(mismatch(value, "an IPv4 address")) };
            let address: Ipv4Addr = text.parse().map_err(|_| mismatch(value, "an IPv4 address"))?;
            column.push_fixed(u32::from(address).to_le_bytes());
        }
        Kind::Ipv6 => {
            let Scalar::Text(text) = value else { return Err(mismatch(value, "an IPv6 address")) };
            let address = text.parse::<Ipv6Addr>();
            let address = address.or_else(|_| text.parse().map(|v4: Ipv4Addr| v4.to_ipv6_mapped()));
            column.push_fixed(address.map_err(|_| mismatch(value, "an IPv6 address"))?.octets());
        }
        Kind::Enum8(names) => column.push_fixed((enumeration(names, value)? as i8).to_le_bytes()),
        Kind::Enum16(names) => column.push_fixed(enumeration(names, value)?.to_le_bytes()),
        Kind::Date | Kind::Date32 => {
            let days = match number_of(value) {
                Some(number) => time::from_number(&number, unit).map(|(at, _)| at.days()),
                None => text_of(value).and_then(time::day_from_text),
            };
            let days = days.ok_or_else(|| mismatch(value, "a date"))?;
            put_day(column, kind, days).ok_or_else(|| out_of_range(value, "its date type"))?;
        }
        Kind::Time { scale } => {
            let nanos = match number_of(value) {
                Some(number) => time::duration_from_number(&number, unit),
                None => text_of(value).and_then(time::duration_from_text),
            };
            let (nanos, beyond) = nanos.ok_or_else(|| mismatch(value, "a time of day"))?;
            put_duration(column, *scale, nanos, was_cut)
                .ok_or_else(|| out_of_range(value, "its time type"))?;
            *was_cut |= beyond;
        }
        _ => return Err(mismatch(value, "a list or an object")),
    }
    Ok(())
}

/// Appends a point in time to a column of a time type. `None` if it does not fit.
#[inline]
pub fn put_instant(column: &mut Column, kind: &Kind, at: Instant, was_cut: &mut bool) -> Option<()> {
    match kind {
        Kind::DateTime { .. } => {
            column.push_fixed(u32::try_from(at.seconds).ok()?.to_le_bytes());
            *was_cut |= at.nanos > 0;
        }
        Kind::DateTime64 { scale, .. } => {
            if !(time::YEAR_1900..time::YEAR_2300).contains(&at.seconds) {
                return None;
            }
            column.push_fixed(at.ticks(*scale)?.to_le_bytes());
            *was_cut |= at.exceeds(*scale);
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

/// Appends a time of day. What is cut is cut towards the past.
fn put_duration(column: &mut Column, scale: Option<u32>, nanos: i64, was_cut: &mut bool) -> Option<()> {
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
    *was_cut |= nanos.rem_euclid(tick) != 0;
    Some(())
}

fn put_integer(
    column: &mut Column,
    bytes: usize,
    is_signed: bool,
    value: Scalar<'_>,
) -> Result<(), Box<Reason>> {
    let number = match value {
        Scalar::Number(number) => number,
        Scalar::Bool(flag) => {
            let mut encoded = [0; 32];
            encoded[0] = flag as u8;
            column.push_wide(&encoded[..bytes]);
            return Ok(());
        }
        Scalar::Text(text) => Number::from_text(text).ok_or_else(|| mismatch(value, "an integer"))?,
    };
    let pushed = number.small_integer().and_then(|integer| push_integer(column, bytes, is_signed, integer));
    if pushed.is_some() {
        return Ok(());
    }
    let encoded = match number.scaled(0) {
        Ok(integer) => integer.to_bytes(bytes, is_signed, number.is_negative()),
        Err(Misfit::TooLarge) => None,
        Err(Misfit::Fraction) => return Err(mismatch(value, "an integer")),
    };
    let encoded = encoded.ok_or_else(|| out_of_range(value, &integer_name(bytes, is_signed)))?;
    column.push_wide(&encoded[..bytes]);
    Ok(())
}

/// Appends an integer to a column of up to 64 bits. `None` if it does not fit.
#[inline(always)]
pub fn push_integer(column: &mut Column, bytes: usize, is_signed: bool, integer: i64) -> Option<()> {
    macro_rules! fit {
        ($type:ty) => {
            <$type>::try_from(integer).ok().map(|fits| column.push_fixed(fits.to_le_bytes()))
        };
    }
    match (bytes, is_signed) {
        (1, false) => fit!(u8),
        (2, false) => fit!(u16),
        (4, false) => fit!(u32),
        (8, false) => fit!(u64),
        (1, true) => fit!(i8),
        (2, true) => fit!(i16),
        (4, true) => fit!(i32),
        (8, true) => fit!(i64),
        _ => None,
    }
}

fn integer_name(bytes: usize, is_signed: bool) -> String {
    format!("{}Int{}", if is_signed { "" } else { "U" }, bytes * 8)
}

/// A float; infinite only if the value says so itself.
#[inline]
fn float<F: Copy + std::str::FromStr + Into<f64>>(
    value: Scalar<'_>,
    read: impl Fn(Number<'_>) -> F,
    from: impl Fn(u8) -> F,
) -> Result<F, Box<Reason>> {
    let float = match value {
        Scalar::Number(number) => read(number),
        Scalar::Bool(flag) => return Ok(from(flag as u8)),
        Scalar::Text(text) => match Number::from_text(text) {
            Some(number) => read(number),
            // Rust reads "nan", "inf" and "infinity" in any case and with a sign, as ClickHouse does.
            None => return text.parse().map_err(|_| mismatch(value, "a number")),
        },
    };
    if float.into().is_infinite() {
        return Err(out_of_range(value, &format!("Float{}", size_of::<F>() * 8)));
    }
    Ok(float)
}

/// The upper half of a float of 32 bits.
fn bfloat16(float: f32) -> u16 {
    (float.to_bits() >> 16) as u16
}

fn enumeration(names: &EnumNames, value: Scalar<'_>) -> Result<i16, Box<Reason>> {
    let number = match value {
        Scalar::Text(name) => {
            return names.number(name).ok_or_else(|| mismatch(value, "a name of the enum"));
        }
        Scalar::Number(number) => number
            .small()
            .and_then(|n| i32::try_from(n).ok())
            .and_then(|n| i16::try_from(if number.is_negative() { -n } else { n }).ok()),
        Scalar::Bool(_) => None,
    };
    number.filter(|n| names.has_number(*n)).ok_or_else(|| mismatch(value, "a name or number of the enum"))
}

fn point_in_time(kind: &Kind, unit: Unit, value: Scalar<'_>) -> Option<(Instant, bool)> {
    let (Kind::DateTime { zone } | Kind::DateTime64 { zone, .. }) = kind else { return None };
    match number_of(value) {
        Some(number) => time::from_number(&number, unit),
        None => time::from_text(text_of(value)?, zone),
    }
}

/// A number, or a text that is nothing but digits and perhaps a point.
fn number_of(value: Scalar<'_>) -> Option<Number<'_>> {
    match value {
        Scalar::Number(number) => Some(number),
        Scalar::Text(text) if text.bytes().all(|b| b.is_ascii_digit() || b"+-.".contains(&b)) => {
            Number::from_text(text)
        }
        _ => None,
    }
}

fn text_of(value: Scalar<'_>) -> Option<&str> {
    if let Scalar::Text(text) = value { Some(text) } else { None }
}

/// A value as a text.
fn written<'a>(value: &Scalar<'a>) -> &'a str {
    match value {
        Scalar::Text(text) => text,
        Scalar::Number(number) => number.text(),
        Scalar::Bool(flag) => {
            if *flag {
                "true"
            } else {
                "false"
            }
        }
    }
}

/// 8-4-4-4-12 hexadecimal digits, or 32 of them without hyphens.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let bytes = text.as_bytes();
    let hyphens = [8, 13, 18, 23];
    match bytes.len() {
        32 => {}
        36 if hyphens.iter().all(|at| bytes[*at] == b'-') => {}
        _ => return None,
    }
    let mut digits = bytes
        .iter()
        .enumerate()
        .filter(|(i, _)| bytes.len() == 32 || !hyphens.contains(i))
        .map(|(_, byte)| (*byte as char).to_digit(16));
    let mut uuid = [0; 16];
    for byte in &mut uuid {
        *byte = (digits.next()?? << 4 | digits.next()??) as u8;
    }
    Some(uuid)
}

#[cold]
pub fn mismatch(value: Scalar<'_>, wanted: &str) -> Box<Reason> {
    Box::new(Reason::new(Code::TypeMismatch, format!("{} is not {wanted}", show(value))))
}

#[cold]
fn out_of_range(value: Scalar<'_>, wanted: &str) -> Box<Reason> {
    Box::new(Reason::new(Code::OutOfRange, format!("{} is out of range for {wanted}", show(value))))
}

/// A value as a reason shows it: long ones are cut.
fn show(value: Scalar<'_>) -> String {
    let cut = |text: &str| match text.char_indices().nth(64) {
        Some((end, _)) => (text[..end].to_string(), "…"),
        None => (text.to_string(), ""),
    };
    match value {
        Scalar::Bool(flag) => flag.to_string(),
        Scalar::Number(number) => {
            let (text, more) = cut(number.text());
            format!("{text}{more}")
        }
        Scalar::Text(text) => {
            let (text, more) = cut(text);
            format!("{text:?}{more}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clickhouse::ColumnType;

    fn wire(type_name: &str, value: Scalar<'_>) -> Result<Vec<u8>, Code> {
        let column_type = ColumnType::parse(type_name, "UTC").unwrap();
        let mut column = Column::new(&column_type, false);
        match put(&mut column, &column_type.kind, Unit::Auto, value, &mut false) {
            Ok(()) => {
                let mut data = Vec::new();
                column.encode(&mut data);
                Ok(data)
            }
            Err(reason) => {
                assert_eq!(column.rows(), 0, "a refused value leaves nothing behind");
                Err(reason.code)
            }
        }
    }

    fn number(text: &str) -> Scalar<'_> {
        Scalar::Number(Number::scan(text.as_bytes(), 0).0.unwrap())
    }

    #[test]
    fn integers_fit_or_are_refused() {
        assert_eq!(wire("UInt8", number("255")), Ok(vec![255]));
        assert_eq!(wire("UInt8", number("256")), Err(Code::OutOfRange));
        assert_eq!(wire("UInt8", number("-1")), Err(Code::OutOfRange));
        assert_eq!(wire("Int64", number("-9223372036854775808")), Ok(i64::MIN.to_le_bytes().to_vec()));
        assert_eq!(wire("Int64", number("18446744073709551615")), Err(Code::OutOfRange));
        assert_eq!(wire("UInt64", Scalar::Text("18446744073709551615")), Ok(vec![255; 8]));
        assert_eq!(wire("Int16", number("1e3")), Ok(1000i16.to_le_bytes().to_vec()));
        assert_eq!(wire("Int16", number("1.5")), Err(Code::TypeMismatch));
        assert_eq!(wire("Int64", number("1e18")), Ok(10i64.pow(18).to_le_bytes().to_vec()));
        assert_eq!(wire("Int8", Scalar::Text("fast")), Err(Code::TypeMismatch));
        assert_eq!(wire("UInt8", Scalar::Bool(true)), Ok(vec![1]));
        assert_eq!(wire("Int256", number("-1")), Ok(vec![255; 32]));
        assert_eq!(wire("UInt128", number("-1")), Err(Code::OutOfRange));
        assert_eq!(wire("Int128", Scalar::Bool(true)).unwrap()[..2], [1, 0]);
    }

    #[test]
    fn floats_do_not_overflow_in_silence() {
        assert_eq!(wire("Float32", number("1e39")), Err(Code::OutOfRange));
        assert_eq!(wire("Float64", number("1e400")), Err(Code::OutOfRange));
        assert_eq!(wire("Float32", Scalar::Text("-inf")), Ok(f32::NEG_INFINITY.to_le_bytes().to_vec()));
        assert_eq!(wire("Float64", Scalar::Text("1e400")), Err(Code::OutOfRange));
        assert_eq!(wire("Float64", number("3")), Ok(3f64.to_le_bytes().to_vec()));
        assert_eq!(wire("Float64", Scalar::Text("12,5")), Err(Code::TypeMismatch));
    }

    #[test]
    fn decimals_keep_every_digit_or_are_refused() {
        assert_eq!(wire("Decimal(9, 2)", number("-1.5")), Ok((-150i32).to_le_bytes().to_vec()));
        assert_eq!(wire("Decimal(9, 2)", number("1.230")), Ok(123i32.to_le_bytes().to_vec()));
        assert_eq!(wire("Decimal(9, 2)", number("1.234")), Err(Code::OutOfRange));
        assert_eq!(wire("Decimal(9, 2)", number("9999999.99")), Ok(999_999_999i32.to_le_bytes().to_vec()));
        assert_eq!(wire("Decimal(9, 2)", number("10000000")), Err(Code::OutOfRange));
        assert_eq!(wire("Decimal(18, 0)", Scalar::Text("1e3")), Ok(1000i64.to_le_bytes().to_vec()));
        assert_eq!(wire("Decimal(9, 2)", Scalar::Text("x")), Err(Code::TypeMismatch));
    }

    #[test]
    fn texts_of_fixed_width_are_padded() {
        assert_eq!(wire("FixedString(3)", Scalar::Text("ab")), Ok(b"ab\0".to_vec()));
        assert_eq!(wire("FixedString(3)", Scalar::Text("abcd")), Err(Code::OutOfRange));
    }

    #[test]
    fn addresses_are_as_the_wire_has_them() {
        assert_eq!(wire("IPv4", Scalar::Text("1.2.3.4")), Ok(vec![4, 3, 2, 1]));
        let mapped = [&[0; 10][..], &[255, 255, 1, 2, 3, 4]].concat();
        assert_eq!(wire("IPv6", Scalar::Text("1.2.3.4")), Ok(mapped.clone()));
        assert_eq!(wire("IPv6", Scalar::Text("::ffff:1.2.3.4")), Ok(mapped));
        assert_eq!(wire("IPv4", Scalar::Text("1.2.3.256")), Err(Code::TypeMismatch));
        assert_eq!(wire("IPv6", Scalar::Text("::g")), Err(Code::TypeMismatch));
    }

    #[test]
    fn a_uuid_is_two_little_endian_halves() {
        let wire = wire("UUID", Scalar::Text("12345678-1234-5678-8765-432112345678")).unwrap();
        assert_eq!(wire[..8], [0x78, 0x56, 0x34, 0x12, 0x78, 0x56, 0x34, 0x12]);
        assert_eq!(wire[8..], [0x78, 0x56, 0x34, 0x12, 0x21, 0x43, 0x65, 0x87]);
        assert!(uuid("12345678-1234-5678-8765-43211234567").is_none());
        assert!(uuid("1234567-81234-5678-8765-432112345678").is_none());
    }

    #[test]
    fn times_take_texts_and_numbers() {
        let seconds = 1_730_000_000u32.to_le_bytes().to_vec();
        assert_eq!(wire("DateTime", number("1730000000999")), Ok(seconds.clone()));
        assert_eq!(wire("DateTime", Scalar::Text("1730000000")), Ok(seconds.clone()));
        assert_eq!(wire("DateTime", Scalar::Text("2024-10-27T03:33:20Z")), Ok(seconds));
        assert_eq!(wire("DateTime", number("-1")), Err(Code::OutOfRange));
        assert_eq!(
            wire("DateTime64(3)", Scalar::Text("1730000000.5")),
            Ok(1_730_000_000_500i64.to_le_bytes().to_vec())
        );
        assert_eq!(wire("DateTime64(9)", Scalar::Text("2299-01-01T00:00:00Z")), Err(Code::OutOfRange));
        assert_eq!(wire("DateTime64(3)", Scalar::Text("soon")), Err(Code::TypeMismatch));
        assert_eq!(wire("Date", Scalar::Text("1970-01-03")), Ok(vec![2, 0]));
        assert_eq!(wire("Date", Scalar::Text("1969-12-31")), Err(Code::OutOfRange));
        assert_eq!(wire("Date", number("172800")), Ok(vec![2, 0]));
        assert_eq!(wire("Date32", Scalar::Text("1969-12-31")), Ok(vec![255; 4]));
        assert_eq!(wire("Date32", Scalar::Text("1899-12-31")), Err(Code::OutOfRange));
        assert_eq!(wire("Time", Scalar::Text("-00:00:01")), Ok(vec![255; 4]));
        assert_eq!(wire("Time64(3)", number("1.5")), Ok(1500i64.to_le_bytes().to_vec()));
        assert_eq!(wire("Time", Scalar::Text("1000:00:00")), Err(Code::TypeMismatch));
        assert_eq!(wire("Time", number("3600000")), Err(Code::OutOfRange));
    }

    #[test]
    fn digits_that_are_cut_are_told() {
        let column_type = ColumnType::parse("DateTime64(3)", "UTC").unwrap();
        for (text, expected) in [("2024-10-27T03:33:20.123Z", false), ("2024-10-27T03:33:20.1234Z", true)] {
            let mut was_cut = false;
            let mut column = Column::new(&column_type, false);
            put(&mut column, &column_type.kind, Unit::Auto, Scalar::Text(text), &mut was_cut).unwrap();
            assert_eq!(was_cut, expected, "{text}");
        }
    }

    #[test]
    fn enums_take_names_and_numbers_that_exist() {
        let name = "Enum8('off' = 0, 'on' = 1, 'broken' = -1)";
        assert_eq!(wire(name, Scalar::Text("broken")), Ok(vec![255]));
        assert_eq!(wire(name, number("1")), Ok(vec![1]));
        assert_eq!(wire(name, number("-1")), Ok(vec![255]));
        assert_eq!(wire(name, number("7")), Err(Code::TypeMismatch));
        assert_eq!(wire(name, Scalar::Text("On")), Err(Code::TypeMismatch));
    }
}
