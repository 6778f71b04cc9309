//! MessagePack: <https://github.com/msgpack/msgpack/blob/master/spec.md>.
//!
//! Times are the extension -1 of the specification, and 13 as msgpack-lite writes it. The records of msgpackr (extension 114)
//! change the meaning of what follows, and are refused: other decoders misread them without an error.

use std::borrow::Cow;

use crate::decode::format::bytes::Bytes;
use crate::decode::tape::{MAX_DEPTH, Tape, Value};
use crate::decode::time::Instant;
use crate::decode::value_reader::Result;

/// Reads a payload: one value.
pub fn read(payload: &[u8]) -> Result<Tape<'_>> {
    let mut bytes = Bytes::new(payload, "MessagePack");
    let mut tape = Tape::default();
    value(&mut bytes, &mut tape, 0)?;
    bytes.finish()?;
    Ok(tape)
}

fn value<'a>(bytes: &mut Bytes<'a>, tape: &mut Tape<'a>, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(bytes.invalid("it is nested more than 128 deep"));
    }
    let first = bytes.byte()?;
    let value = match first {
        0x00..=0x7f => Value::Integer(first.into()),
        0xe0..=0xff => Value::Integer((first as i8).into()),
        0x80..=0x8f => return object(bytes, (first & 0x0f).into(), tape, depth),
        0x90..=0x9f => return list(bytes, (first & 0x0f).into(), tape, depth),
        0xa0..=0xbf => text(bytes, (first & 0x1f).into())?,
        0xc0 => Value::Null,
        0xc2 => Value::Bool(false),
        0xc3 => Value::Bool(true),
        0xc4..=0xc6 => {
            let len = bytes.number(1 << (first - 0xc4))?;
            Value::Bytes(Cow::Borrowed(bytes.take(len as usize)?))
        }
        0xc7..=0xc9 => {
            let len = bytes.number(1 << (first - 0xc7))?;
            extension(bytes, len as usize)?
        }
        0xca => Value::Float(f32::from_be_bytes(bytes.array()?).into()),
        0xcb => Value::Float(f64::from_be_bytes(bytes.array()?)),
        0xcc..=0xcf => Value::Unsigned(bytes.number(1 << (first - 0xcc))?),
        0xd0 => Value::Integer((bytes.number(1)? as i8).into()),
        0xd1 => Value::Integer((bytes.number(2)? as i16).into()),
        0xd2 => Value::Integer((bytes.number(4)? as i32).into()),
        0xd3 => Value::Integer(bytes.number(8)? as i64),
        0xd4..=0xd8 => extension(bytes, 1 << (first - 0xd4))?,
        0xd9..=0xdb => {
            let len = bytes.number(1 << (first - 0xd9))?;
            text(bytes, len as usize)?
        }
        0xdc | 0xdd => {
            let count = bytes.number(if first == 0xdc { 2 } else { 4 })?;
            return list(bytes, count, tape, depth);
        }
        0xde | 0xdf => {
            let count = bytes.number(if first == 0xde { 2 } else { 4 })?;
            return object(bytes, count, tape, depth);
        }
        0xc1 => return Err(bytes.invalid("a value has a type that is never used")),
    };
    tape.push(value)
}

/// A text; one that is not UTF-8 is bytes, as encoders before 2013 wrote them.
fn text<'a>(bytes: &mut Bytes<'a>, len: usize) -> Result<Value<'a>> {
    let text = bytes.take(len)?;
    Ok(match std::str::from_utf8(text) {
        Ok(text) => Value::Text(Cow::Borrowed(text)),
        Err(_) => Value::Bytes(Cow::Borrowed(text)),
    })
}

fn list<'a>(bytes: &mut Bytes<'a>, count: u64, tape: &mut Tape<'a>, depth: usize) -> Result<()> {
    let count = bytes.count(count, 1)?;
    let at = tape.begin_list()?;
    for _ in 0..count {
        value(bytes, tape, depth + 1)?;
    }
    tape.end(at);
    Ok(())
}

fn object<'a>(bytes: &mut Bytes<'a>, count: u64, tape: &mut Tape<'a>, depth: usize) -> Result<()> {
    let count = bytes.count(count, 2)?;
    let at = tape.begin_object()?;
    for _ in 0..count {
        let mut key = Tape::default();
        value(bytes, &mut key, depth + 1)?;
        tape.push(key.into_key().ok_or_else(|| bytes.invalid("a key is neither a text nor a number"))?)?;
        value(bytes, tape, depth + 1)?;
    }
    tape.end(at);
    Ok(())
}

fn extension<'a>(bytes: &mut Bytes<'a>, len: usize) -> Result<Value<'a>> {
    let kind = bytes.byte()? as i8;
    let mut data = Bytes::new(bytes.take(len)?, "MessagePack");
    let at = |seconds: i64, nanos: u64| {
        u32::try_from(nanos)
            .ok()
            .filter(|nanos| *nanos < 1_000_000_000)
            .map(|nanos| Instant { seconds, nanos })
    };
    let time = match (kind, len) {
        (-1, 4) => at(data.number(4)? as i64, 0),
        (-1, 8) => {
            let both = data.number(8)?;
            at((both & 0x3_ffff_ffff) as i64, both >> 34)
        }
        (-1, 12) => {
            let nanos = data.number(4)?;
            at(data.number(8)? as i64, nanos)
        }
        // msgpack-lite: milliseconds, as the number that is written shortest.
        (13, 1 | 2 | 3 | 5 | 9) => {
            let mut tape = Tape::default();
            value(&mut data, &mut tape, MAX_DEPTH)?;
            let millis = match tape.value(0) {
                Value::Float(millis) => *millis,
                Value::Integer(millis) => *millis as f64,
                Value::Unsigned(millis) => *millis as f64,
                _ => f64::NAN,
            };
            (data.left() == 0 && millis.is_finite()).then(|| Instant::from_millis(millis))
        }
        // The same by others, always a float.
        (13, 8) => {
            let millis = f64::from_be_bytes(data.array()?);
            millis.is_finite().then(|| Instant::from_millis(millis))
        }
        // msgpackr: undefined.
        (0, 1) => return Ok(Value::Null),
        (114, _) => {
            return Err(bytes.invalid("it has records of msgpackr: give its Packr { useRecords: false }"));
        }
        _ => return Err(bytes.invalid(&format!("the extension {kind} is not known"))),
    };
    time.map(Value::Time).ok_or_else(|| bytes.invalid("a time is none"))
}
