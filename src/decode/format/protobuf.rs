//! Protocol Buffers, by a descriptor: the document has the fields by their names in the .proto file.
//!
//! - In proto3 a field without presence that is not there is its zero; only `optional` ones, those of a oneof, and messages can be
//!   missing.
//! - An enum has its name, or its number where it has none; a column of numbers takes the number.
//! - `google.protobuf.Timestamp` is a time, `Duration` a number of seconds, and a wrapper such as `DoubleValue` its value.

use std::borrow::Cow;

use crate::core::reason::Reason;
use crate::decode::format::bytes::invalid_at;
use crate::decode::format::descriptor::{Descriptors, FieldType, Kind};
use crate::decode::format::wire::{Field, Wire, fields, packed, zigzag};
use crate::decode::tape::{MAX_DEPTH, Tape, Value};
use crate::decode::time::Instant;
use crate::decode::value_reader::Result;

const NAME: &str = "Protocol Buffers";

/// Reads a payload: one message of a type. With `keeps_unknown` a field that the type has not is there by its number, for a route
/// that refuses it.
pub fn read<'a>(
    payload: &'a [u8],
    descriptors: &Descriptors,
    message: usize,
    keeps_unknown: bool,
) -> Result<Tape<'a>> {
    let mut tape = Tape::default();
    let types = Types { descriptors, keeps_unknown };
    write_message(fields(payload, 0, NAME)?, 0, &types, message, &mut tape, 0)?;
    Ok(tape)
}

/// The types of a payload's messages.
struct Types<'d> {
    descriptors: &'d Descriptors,
    keeps_unknown: bool,
}

/// A message with the fields `there`, which begins at `begin` of the payload.
fn write_message<'a>(
    there: Vec<Field<'a>>,
    begin: usize,
    types: &Types<'_>,
    message: usize,
    tape: &mut Tape<'a>,
    depth: usize,
) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(invalid("it is nested more than 128 deep", begin));
    }
    let descriptors = types.descriptors;
    let described = descriptors.at(message);
    if let Some(value) = well_known(&described.name, &there, begin)? {
        return tape.push(value);
    }
    let at = tape.begin_object()?;
    for field in &described.fields {
        let mut values = there.iter().filter(|there| there.number == field.number).copied();
        if field.is_repeated {
            let all: Vec<Field<'a>> = values.collect();
            tape.push(Value::Text(Cow::Owned(field.name.clone())))?;
            match field.kind {
                Kind::Message(entry) if descriptors.at(entry).is_entry => {
                    write_map(&all, types, entry, tape, depth)?;
                }
                _ => write_list(&all, field, types, tape, depth)?,
            }
            continue;
        }
        // The last of several counts.
        match values.next_back() {
            Some(value) => {
                tape.push(Value::Text(Cow::Owned(field.name.clone())))?;
                write_value(value, field, types, tape, depth)?;
            }
            None if field.has_presence => {}
            None => {
                tape.push(Value::Text(Cow::Owned(field.name.clone())))?;
                tape.push(zero(field.kind, descriptors))?;
            }
        }
    }
    if types.keeps_unknown {
        let is_known = |there: &Field<'_>| described.fields.iter().any(|field| field.number == there.number);
        for unknown in there.iter().filter(|there| !is_known(there)) {
            tape.push(Value::Text(Cow::Owned(unknown.number.to_string())))?;
            tape.push(Value::Null)?;
        }
    }
    tape.end(at);
    Ok(())
}

fn write_list<'a>(
    values: &[Field<'a>],
    field: &FieldType,
    types: &Types<'_>,
    tape: &mut Tape<'a>,
    depth: usize,
) -> Result<()> {
    let at = tape.begin_list()?;
    for value in values {
        let is_packable = !matches!(field.kind, Kind::String | Kind::Bytes | Kind::Message(_));
        match value.value {
            Wire::Bytes(_) if is_packable => {
                for value in packed(*value, wire_type(field.kind), NAME)? {
                    write_value(value, field, types, tape, depth)?;
                }
            }
            _ => write_value(*value, field, types, tape, depth)?,
        }
    }
    tape.end(at);
    Ok(())
}

fn write_map<'a>(
    entries: &[Field<'a>],
    types: &Types<'_>,
    entry: usize,
    tape: &mut Tape<'a>,
    depth: usize,
) -> Result<()> {
    let at = tape.begin_object()?;
    let begin = entries.first().map_or(0, |entry| entry.at);
    let (key, value) = match &types.descriptors.at(entry).fields[..] {
        [key, value] => (key, value),
        _ => return Err(invalid("an entry of a map is none", begin)),
    };
    for entry in entries.iter().filter(|entry| entry.value.bytes().is_some()) {
        let there = entry.fields(NAME)?;
        let find = |number: u32| there.iter().rev().find(|field| field.number == number).copied();
        let mut name = Tape::default();
        match find(1) {
            Some(wire) => write_value(wire, key, types, &mut name, depth)?,
            None => name.push(zero(key.kind, types.descriptors))?,
        }
        tape.push(name.into_key().ok_or_else(|| invalid("a key of a map is none", entry.at))?)?;
        match (find(2), value.kind) {
            (Some(wire), _) => write_value(wire, value, types, tape, depth)?,
            (None, Kind::Message(message)) => {
                write_message(Vec::new(), entry.at, types, message, tape, depth + 1)?;
            }
            (None, kind) => tape.push(zero(kind, types.descriptors))?,
        }
    }
    tape.end(at);
    Ok(())
}

fn write_value<'a>(
    value: Field<'a>,
    field: &FieldType,
    types: &Types<'_>,
    tape: &mut Tape<'a>,
    depth: usize,
) -> Result<()> {
    let wrong = || invalid(&format!("the field {} has the wire type of another", field.name), value.at);
    if let (Kind::Message(message), Wire::Bytes(_)) = (field.kind, value.value) {
        return write_message(value.fields(NAME)?, value.at, types, message, tape, depth + 1);
    }
    let value = match (field.kind, value.value) {
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
        (Kind::Enum(place), Wire::Varint(number)) => enumerated(types.descriptors, place, number as i32),
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
fn well_known<'a>(name: &str, fields: &[Field<'a>], begin: usize) -> Result<Option<Value<'a>>> {
    let Some(name) = name.strip_prefix("google.protobuf.") else { return Ok(None) };
    let find =
        |number: u32| fields.iter().rev().find(|field| field.number == number).map(|field| field.value);
    let number = |at: u32| find(at).and_then(Wire::number).unwrap_or(0);
    let (seconds, nanos) = (number(1) as i64, number(2) as i32);
    Ok(Some(match name {
        "Timestamp" => match u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000) {
            Some(nanos) => Value::Time(Instant { seconds, nanos }),
            None => return Err(invalid("a Timestamp is none", begin)),
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
fn invalid(what: &str, at: usize) -> Box<Reason> {
    invalid_at(NAME, what, at)
}
