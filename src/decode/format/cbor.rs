//! CBOR: RFC 8949.
//!
//! Known tags: 0 and 1 (times), 2 and 3 (integers of any size), 4 (decimal fractions), 37 (UUID), 52 and 54 (addresses), 64 (bytes),
//! 100 and 1004 (days), 258 (sets), 55799 (CBOR itself), and 21 to 23, 32 to 36 and 63, which only say how something is meant.
//! A value with any other tag is refused, and never taken for what it contains.

use std::borrow::Cow;

use crate::clickhouse::Zone;
use crate::config::Unit;
use crate::decode::format::bytes::Bytes;
use crate::decode::number::{Number, decimal_text};
use crate::decode::tape::{MAX_DEPTH, Tape, Value};
use crate::decode::time::{self, Instant};
use crate::decode::value_reader::Result;

/// Reads a payload: one value.
pub fn read(payload: &[u8]) -> Result<Tape<'_>> {
    let mut bytes = Bytes::new(payload, "CBOR");
    let mut tape = Tape::default();
    value(&mut bytes, &mut tape, 0)?;
    bytes.finish()?;
    Ok(tape)
}

/// Reads the next of several values that stand one behind the other (RFC 8742) onto a tape in place of what it holds.
pub fn read_next<'a>(bytes: &mut Bytes<'a>, tape: &mut Tape<'a>) -> Result<()> {
    tape.clear();
    value(bytes, tape, 0)
}

/// The argument of a value's first byte: a number, or an indefinite length.
enum Argument {
    Number(u64),
    Indefinite,
}

const BREAK: u8 = 0xff;

fn argument(bytes: &mut Bytes<'_>, info: u8) -> Result<Argument> {
    Ok(Argument::Number(match info {
        0..=23 => info.into(),
        24..=27 => bytes.number(1 << (info - 24))?,
        31 => return Ok(Argument::Indefinite),
        _ => return Err(bytes.invalid("a length is not one")),
    }))
}

fn value<'a>(bytes: &mut Bytes<'a>, tape: &mut Tape<'a>, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(bytes.invalid("it is nested more than 128 deep"));
    }
    let first = bytes.byte()?;
    let (major, info) = (first >> 5, first & 0x1f);
    if major == 7 {
        let value = simple(bytes, info)?;
        return tape.push(value);
    }
    let argument = argument(bytes, info)?;
    let value = match (major, argument) {
        (0, Argument::Number(number)) => Value::Unsigned(number),
        (1, Argument::Number(number)) => match i64::try_from(number) {
            Ok(number) => Value::Integer(-1 - number),
            Err(_) => Value::Number(Cow::Owned((-1 - i128::from(number)).to_string())),
        },
        (2 | 3, argument) => string(bytes, major, argument)?,
        (4, argument) => return list(bytes, argument, tape, depth),
        (5, argument) => return object(bytes, argument, tape, depth),
        (6, Argument::Number(tag)) => return tagged(bytes, tag, tape, depth),
        _ => return Err(bytes.invalid("a length is not one")),
    };
    tape.push(value)
}

fn simple<'a>(bytes: &mut Bytes<'a>, info: u8) -> Result<Value<'a>> {
    Ok(match info {
        20 => Value::Bool(false),
        21 => Value::Bool(true),
        // undefined is missing, as null is.
        22 | 23 => Value::Null,
        25 => Value::Float(half(bytes.number(2)? as u16)),
        26 => Value::Float(f32::from_be_bytes(bytes.array()?).into()),
        27 => Value::Float(f64::from_be_bytes(bytes.array()?)),
        31 => return Err(bytes.invalid("something ends that has not begun")),
        _ => return Err(bytes.invalid("a simple value is not known")),
    })
}

/// RFC 8949, appendix D.
fn half(bits: u16) -> f64 {
    let exponent = i32::from(bits >> 10 & 0x1f);
    let mantissa = f64::from(bits & 0x3ff);
    let magnitude = match exponent {
        0 => mantissa * 2f64.powi(-24),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (mantissa + 1024.0) * 2f64.powi(exponent - 25),
    };
    if bits & 0x8000 != 0 { -magnitude } else { magnitude }
}

fn string<'a>(bytes: &mut Bytes<'a>, major: u8, argument: Argument) -> Result<Value<'a>> {
    let data = match argument {
        Argument::Number(len) => {
            let len = bytes.count(len, 1)?;
            Cow::Borrowed(bytes.take(len)?)
        }
        Argument::Indefinite => {
            let mut whole = Vec::new();
            loop {
                let first = bytes.byte()?;
                if first == BREAK {
                    break;
                }
                match (first >> 5 == major, self::argument(bytes, first & 0x1f)?) {
                    (true, Argument::Number(len)) => {
                        let len = bytes.count(len, 1)?;
                        whole.extend_from_slice(bytes.take(len)?);
                    }
                    _ => return Err(bytes.invalid("a part of a string is none")),
                }
            }
            Cow::Owned(whole)
        }
    };
    if major == 2 {
        return Ok(Value::Bytes(data));
    }
    let invalid = || bytes.invalid("a text is not UTF-8");
    Ok(Value::Text(match data {
        Cow::Borrowed(data) => Cow::Borrowed(std::str::from_utf8(data).map_err(|_| invalid())?),
        Cow::Owned(data) => Cow::Owned(String::from_utf8(data).map_err(|_| invalid())?),
    }))
}

/// Whether another part follows: up to a count, or up to the end mark.
fn more(bytes: &mut Bytes<'_>, left: &mut Option<usize>) -> Result<bool> {
    match left {
        Some(0) => Ok(false),
        Some(left) => {
            *left -= 1;
            Ok(true)
        }
        None if bytes.peek() == Some(BREAK) => bytes.byte().map(|_| false),
        None => Ok(true),
    }
}

fn list<'a>(bytes: &mut Bytes<'a>, argument: Argument, tape: &mut Tape<'a>, depth: usize) -> Result<()> {
    let mut left = match argument {
        Argument::Number(count) => Some(bytes.count(count, 1)?),
        Argument::Indefinite => None,
    };
    let at = tape.begin_list()?;
    while more(bytes, &mut left)? {
        value(bytes, tape, depth + 1)?;
    }
    tape.end(at);
    Ok(())
}

fn object<'a>(bytes: &mut Bytes<'a>, argument: Argument, tape: &mut Tape<'a>, depth: usize) -> Result<()> {
    let mut left = match argument {
        Argument::Number(count) => Some(bytes.count(count, 2)?),
        Argument::Indefinite => None,
    };
    let at = tape.begin_object()?;
    while more(bytes, &mut left)? {
        let mut key = Tape::default();
        value(bytes, &mut key, depth + 1)?;
        tape.push(key.into_key().ok_or_else(|| bytes.invalid("a key is neither a text nor a number"))?)?;
        value(bytes, tape, depth + 1)?;
    }
    tape.end(at);
    Ok(())
}

fn tagged<'a>(bytes: &mut Bytes<'a>, tag: u64, tape: &mut Tape<'a>, depth: usize) -> Result<()> {
    if matches!(tag, 21..=23 | 32..=36 | 63 | 64 | 68 | 258 | 259 | 37 | 52 | 54 | 55799) {
        return value(bytes, tape, depth + 1);
    }
    let mut inner = Tape::default();
    value(bytes, &mut inner, depth + 1)?;
    let wrong = |what: &str| bytes.invalid(&format!("the tag {tag} is not on {what}"));
    if let (65..=67 | 69..=75 | 77..=82 | 84..=86, Value::Bytes(items)) = (tag, inner.value(0)) {
        let items = items.clone();
        return typed_array(&items, tag, tape).unwrap_or_else(|()| Err(wrong("numbers of its width")));
    }
    let known = match (tag, inner.value(0)) {
        (0, Value::Text(text)) => match time::from_text(text, &Zone::Utc) {
            Some((at, _)) => Value::Time(at),
            None => return Err(wrong("a time")),
        },
        (1, Value::Integer(seconds)) => Value::Time(Instant { seconds: *seconds, nanos: 0 }),
        (1, Value::Unsigned(seconds)) => match i64::try_from(*seconds) {
            Ok(seconds) => Value::Time(Instant { seconds, nanos: 0 }),
            Err(_) => return Err(wrong("a time")),
        },
        // The float that is nearest to a time: its digits beyond the microsecond say nothing.
        (1, Value::Float(seconds)) => match time::from_float(*seconds, Unit::Seconds, 6) {
            Some(at) => Value::Time(at),
            None => return Err(wrong("a time")),
        },
        (2 | 3, Value::Bytes(magnitude)) => match decimal_text(magnitude, tag == 3) {
            Some(text) => Value::Number(Cow::Owned(text)),
            None => return Err(bytes.invalid("an integer has more than 256 bits")),
        },
        (4, Value::List { .. }) => match decimal_fraction(&inner) {
            Some(text) => Value::Number(Cow::Owned(text)),
            None => return Err(wrong("a decimal fraction")),
        },
        (100, Value::Integer(days)) => day(*days),
        (100, Value::Unsigned(days)) => day(i64::try_from(*days).unwrap_or(i64::MAX / 86400)),
        (1004, Value::Text(_)) => inner.value(0).clone(),
        (0..=4 | 100 | 1004, _) => return Err(wrong("what it is for")),
        (57343 | 57344, _) => {
            return Err(bytes.invalid("it has records of cbor-x: give its Encoder { useRecords: false }"));
        }
        _ => return Err(bytes.invalid(&format!("the tag {tag} is not known"))),
    };
    tape.push(known)
}

/// Numbers side by side. The low bits of the tag say which: float, signed, little-endian, and two of the width: RFC 8746, 2.1.
fn typed_array(items: &[u8], tag: u64, tape: &mut Tape<'_>) -> std::result::Result<Result<()>, ()> {
    let (is_float, is_signed, is_little) = (tag & 16 != 0, tag & 8 != 0, tag & 4 != 0);
    let width = 1 << ((tag & 3) + u64::from(is_float));
    if !items.len().is_multiple_of(width) {
        return Err(());
    }
    let mut push = || -> Result<()> {
        let at = tape.begin_list()?;
        for item in items.chunks(width) {
            let digits = |bits: u64, byte: &u8| bits << 8 | u64::from(*byte);
            let bits = match is_little {
                true => item.iter().rev().fold(0, digits),
                false => item.iter().fold(0, digits),
            };
            let unused = 64 - 8 * width as u32;
            tape.push(match (is_float, width) {
                (true, 2) => Value::Float(half(bits as u16)),
                (true, 4) => Value::Float(f32::from_bits(bits as u32).into()),
                (true, _) => Value::Float(f64::from_bits(bits)),
                (false, _) if is_signed => Value::Integer((bits << unused) as i64 >> unused),
                (false, _) => Value::Unsigned(bits),
            })?;
        }
        tape.end(at);
        Ok(())
    };
    Ok(push())
}

fn day<'a>(days: i64) -> Value<'a> {
    Value::Time(Instant { seconds: days.saturating_mul(86400), nanos: 0 })
}

/// `[exponent, mantissa]`: RFC 8949, 3.4.4.
fn decimal_fraction(tape: &Tape<'_>) -> Option<String> {
    let mut items = tape.items(0);
    let (exponent, mantissa) = (items.next()?, items.next()?);
    let written = |at: usize| match tape.value(at) {
        Value::Integer(integer) => Some(integer.to_string()),
        Value::Unsigned(integer) => Some(integer.to_string()),
        Value::Number(text) => Some(text.to_string()),
        _ => None,
    };
    let text = format!("{}e{}", written(mantissa)?, written(exponent)?);
    Number::scan(text.as_bytes(), 0).0?;
    items.next().is_none().then_some(text)
}
