//! One JSON value into one column: what fits is appended, what does not is a [`Reason`], never bent.
//!
//! Where `JSONEachRow` is lenient without loss, so is this: numbers in strings for numeric columns, booleans for
//! numbers, numbers and objects as text for String columns.

use crate::columns::{Column, EnumNames, Kind};
use crate::config::Unit;
use crate::dead_letters::{Code, Reason};

use super::time::{self, Instant};

/// A JSON scalar. `Float` is any number that is not an integer of 64 bits as written.
#[derive(Debug, Clone, Copy)]
pub enum Scalar<'a> {
    Bool(bool),
    Unsigned(u64),
    Negative(i64),
    Float(f64),
    Text(&'a str),
}

pub fn put(column: &mut Column, kind: &Kind, unit: Unit, value: Scalar<'_>) -> Result<(), Reason> {
    match kind {
        Kind::Int { bytes, signed } => put_integer(column, *bytes, *signed, integer(value)?),
        Kind::Float64 => {
            column.push_fixed(float(value)?.to_le_bytes());
            Ok(())
        }
        Kind::Float32 => {
            let wide = float(value)?;
            let narrow = wide as f32;
            if narrow.is_infinite() && wide.is_finite() {
                return Err(out_of_range(value, "Float32"));
            }
            column.push_fixed(narrow.to_le_bytes());
            Ok(())
        }
        Kind::String => {
            match value {
                Scalar::Text(text) => column.push_string(text.as_bytes()),
                Scalar::Bool(flag) => column.push_string(if flag { b"true" } else { b"false" }),
                Scalar::Unsigned(n) => column.push_string(n.to_string().as_bytes()),
                Scalar::Negative(n) => column.push_string(n.to_string().as_bytes()),
                Scalar::Float(n) => column.push_string(n.to_string().as_bytes()),
            }
            Ok(())
        }
        Kind::Bool => {
            let flag = match value {
                Scalar::Bool(flag) => flag,
                Scalar::Unsigned(0) | Scalar::Text("false" | "0") => false,
                Scalar::Unsigned(1) | Scalar::Text("true" | "1") => true,
                Scalar::Text(_) => return Err(mismatch(value, "a Bool")),
                _ => return Err(out_of_range(value, "Bool")),
            };
            column.push_fixed([flag as u8]);
            Ok(())
        }
        Kind::Uuid => {
            let Scalar::Text(text) = value else { return Err(mismatch(value, "a UUID")) };
            let uuid = uuid(text).ok_or_else(|| mismatch(value, "a UUID"))?;
            // On the wire a UUID is two little-endian halves of 64 bits.
            column.push_fixed::<16>(std::array::from_fn(|i| if i < 8 { uuid[7 - i] } else { uuid[23 - i] }));
            Ok(())
        }
        Kind::Enum8(names) => {
            let number = enumeration(names, value)?;
            column.push_fixed((number as i8).to_le_bytes());
            Ok(())
        }
        Kind::Enum16(names) => {
            let number = enumeration(names, value)?;
            column.push_fixed(number.to_le_bytes());
            Ok(())
        }
        Kind::Date => {
            let days = match value {
                Scalar::Text(text) => match number_in(text) {
                    Some(number) => instant(number, unit).map(Instant::days),
                    None => time::day_from_text(text),
                },
                other => instant(other, unit).map(Instant::days),
            };
            let days = days.ok_or_else(|| mismatch(value, "a date"))?;
            let days = u16::try_from(days).map_err(|_| out_of_range(value, "Date"))?;
            column.push_fixed(days.to_le_bytes());
            Ok(())
        }
        Kind::DateTime { .. } | Kind::DateTime64 { .. } => {
            let at = point_in_time(kind, unit, value).ok_or_else(|| mismatch(value, "a time"))?;
            put_instant(column, kind, at).ok_or_else(|| out_of_range(value, "its time type"))
        }
    }
}

/// Appends a point in time to a column of a time type, or of a number type in `unit`s or milliseconds.
/// `None` if it does not fit.
pub fn put_instant(column: &mut Column, kind: &Kind, at: Instant) -> Option<()> {
    match kind {
        Kind::DateTime { .. } => column.push_fixed(u32::try_from(at.seconds).ok()?.to_le_bytes()),
        Kind::DateTime64 { scale, .. } => {
            // 1900-01-01 to 2299-12-31: <https://clickhouse.com/docs/sql-reference/data-types/datetime64>.
            if !(-2_208_988_800..10_413_792_000).contains(&at.seconds) {
                return None;
            }
            column.push_fixed(at.ticks(*scale)?.to_le_bytes());
        }
        Kind::Date => column.push_fixed(u16::try_from(at.days()).ok()?.to_le_bytes()),
        _ => return None,
    }
    Some(())
}

fn put_integer(column: &mut Column, bytes: usize, signed: bool, value: i128) -> Result<(), Reason> {
    macro_rules! fit {
        ($type:ty) => {
            match <$type>::try_from(value) {
                Ok(fits) => Ok(column.push_fixed(fits.to_le_bytes())),
                Err(_) => Err(Reason::new(
                    Code::OutOfRange,
                    format!("{value} is out of range for {}", type_name(bytes, signed)),
                )),
            }
        };
    }
    match (bytes, signed) {
        (1, false) => fit!(u8),
        (2, false) => fit!(u16),
        (4, false) => fit!(u32),
        (_, false) => fit!(u64),
        (1, true) => fit!(i8),
        (2, true) => fit!(i16),
        (4, true) => fit!(i32),
        (_, true) => fit!(i64),
    }
}

fn type_name(bytes: usize, signed: bool) -> String {
    format!("{}Int{}", if signed { "" } else { "U" }, bytes * 8)
}

fn integer(value: Scalar<'_>) -> Result<i128, Reason> {
    match value {
        Scalar::Unsigned(n) => Ok(n as i128),
        Scalar::Negative(n) => Ok(n as i128),
        Scalar::Bool(flag) => Ok(flag as i128),
        Scalar::Float(n) => {
            if n.fract() != 0.0 {
                return Err(mismatch(value, "an integer"));
            }
            // From 2^53 on a float no longer says which integer was written.
            if n.abs() >= 9_007_199_254_740_992.0 {
                return Err(out_of_range(value, "an integer that is not written in plain digits"));
            }
            Ok(n as i128)
        }
        Scalar::Text(text) => {
            match number_in(text)
                .or_else(|| text.parse::<f64>().ok().filter(|n| n.is_finite()).map(Scalar::Float))
            {
                Some(number) => integer(number),
                None => Err(mismatch(value, "an integer")),
            }
        }
    }
}

fn float(value: Scalar<'_>) -> Result<f64, Reason> {
    match value {
        Scalar::Float(n) => Ok(n),
        Scalar::Unsigned(n) => Ok(n as f64),
        Scalar::Negative(n) => Ok(n as f64),
        Scalar::Bool(flag) => Ok(flag as u8 as f64),
        // Rust reads "nan", "inf" and "infinity" in any case and with a sign, as ClickHouse does.
        Scalar::Text(text) => text.parse().map_err(|_| mismatch(value, "a number")),
    }
}

fn enumeration(names: &EnumNames, value: Scalar<'_>) -> Result<i16, Reason> {
    let number = match value {
        Scalar::Text(name) => {
            return names.number(name).ok_or_else(|| mismatch(value, "a name of the enum"));
        }
        Scalar::Unsigned(n) => i16::try_from(n).ok(),
        Scalar::Negative(n) => i16::try_from(n).ok(),
        _ => None,
    };
    number.filter(|n| names.has_number(*n)).ok_or_else(|| mismatch(value, "a name or number of the enum"))
}

fn point_in_time(kind: &Kind, unit: Unit, value: Scalar<'_>) -> Option<Instant> {
    let (Kind::DateTime { zone } | Kind::DateTime64 { zone, .. }) = kind else { return None };
    match value {
        Scalar::Text(text) => match number_in(text) {
            Some(number) => instant(number, unit),
            None => time::from_text(text, zone)
                .or_else(|| decimal_in(text).and_then(|number| time::from_float(number, unit))),
        },
        other => instant(other, unit),
    }
}

fn instant(value: Scalar<'_>, unit: Unit) -> Option<Instant> {
    match value {
        Scalar::Unsigned(n) => i64::try_from(n).ok().and_then(|n| time::from_integer(n, unit)),
        Scalar::Negative(n) => time::from_integer(n, unit),
        Scalar::Float(n) => time::from_float(n, unit),
        Scalar::Bool(_) | Scalar::Text(_) => None,
    }
}

/// A text that is nothing but an integer.
fn number_in(text: &str) -> Option<Scalar<'static>> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    match text.strip_prefix('-') {
        // Minus zero is zero.
        Some(_) => {
            text.parse::<i64>().ok().map(|n| if n == 0 { Scalar::Unsigned(0) } else { Scalar::Negative(n) })
        }
        None => digits.parse().ok().map(Scalar::Unsigned),
    }
}

/// A text that is a decimal number without an exponent, such as "1730000000.5".
fn decimal_in(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if plain { text.parse().ok() } else { None }
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
fn mismatch(value: Scalar<'_>, wanted: &str) -> Reason {
    Reason::new(Code::TypeMismatch, format!("{} is not {wanted}", show(value)))
}

#[cold]
fn out_of_range(value: Scalar<'_>, wanted: &str) -> Reason {
    Reason::new(Code::OutOfRange, format!("{} is out of range for {wanted}", show(value)))
}

/// A value as a reason shows it: long texts are cut.
fn show(value: Scalar<'_>) -> String {
    match value {
        Scalar::Bool(flag) => flag.to_string(),
        Scalar::Unsigned(n) => n.to_string(),
        Scalar::Negative(n) => n.to_string(),
        Scalar::Float(n) => n.to_string(),
        Scalar::Text(text) if text.chars().count() > 64 => {
            format!("{:?}…", text.chars().take(64).collect::<String>())
        }
        Scalar::Text(text) => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::ColumnType;

    fn wire(type_name: &str, value: Scalar<'_>) -> Result<Vec<u8>, Code> {
        let column_type = ColumnType::parse(type_name, "UTC").unwrap();
        let mut column = Column::new(&column_type, false);
        match put(&mut column, &column_type.kind, Unit::Auto, value) {
            Ok(()) => Ok(column.data().to_vec()),
            Err(reason) => {
                assert_eq!(column.rows(), 0, "a refused value leaves nothing behind");
                Err(reason.code)
            }
        }
    }

    #[test]
    fn integers_fit_or_are_refused() {
        assert_eq!(wire("UInt8", Scalar::Unsigned(255)), Ok(vec![255]));
        assert_eq!(wire("UInt8", Scalar::Unsigned(256)), Err(Code::OutOfRange));
        assert_eq!(wire("UInt8", Scalar::Negative(-1)), Err(Code::OutOfRange));
        assert_eq!(wire("Int64", Scalar::Negative(i64::MIN)), Ok(i64::MIN.to_le_bytes().to_vec()));
        assert_eq!(wire("Int64", Scalar::Unsigned(u64::MAX)), Err(Code::OutOfRange));
        assert_eq!(wire("UInt64", Scalar::Text("18446744073709551615")), Ok(vec![255; 8]));
        assert_eq!(wire("Int16", Scalar::Float(1e3)), Ok(1000i16.to_le_bytes().to_vec()));
        assert_eq!(wire("Int16", Scalar::Float(1.5)), Err(Code::TypeMismatch));
        assert_eq!(wire("Int64", Scalar::Float(1e18)), Err(Code::OutOfRange));
        assert_eq!(wire("Int8", Scalar::Text("fast")), Err(Code::TypeMismatch));
        assert_eq!(wire("UInt8", Scalar::Bool(true)), Ok(vec![1]));
    }

    #[test]
    fn floats_do_not_overflow_in_silence() {
        assert_eq!(wire("Float32", Scalar::Float(1e39)), Err(Code::OutOfRange));
        assert_eq!(wire("Float32", Scalar::Text("-inf")), Ok(f32::NEG_INFINITY.to_le_bytes().to_vec()));
        assert_eq!(wire("Float64", Scalar::Unsigned(3)), Ok(3f64.to_le_bytes().to_vec()));
        assert_eq!(wire("Float64", Scalar::Text("12,5")), Err(Code::TypeMismatch));
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
        assert_eq!(wire("DateTime", Scalar::Unsigned(1_730_000_000_999)), Ok(seconds.clone()));
        assert_eq!(wire("DateTime", Scalar::Text("1730000000")), Ok(seconds.clone()));
        assert_eq!(wire("DateTime", Scalar::Text("2024-10-27T03:33:20Z")), Ok(seconds));
        assert_eq!(wire("DateTime", Scalar::Negative(-1)), Err(Code::OutOfRange));
        assert_eq!(
            wire("DateTime64(3)", Scalar::Text("1730000000.5")),
            Ok(1_730_000_000_500i64.to_le_bytes().to_vec())
        );
        assert_eq!(wire("DateTime64(9)", Scalar::Text("2299-01-01T00:00:00Z")), Err(Code::OutOfRange));
        assert_eq!(wire("DateTime64(3)", Scalar::Text("soon")), Err(Code::TypeMismatch));
        assert_eq!(wire("Date", Scalar::Text("1970-01-03")), Ok(vec![2, 0]));
        assert_eq!(wire("Date", Scalar::Text("1969-12-31")), Err(Code::OutOfRange));
        assert_eq!(wire("Date", Scalar::Unsigned(172_800)), Ok(vec![2, 0]));
    }

    #[test]
    fn enums_take_names_and_numbers_that_exist() {
        let name = "Enum8('off' = 0, 'on' = 1, 'broken' = -1)";
        assert_eq!(wire(name, Scalar::Text("broken")), Ok(vec![255]));
        assert_eq!(wire(name, Scalar::Unsigned(1)), Ok(vec![1]));
        assert_eq!(wire(name, Scalar::Unsigned(7)), Err(Code::TypeMismatch));
        assert_eq!(wire(name, Scalar::Text("On")), Err(Code::TypeMismatch));
    }
}
