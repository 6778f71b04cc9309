//! Protocol Buffers, by a descriptor: the document has the fields by their names in the .proto file.
//!
//! - In proto3 a field without presence that is not there is its zero; only `optional` ones, those of a oneof, and messages can be
//!   missing.
//! - An enum has its name, or its number where it has none; a column of numbers takes the number.
//! - `google.protobuf.Timestamp` is a time, `Duration` a number of seconds, and a wrapper such as `DoubleValue` its value.

use std::borrow::Cow;

use crate::core::reason::{Code, Reason};
use crate::decode::format::descriptor::{Descriptors, FieldType, Kind};
use crate::decode::format::wire::{Field, Wire, fields, packed, zigzag};
use crate::decode::tape::{MAX_DEPTH, Tape, Value};
use crate::decode::time::Instant;
use crate::decode::value_reader::Result;

const NAME: &str = "Protocol Buffers";

/// Reads a payload: one message of a type.
pub fn read<'a>(payload: &'a [u8], descriptors: &Descriptors, message: usize) -> Result<Tape<'a>> {
    let mut tape = Tape::default();
    write_message(payload, descriptors, message, &mut tape, 0)?;
    Ok(tape)
}

fn write_message<'a>(
    bytes: &'a [u8],
    descriptors: &Descriptors,
    message: usize,
    tape: &mut Tape<'a>,
    depth: usize,
) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(invalid("it is nested more than 128 deep".into()));
    }
    let described = descriptors.at(message);
    let there = fields(bytes, NAME)?;
    if let Some(value) = well_known(&described.name, &there)? {
        return tape.push(value);
    }
    let at = tape.begin_object()?;
    for field in &described.fields {
        let mut values = there.iter().filter(|there| there.number == field.number).map(|there| there.value);
        if field.is_repeated {
            let all: Vec<Wire<'a>> = values.collect();
            tape.push(Value::Text(Cow::Owned(field.name.clone())))?;
            match field.kind {
                Kind::Message(entry) if descriptors.at(entry).is_entry => {
                    write_map(&all, descriptors, entry, tape, depth)?;
                }
                _ => write_list(&all, field, descriptors, tape, depth)?,
            }
            continue;
        }
        // The last of several counts.
        match values.next_back() {
            Some(value) => {
                tape.push(Value::Text(Cow::Owned(field.name.clone())))?;
                write_value(value, field, descriptors, tape, depth)?;
            }
            None if field.has_presence => {}
            None => {
                tape.push(Value::Text(Cow::Owned(field.name.clone())))?;
                tape.push(zero(field.kind, descriptors))?;
            }
        }
    }
    tape.end(at);
    Ok(())
}

fn write_list<'a>(
    values: &[Wire<'a>],
    field: &FieldType,
    descriptors: &Descriptors,
    tape: &mut Tape<'a>,
    depth: usize,
) -> Result<()> {
    let at = tape.begin_list()?;
    for value in values {
        let is_packable = !matches!(field.kind, Kind::String | Kind::Bytes | Kind::Message(_));
        match value {
            Wire::Bytes(content) if is_packable => {
                for value in packed(content, wire_type(field.kind), NAME)? {
                    write_value(value, field, descriptors, tape, depth)?;
                }
            }
            value => write_value(*value, field, descriptors, tape, depth)?,
        }
    }
    tape.end(at);
    Ok(())
}

fn write_map<'a>(
    entries: &[Wire<'a>],
    descriptors: &Descriptors,
    entry: usize,
    tape: &mut Tape<'a>,
    depth: usize,
) -> Result<()> {
    let at = tape.begin_object()?;
    let (key, value) = match &descriptors.at(entry).fields[..] {
        [key, value] => (key, value),
        _ => return Err(invalid("an entry of a map is none".into())),
    };
    for bytes in entries.iter().filter_map(|entry| entry.bytes()) {
        let there = fields(bytes, NAME)?;
        let find =
            |number: u32| there.iter().rev().find(|field| field.number == number).map(|field| field.value);
        let mut name = Tape::default();
        match find(1) {
            Some(wire) => write_value(wire, key, descriptors, &mut name, depth)?,
            None => name.push(zero(key.kind, descriptors))?,
        }
        tape.push(name.into_key().ok_or_else(|| invalid("a key of a map is none".into()))?)?;
        match (find(2), value.kind) {
            (Some(wire), _) => write_value(wire, value, descriptors, tape, depth)?,
            (None, Kind::Message(message)) => write_message(&[], descriptors, message, tape, depth + 1)?,
            (None, kind) => tape.push(zero(kind, descriptors))?,
        }
    }
    tape.end(at);
    Ok(())
}

fn write_value<'a>(
    value: Wire<'a>,
    field: &FieldType,
    descriptors: &Descriptors,
    tape: &mut Tape<'a>,
    depth: usize,
) -> Result<()> {
    let wrong = || invalid(format!("the field {} has the wire type of another", field.name));
    if let (Kind::Message(message), Wire::Bytes(bytes)) = (field.kind, value) {
        return write_message(bytes, descriptors, message, tape, depth + 1);
    }
    let value = match (field.kind, value) {
        (Kind::String, Wire::Bytes(bytes)) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::Text(Cow::Borrowed(text)),
            Err(_) => Value::Bytes(Cow::Borrowed(bytes)),
        },
        (Kind::Bytes, Wire::Bytes(bytes)) => Value::Bytes(Cow::Borrowed(bytes)),
        (Kind::Double, Wire::Fixed64(bits)) => Value::Float(f64::from_bits(bits)),
        (Kind::Float, Wire::Fixed32(bits)) => float(f32::from_bits(bits)),
        (Kind::Int64, Wire::Varint(number)) => Value::Integer(number as i64),
        (Kind::UInt64, Wire::Varint(number)) => Value::Unsigned(number),
        (Kind::Int32, Wire::Varint(number)) => Value::Integer((number as i32).into()),
        (Kind::UInt32, Wire::Varint(number)) => Value::Unsigned((number as u32).into()),
        (Kind::SInt32 | Kind::SInt64, Wire::Varint(number)) => Value::Integer(zigzag(number)),
        (Kind::SFixed32, Wire::Fixed32(number)) => Value::Integer((number as i32).into()),
        (Kind::Fixed32, Wire::Fixed32(number)) => Value::Unsigned(number.into()),
        (Kind::SFixed64, Wire::Fixed64(number)) => Value::Integer(number as i64),
        (Kind::Fixed64, Wire::Fixed64(number)) => Value::Unsigned(number),
        (Kind::Bool, Wire::Varint(number)) => Value::Bool(number != 0),
        (Kind::Enum(place), Wire::Varint(number)) => enumerated(descriptors, place, number as i32),
        _ => return Err(wrong()),
    };
    tape.push(value)
}

/// The nearest double whose digits are those of the float: 0.1 is 0.1.
fn float<'a>(float: f32) -> Value<'a> {
    Value::Float(float.to_string().parse().unwrap_or(f64::from(float)))
}

fn enumerated<'a>(descriptors: &Descriptors, place: usize, number: i32) -> Value<'a> {
    match descriptors.enum_name(place, number) {
        Some(name) => Value::Named { name: name.into(), number },
        None => Value::Integer(number.into()),
    }
}

fn zero<'a>(kind: Kind, descriptors: &Descriptors) -> Value<'a> {
    match kind {
        Kind::Double | Kind::Float => Value::Float(0.0),
        Kind::Bool => Value::Bool(false),
        Kind::String => Value::Text(Cow::Borrowed("")),
        Kind::Bytes => Value::Bytes(Cow::Borrowed(&[])),
        Kind::Enum(place) => enumerated(descriptors, place, 0),
        Kind::Message(_) => Value::Null,
        _ => Value::Integer(0),
    }
}

fn wire_type(kind: Kind) -> u8 {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::SFixed64 => 1,
        Kind::Float | Kind::Fixed32 | Kind::SFixed32 => 5,
        _ => 0,
    }
}

/// The values of messages of Google's own types.
fn well_known<'a>(name: &str, fields: &[Field<'a>]) -> Result<Option<Value<'a>>> {
    let Some(name) = name.strip_prefix("google.protobuf.") else { return Ok(None) };
    let find =
        |number: u32| fields.iter().rev().find(|field| field.number == number).map(|field| field.value);
    let number = |at: u32| find(at).and_then(Wire::number).unwrap_or(0);
    let (seconds, nanos) = (number(1) as i64, number(2) as i32);
    Ok(Some(match name {
        "Timestamp" => match u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000) {
            Some(nanos) => Value::Time(Instant { seconds, nanos }),
            None => return Err(invalid("a Timestamp is none".into())),
        },
        "Duration" => {
            let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
            let (whole, rest) = (total.unsigned_abs() / 1_000_000_000, total.unsigned_abs() % 1_000_000_000);
            let sign = if total < 0 { "-" } else { "" };
            Value::Number(Cow::Owned(format!("{sign}{whole}.{rest:09}")))
        }
        "DoubleValue" => Value::Float(f64::from_bits(number(1))),
        "FloatValue" => float(f32::from_bits(number(1) as u32)),
        "Int64Value" | "Int32Value" => Value::Integer(number(1) as i64),
        "UInt64Value" | "UInt32Value" => Value::Unsigned(number(1)),
        "BoolValue" => Value::Bool(number(1) != 0),
        "StringValue" => Value::Text(Cow::Borrowed(find(1).and_then(Wire::text).unwrap_or_default())),
        "BytesValue" => Value::Bytes(Cow::Borrowed(find(1).and_then(Wire::bytes).unwrap_or_default())),
        _ => return Ok(None),
    }))
}

#[cold]
fn invalid(what: String) -> Box<Reason> {
    Box::new(Reason::new(Code::PayloadInvalid, format!("no {NAME}: {what}")))
}
