//! One value of a tape into its column.

use crate::clickhouse::{Column, Kind};
use crate::config::Nan;
use crate::decode::documents::{ColumnPlan, DocumentPlan};
use crate::decode::format::json;
use crate::decode::lookup::Place;
use crate::decode::reading::{ReadValue, read_value};
use crate::decode::tape::{Tape, Value};
use crate::decode::value::{self, does_not_fit};
use crate::decode::value_reader::{Result, Shape, ValueReader};
use crate::decode::{ColumnBinding, Decoder, Scratch};

impl Decoder {
    pub(super) fn tape_value(
        &mut self,
        plan: &DocumentPlan,
        tape: &Tape<'_>,
        place: Place,
        plan_of_column: &ColumnPlan,
        column: &mut Column,
    ) -> Result<()> {
        let ColumnPlan { binding: at, part, reading, reads_digits, .. } = plan_of_column;
        let Scratch { filled, context, cut, .. } = &mut self.row;
        let binding = &self.bindings[*at];
        context.unit = binding.unit;
        if let Some(part) = part {
            if nested_values(tape, place.value, part, binding, column, context)? {
                filled.add(*at);
            }
        } else {
            let from = if reading.is_key { place.key.unwrap_or(place.value) } else { place.value };
            let mut other = match read_value(tape, from, reading, &plan.nulls)? {
                ReadValue::Missing => return Ok(()),
                ReadValue::Same => None,
                ReadValue::Other(other) => Some(other),
            };
            if let (Value::Named { name, number }, None) = (tape.value(from), &other)
                && wants_number(&binding.column_type.kind, name)
            {
                other = Some(Tape::of(Value::Integer((*number).into()))?);
            }
            if *reads_digits && other.is_none() {
                other = number_of_digits(tape, from)?;
            }
            let is_filled = match &other {
                Some(other) => value::read(&mut other.reader(0), &binding.column_type, column, context)?,
                None => value::read(&mut tape.reader(from), &binding.column_type, column, context)?,
            };
            if is_filled {
                filled.add(*at);
            }
        }
        if std::mem::take(&mut context.was_truncated) {
            cut.push(*at);
        }
        Ok(())
    }
}

/// Whether a column takes the number of a name, and not the name.
fn wants_number(kind: &Kind, name: &str) -> bool {
    match kind {
        Kind::Int { .. } | Kind::Float32 | Kind::Float64 | Kind::BFloat16 | Kind::Decimal { .. } => true,
        Kind::Enum8(names) | Kind::Enum16(names) => names.number(name).is_none(),
        _ => false,
    }
}

/// A text that is a number in digits, as such.
fn number_of_digits(tape: &Tape<'_>, at: usize) -> Result<Option<Tape<'static>>> {
    let Some(text) = tape.text(at) else { return Ok(None) };
    match json::tape::read_one(text.as_bytes(), Nan::Reject) {
        Ok(number) if matches!(number.value(0), Value::Number(_)) => Ok(Some(number.into_owned())),
        _ => Ok(None),
    }
}

/// A member of each object of a list, or a list by itself, into a column of a Nested; `false`: it is not there.
fn nested_values(
    tape: &Tape<'_>,
    at: usize,
    part: &str,
    binding: &ColumnBinding,
    column: &mut Column,
    context: &mut value::DecodeContext,
) -> Result<bool> {
    match tape.value(at) {
        Value::Object { .. } => match tape.member(at, part) {
            Some(list) => value::read(&mut tape.reader(list), &binding.column_type, column, context),
            None => Ok(false),
        },
        Value::List { .. } => {
            let (Kind::Array(item_type), Column::Array { items, .. }) =
                (&binding.column_type.kind, &mut *column)
            else {
                return Ok(false);
            };
            let mut is_nested = false;
            for item in tape.items(at) {
                is_nested |= matches!(tape.value(item), Value::Object { .. });
                if !matches!(tape.value(item), Value::Object { .. }) {
                    if is_nested {
                        return Err(does_not_fit(tape.reader(item).shape()?));
                    }
                    break;
                }
                let mut there = tape.member(item, part).map(|place| tape.reader(place));
                value::read_part(there.as_mut(), item_type, items, context)?;
            }
            if !is_nested && tape.items(at).next().is_some() {
                return value::read(&mut tape.reader(at), &binding.column_type, column, context);
            }
            column.push_offset();
            Ok(true)
        }
        _ => Err(does_not_fit(Shape::Text)),
    }
}
