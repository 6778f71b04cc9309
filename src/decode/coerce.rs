//! One scalar into one column: what fits is appended, what does not is a [`Reason`], never bent.
//!
//! Where `JSONEachRow` is lenient without loss, so is this: numbers in strings for numeric columns, booleans for
//! numbers, numbers as text for String columns. Times are in `coerce_time`.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::clickhouse::{Column, EnumNames, Kind};
use crate::core::reason::{Code, Reason};
use crate::decode::coerce_time::{self, put_date, put_time, put_time_of_day};
use crate::decode::number::{Number, NumberError};
use crate::decode::time::Instant;
use crate::decode::value::{DecodeContext, Strictness};
use crate::decode::value_reader::Result;

#[derive(Debug, Clone, Copy)]
pub enum Scalar<'a> {
    Bool(bool),
    Number(Number<'a>),
    /// Only binary formats have it.
    Float(f64),
    Text(&'a str),
    /// Only binary formats have it.
    Bytes(&'a [u8]),
    /// Only binary formats have it.
    Time(Instant),
}

/// Appends a value.
#[inline]
pub fn put(column: &mut Column, kind: &Kind, value: Scalar<'_>, context: &mut DecodeContext) -> Result<()> {
    if context.strictness != Strictness::Plain && !keeps_all(kind, value, context.strictness) {
        return Err(mismatch(value, "a value of this type in full"));
    }
    match (kind, value) {
        (Kind::Int { bytes, signed }, Scalar::Number(_) | Scalar::Text(_) | Scalar::Bool(_)) => {
            put_integer(column, *bytes, *signed, value)
        }
        (Kind::Float64, _) => {
            let float = float(value, |number| number.to_f64(), f64::from, |float| float)?;
            column.push_fixed(float.to_le_bytes());
            Ok(())
        }
        (Kind::Float32, _) => {
            column.push_fixed(float_32(value)?.to_le_bytes());
            Ok(())
        }
        (Kind::String, Scalar::Text(text)) => {
            column.push_string(text.as_bytes());
            Ok(())
        }
        (Kind::DateTime { .. } | Kind::DateTime64 { .. }, _) => put_time(column, kind, value, context),
        _ => put_other(column, kind, value, context),
    }
}

/// The less common types.
#[inline(never)]
fn put_other(column: &mut Column, kind: &Kind, value: Scalar<'_>, context: &mut DecodeContext) -> Result<()> {
    match (kind, value) {
        (Kind::Date | Kind::Date32, _) => put_date(column, kind, value, context),
        (Kind::Time { scale }, _) => put_time_of_day(column, *scale, value, context),
        (Kind::BFloat16, _) => {
            column.push_fixed(bfloat16(float_32(value)?).to_le_bytes());
            Ok(())
        }
        // A float of a binary format is the number that its shortest digits say.
        (_, Scalar::Float(float)) => {
            let digits = float_text(float);
            match Number::from_text(&digits) {
                Some(number) => put(column, kind, Scalar::Number(number), context),
                None => put(column, kind, Scalar::Text(&digits), context),
            }
        }
        (Kind::String, Scalar::Time(at)) => {
            column.push_string(at.to_rfc3339().as_bytes());
            Ok(())
        }
        (Kind::String, _) => {
            column.push_string(written(&value));
            Ok(())
        }
        (Kind::Bool, _) => put_flag(column, value),
        (Kind::Decimal { bytes, precision, scale }, _) => {
            put_decimal(column, *bytes, *precision, *scale, value)
        }
        (
            Kind::FixedString(width),
            Scalar::Text(_) | Scalar::Bytes(_) | Scalar::Number(_) | Scalar::Bool(_),
        ) => {
            let text = written(&value);
            if text.len() > *width {
                return Err(out_of_range(value, &format!("FixedString({width})")));
            }
            let mut padded = text.to_vec();
            padded.resize(*width, 0);
            column.push_wide(&padded);
            Ok(())
        }
        (Kind::Uuid, _) => put_uuid(column, value),
        (Kind::Ipv4, _) => put_ipv4(column, value),
        (Kind::Ipv6, _) => put_ipv6(column, value),
        (Kind::Enum8(names), _) => {
            column.push_fixed((enumeration(names, value)? as i8).to_le_bytes());
            Ok(())
        }
        (Kind::Enum16(names), _) => {
            column.push_fixed(enumeration(names, value)?.to_le_bytes());
            Ok(())
        }
        (Kind::Int { .. }, _) => Err(mismatch(value, "an integer")),
        (Kind::FixedString(_), _) => Err(mismatch(value, "a text")),
        _ => Err(mismatch(value, "a list or an object")),
    }
}

/// Whether a column of the type would keep all of a value: asked where a Variant could keep it otherwise.
fn keeps_all(kind: &Kind, value: Scalar<'_>, strictness: Strictness) -> bool {
    let is_exact = strictness == Strictness::Exact;
    match (kind, value) {
        (Kind::FixedString(width), _) => !is_exact || written(&value).len() == *width,
        (Kind::Uuid, Scalar::Text(text)) => !is_exact || text.len() == 36,
        (Kind::Ipv4, Scalar::Text(text)) => !is_exact || text.parse::<Ipv4Addr>().is_ok(),
        (Kind::Ipv6, Scalar::Text(text)) => !is_exact || text.contains(':'),
        (Kind::Float64, Scalar::Number(number)) => {
            !is_exact || has_digits(&number, &float_text(number.to_f64()))
        }
        (Kind::Float32, Scalar::Number(number)) => {
            !is_exact || has_digits(&number, &number.to_f32().to_string())
        }
        (Kind::BFloat16, Scalar::Number(number)) => {
            let kept = f32::from_bits(u32::from(bfloat16(number.to_f32())) << 16);
            !is_exact || has_digits(&number, &kept.to_string())
        }
        (Kind::Float32 | Kind::BFloat16, Scalar::Float(float)) => {
            !is_exact || f64::from(float as f32) == float
        }
        (
            Kind::Date | Kind::Date32 | Kind::DateTime { .. } | Kind::DateTime64 { .. } | Kind::Time { .. },
            _,
        ) => coerce_time::keeps_all(kind, value, is_exact),
        _ => true,
    }
}

fn has_digits(number: &Number<'_>, text: &str) -> bool {
    Number::from_text(text).is_some_and(|other| other.digits() == number.digits())
}

/// The texts for booleans, in any case; numbers in digits are read as such.
fn flag(text: &str) -> Option<bool> {
    let is_one_of = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_one_of(&["true", "on", "yes", "enabled", "1"]) {
        return Some(true);
    }
    is_one_of(&["false", "off", "no", "disabled", "0"]).then_some(false)
}

fn put_flag(column: &mut Column, value: Scalar<'_>) -> Result<()> {
    let flag = match value {
        Scalar::Bool(flag) => flag,
        Scalar::Text(text) => flag(text).ok_or_else(|| mismatch(value, "a Bool"))?,
        Scalar::Number(number) => match number.integer_64() {
            Some(0) => false,
            Some(1) => true,
            _ => return Err(out_of_range(value, "Bool")),
        },
        Scalar::Float(_) | Scalar::Bytes(_) | Scalar::Time(_) => return Err(mismatch(value, "a Bool")),
    };
    column.push_fixed([flag as u8]);
    Ok(())
}

fn put_decimal(
    column: &mut Column,
    bytes: usize,
    precision: u32,
    scale: u32,
    value: Scalar<'_>,
) -> Result<()> {
    let number = match value {
        Scalar::Number(number) => Some(number),
        Scalar::Text(text) => Number::from_text(text),
        Scalar::Bool(_) | Scalar::Float(_) | Scalar::Bytes(_) | Scalar::Time(_) => None,
    };
    let number = number.ok_or_else(|| mismatch(value, "a number"))?;
    let wanted = || format!("Decimal({precision}, {scale})");
    let scaled = number.scaled(scale).map_err(|error| match error {
        NumberError::Fraction => Box::new(Reason::new(
            Code::OutOfRange,
            format!("{} has more decimals than {} keeps", show(value), wanted()),
        )),
        NumberError::TooLarge => out_of_range(value, &wanted()),
    })?;
    let encoded = scaled.to_bytes(bytes, true, number.is_negative());
    let encoded = encoded.filter(|_| scaled.has_digits(precision));
    column.push_wide(&encoded.ok_or_else(|| out_of_range(value, &wanted()))?[..bytes]);
    Ok(())
}

fn put_integer(column: &mut Column, bytes: usize, is_signed: bool, value: Scalar<'_>) -> Result<()> {
    let number = match value {
        Scalar::Number(number) => number,
        Scalar::Bool(flag) => {
            let mut encoded = [0; 32];
            encoded[0] = flag as u8;
            column.push_wide(&encoded[..bytes]);
            return Ok(());
        }
        Scalar::Text(text) => Number::from_text(text).ok_or_else(|| mismatch(value, "an integer"))?,
        Scalar::Float(_) | Scalar::Bytes(_) | Scalar::Time(_) => return Err(mismatch(value, "an integer")),
    };
    let pushed = number.small_integer().and_then(|integer| push_integer(column, bytes, is_signed, integer));
    if pushed.is_some() {
        return Ok(());
    }
    let encoded = match number.scaled(0) {
        Ok(integer) => integer.to_bytes(bytes, is_signed, number.is_negative()),
        Err(NumberError::TooLarge) => None,
        Err(NumberError::Fraction) => return Err(mismatch(value, "an integer")),
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
    narrow: impl Fn(f64) -> F,
) -> Result<F> {
    let float = match value {
        Scalar::Number(number) => read(number),
        Scalar::Bool(flag) => return Ok(from(flag as u8)),
        Scalar::Text(text) => match Number::from_text(text) {
            Some(number) => read(number),
            // Rust reads "nan", "inf" and "infinity" in any case and with a sign, as ClickHouse does.
            None => return text.parse().map_err(|_| mismatch(value, "a number")),
        },
        Scalar::Float(float) if !float.is_finite() => return Ok(narrow(float)),
        Scalar::Float(float) => narrow(float),
        Scalar::Bytes(_) | Scalar::Time(_) => return Err(mismatch(value, "a number")),
    };
    if float.into().is_infinite() {
        return Err(out_of_range(value, &format!("Float{}", size_of::<F>() * 8)));
    }
    Ok(float)
}

fn float_32(value: Scalar<'_>) -> Result<f32> {
    float(value, |number| number.to_f32(), f32::from, |float| float as f32)
}

/// The bits of a float of `bits` bits.
pub fn float_bits(value: Scalar<'_>, bits: usize) -> Result<u64> {
    Ok(match bits {
        16 => bfloat16(float_32(value)?).into(),
        32 => float_32(value)?.to_bits().into(),
        _ => float(value, |number| number.to_f64(), f64::from, |float| float)?.to_bits(),
    })
}

/// The upper half of a float of 32 bits.
fn bfloat16(float: f32) -> u16 {
    (float.to_bits() >> 16) as u16
}

/// A float in the fewest digits that identify it; without a point where it is an integer, and without
/// an exponent where that is short.
pub fn float_text(float: f64) -> String {
    match float.abs() {
        0.0 => "0".into(),
        1e-7..1e21 => float.to_string(),
        magnitude if magnitude.is_finite() => format!("{float:e}"),
        _ => float.to_string(),
    }
}

/// Whether a float of a binary format is an integer: JavaScript writes those from 2^32 on so.
pub fn is_integral(float: f64) -> bool {
    float.is_finite() && float.fract() == 0.0
}

fn enumeration(names: &EnumNames, value: Scalar<'_>) -> Result<i16> {
    let number = match value {
        Scalar::Text(name) => {
            return names.number(name).ok_or_else(|| mismatch(value, "a name of the enum"));
        }
        Scalar::Number(number) => number.integer_64().and_then(|integer| i16::try_from(integer).ok()),
        Scalar::Bool(_) | Scalar::Float(_) | Scalar::Bytes(_) | Scalar::Time(_) => None,
    };
    number.filter(|n| names.has_number(*n)).ok_or_else(|| mismatch(value, "a name or number of the enum"))
}

/// The bytes of a value as a text.
fn written<'a>(value: &Scalar<'a>) -> &'a [u8] {
    match value {
        Scalar::Text(text) => text.as_bytes(),
        Scalar::Number(number) => number.text().as_bytes(),
        Scalar::Bool(true) => b"true",
        Scalar::Bool(false) => b"false",
        Scalar::Bytes(bytes) => bytes,
        // These are made texts before they come here.
        Scalar::Float(_) | Scalar::Time(_) => b"",
    }
}

fn put_uuid(column: &mut Column, value: Scalar<'_>) -> Result<()> {
    let uuid = match value {
        Scalar::Text(text) => uuid(text),
        Scalar::Bytes(bytes) => bytes.try_into().ok(),
        _ => None,
    };
    let uuid = uuid.ok_or_else(|| mismatch(value, "a UUID"))?;
    // On the wire a UUID is two little-endian halves of 64 bits.
    column.push_fixed::<16>(std::array::from_fn(|i| if i < 8 { uuid[7 - i] } else { uuid[23 - i] }));
    Ok(())
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

fn put_ipv4(column: &mut Column, value: Scalar<'_>) -> Result<()> {
    let address = match value {
        Scalar::Text(text) => ipv4(text),
        Scalar::Bytes(bytes) => <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from),
        _ => None,
    };
    let address = address.ok_or_else(|| mismatch(value, "an IPv4 address"))?;
    column.push_fixed(u32::from(address).to_le_bytes());
    Ok(())
}

/// Four numbers of at most three decimal digits; zeros may precede them, as devices with a fixed width write it.
fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut parts = text.split('.').map(|part| {
        let is_number = (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<u8>().ok().filter(|_| is_number)
    });
    let address = [parts.next()??, parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then(|| address.into())
}

fn put_ipv6(column: &mut Column, value: Scalar<'_>) -> Result<()> {
    let address = match value {
        Scalar::Text(text) => {
            text.parse().ok().or_else(|| text.parse().map(|v4: Ipv4Addr| v4.to_ipv6_mapped()).ok())
        }
        Scalar::Bytes(bytes) => <[u8; 16]>::try_from(bytes).ok().map(Ipv6Addr::from),
        _ => None,
    };
    column.push_fixed(address.ok_or_else(|| mismatch(value, "an IPv6 address"))?.octets());
    Ok(())
}

#[cold]
pub fn mismatch(value: Scalar<'_>, wanted: &str) -> Box<Reason> {
    Box::new(Reason::new(Code::TypeMismatch, format!("{} is not {wanted}", show(value))))
}

#[cold]
pub fn out_of_range(value: Scalar<'_>, wanted: &str) -> Box<Reason> {
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
        Scalar::Float(float) => float_text(float),
        Scalar::Bytes(bytes) => format!("{} bytes", bytes.len()),
        Scalar::Time(at) => at.to_rfc3339(),
    }
}

#[cfg(test)]
#[path = "coerce_tests.rs"]
mod tests;
