//! Rows that a route drops for those before them: `dedupe` and `deadband`.
//!
//! The rows of a message are looked at as they stand in the columns of the open batch. Where none is left the message is dropped;
//! where some are, the others are taken out when the batch is sealed, and the batch keeps its rows: decoded again, the messages
//! would bring back what was dropped.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use crate::clickhouse::{Column, Kind};
use crate::config::{Deadband, Dedupe, Quantity, Route};
use crate::core::error::{Error, Result};
use crate::core::memory_budget::MemoryBudget;
use crate::core::recent_keys::Decision;
use crate::core::varint;
use crate::decode::{ColumnBinding, Decoder};

pub struct RowFilter {
    dedupe: Option<(Dedupe, Vec<usize>)>,
    deadband: Option<Comparison>,
    /// Where the values of the next row stand in the columns that are looked at.
    cursors: Vec<Cursor>,
    key: Vec<u8>,
    /// In front of each key: tables that messages of one route choose share its keys.
    table: Vec<u8>,
    /// The rows of the last message that are dropped.
    dropped: Vec<Range<usize>>,
}

struct Comparison {
    deadband: Deadband,
    column: usize,
    by: Vec<usize>,
    /// `delta` in the unit of what the column holds.
    delta: f64,
}

/// The value of a row in a column.
struct Cursor {
    column: usize,
    /// Where it begins, of a column of texts.
    at: usize,
}

impl RowFilter {
    /// `None`: the route drops no rows. Errors name the option.
    pub fn of(route: &Route, decoder: &Decoder) -> Result<Option<Box<RowFilter>>> {
        if !route.drops_repeats() {
            return Ok(None);
        }
        let mut looked_at: Vec<usize> = Vec::new();
        let mut find = |option: &str, name: &str, check: &dyn Fn(&ColumnBinding) -> Option<&'static str>| {
            let path = || format!("{}.{option}", route.path);
            let Some(at) = decoder.bindings().iter().position(|binding| binding.name() == name) else {
                return Err(Error::ColumnNotFound {
                    path: path(),
                    column: name.into(),
                    table: route.table.clone(),
                });
            };
            let binding = &decoder.bindings()[at];
            if let Some(advice) = check(binding) {
                return Err(Error::ColumnUnsupported {
                    path: path(),
                    column: name.into(),
                    column_type: binding.column_type().inner_name.clone(),
                    advice: advice.into(),
                });
            }
            if !looked_at.contains(&at) {
                looked_at.push(at);
            }
            Ok(at)
        };
        let mut key = |option: &str, by: &[String]| -> Result<Vec<usize>> {
            by.iter().enumerate().map(|(i, name)| find(&format!("{option}.by[{i}]"), name, &no_key)).collect()
        };
        let dedupe = match &route.dedupe {
            Some(dedupe) => Some((dedupe.clone(), key("dedupe", &dedupe.by)?)),
            None => None,
        };
        let deadband = match &route.deadband {
            Some(deadband) => {
                let by = key("deadband", &deadband.by)?;
                let column = find("deadband.column", &deadband.column, &no_number)?;
                let delta = deadband.delta * unit(decoder.bindings()[column].column_type().kind.clone());
                Some(Comparison { deadband: deadband.clone(), column, by, delta })
            }
            None => None,
        };
        let cursors = looked_at.into_iter().map(|column| Cursor { column, at: 0 }).collect();
        Ok(Some(Box::new(RowFilter {
            dedupe,
            deadband,
            cursors,
            key: Vec::new(),
            table: route.table.clone().into_bytes(),
            dropped: Vec::new(),
        })))
    }

    /// Decides on the last `rows` rows, which a message has brought; gives how many are kept. Where it is none they are gone from
    /// the columns; where it is not all, [`RowFilter::dropped`] has the others.
    pub fn apply(
        &mut self,
        decoder: &Decoder,
        columns: &mut [Column],
        rows: usize,
        now: Instant,
        memory: &Arc<MemoryBudget>,
    ) -> usize {
        let first = decoder.rows_before();
        self.dropped.clear();
        for cursor in &mut self.cursors {
            cursor.at = decoder.bytes_before(cursor.column);
        }
        for row in first..first + rows {
            if !self.keeps(decoder, columns, row, now, memory) {
                push_row(&mut self.dropped, row);
            }
            for cursor in &mut self.cursors {
                cursor.at = behind(&columns[cursor.column], cursor.at);
            }
        }
        let dropped: usize = self.dropped.iter().map(Range::len).sum();
        if dropped == rows {
            decoder.take_back(columns);
        }
        rows - dropped
    }

    /// The rows that the last message had to leave, by their places in the batch.
    pub fn dropped(&self) -> &[Range<usize>] {
        &self.dropped
    }

    fn keeps(
        &mut self,
        decoder: &Decoder,
        columns: &[Column],
        row: usize,
        now: Instant,
        memory: &Arc<MemoryBudget>,
    ) -> bool {
        let RowFilter { dedupe, deadband, cursors, key, table, .. } = self;
        if let Some((dedupe, by)) = dedupe
            && write_key(key, table, by, columns, row, cursors)
        {
            let decide = |known: Option<()>| match known {
                Some(()) => Decision::Drop,
                None => Decision::Keep(()),
            };
            if !dedupe.keys.decide(key, now, Some(dedupe.window), memory, decide) {
                return false;
            }
        }
        let Some(Comparison { deadband, column, by, delta }) = deadband else { return true };
        if !write_key(key, table, by, columns, row, cursors) {
            return true;
        }
        let kind = &decoder.bindings()[*column].column_type().kind;
        let value = bytes(&columns[*column], row, 0).and_then(|bytes| quantity(kind, bytes));
        deadband.keys.decide(key, now, deadband.every, memory, |known| match (known, value) {
            (_, None) => Decision::Forget,
            (Some(known), Some(value)) if distance(known, value) <= *delta => Decision::Drop,
            (_, Some(value)) => Decision::Keep(value),
        })
    }
}

/// Rows that stand side by side are one range.
fn push_row(ranges: &mut Vec<Range<usize>>, row: usize) {
    match ranges.last_mut() {
        Some(range) if range.end == row => range.end += 1,
        _ => ranges.push(row..row + 1),
    }
}

/// The rows between those that are dropped, of `rows`.
pub fn kept(dropped: &[Range<usize>], rows: usize) -> Vec<Range<usize>> {
    let (mut kept, mut at) = (Vec::with_capacity(dropped.len() + 1), 0);
    for range in dropped {
        kept.push(at..range.start);
        at = range.end;
    }
    kept.push(at..rows);
    kept.retain(|range| !range.is_empty());
    kept
}

/// Why a column cannot be in a key: advice that completes "column c has the type T, …".
pub fn no_key(binding: &ColumnBinding) -> Option<&'static str> {
    match binding.column_type().kind {
        Kind::Json(_)
        | Kind::Dynamic { .. }
        | Kind::QBit { .. }
        | Kind::Array(_)
        | Kind::Tuple(_)
        | Kind::Map(_)
        | Kind::Variant(_) => Some(
            "which cannot be in a key: use a text, a number, a date, a time, an enum, an address or a UUID",
        ),
        _ => binding
            .column_type()
            .aggregate
            .is_some()
            .then_some("of which ClickHouse makes a state: use a plain column"),
    }
}

fn no_number(binding: &ColumnBinding) -> Option<&'static str> {
    let advice = "whose values have no difference: use an integer of up to 128 bits, a float or a Decimal of up to 38 digits";
    match binding.column_type().kind {
        Kind::Int { bytes, .. } | Kind::Decimal { bytes, .. } if bytes <= 16 => None,
        Kind::Float32 | Kind::Float64 => None,
        _ => Some(advice),
    }
}

/// How many of what the column holds are one of its unit.
fn unit(kind: Kind) -> f64 {
    if let Kind::Decimal { scale, .. } = kind { 10f64.powi(scale as i32) } else { 1.0 }
}

/// Writes the values of a row that are its key, each behind its length, behind the table. `false`: one is NULL.
fn write_key(
    key: &mut Vec<u8>,
    table: &[u8],
    by: &[usize],
    columns: &[Column],
    row: usize,
    cursors: &[Cursor],
) -> bool {
    key.clear();
    key.extend_from_slice(table);
    for column in by {
        let at = cursors.iter().find(|cursor| cursor.column == *column).map_or(0, |cursor| cursor.at);
        let Some(value) = bytes(&columns[*column], row, at) else { return false };
        key.extend_from_slice(&(value.len() as u64).to_le_bytes());
        key.extend_from_slice(value);
    }
    true
}

/// The value of a row; `at` is where it begins among texts. `None`: NULL.
pub fn bytes(column: &Column, row: usize, at: usize) -> Option<&[u8]> {
    match column {
        Column::Fixed { width, data, .. } => data.get(row * width..(row + 1) * width),
        Column::Strings { data, .. } => text(data, at),
        Column::Nullable { nulls, values } => match nulls.get(row) {
            Some(0) => bytes(values, row, at),
            _ => None,
        },
        _ => None,
    }
}

fn text(data: &[u8], at: usize) -> Option<&[u8]> {
    let mut rest = data.get(at..)?;
    let len = varint::read::<10>(&mut rest).ok()?;
    rest.get(..len as usize)
}

/// Where the next value begins.
fn behind(column: &Column, at: usize) -> usize {
    match column {
        Column::Strings { data, .. } => {
            text(data, at).map_or(at, |text| text.as_ptr() as usize + text.len() - data.as_ptr() as usize)
        }
        Column::Nullable { values, .. } => behind(values, at),
        _ => at,
    }
}

/// `None`: NaN.
fn quantity(kind: &Kind, bytes: &[u8]) -> Option<Quantity> {
    match (kind, bytes.len()) {
        (Kind::Float32, 4) => float(f32::from_le_bytes(bytes.try_into().ok()?).into()),
        (Kind::Float64, 8) => float(f64::from_le_bytes(bytes.try_into().ok()?)),
        (Kind::Int { signed, .. }, 1..=16) => Some(Quantity::Integer(integer(bytes, *signed))),
        (Kind::Decimal { .. }, 1..=16) => Some(Quantity::Integer(integer(bytes, true))),
        _ => None,
    }
}

fn float(value: f64) -> Option<Quantity> {
    (!value.is_nan()).then_some(Quantity::Float(value))
}

/// A little-endian number of up to 128 bits. Unsigned ones of 128 bits are moved by half of their range, and keep their differences.
fn integer(bytes: &[u8], signed: bool) -> i128 {
    let is_negative = signed && bytes.last().is_some_and(|last| last & 0x80 != 0);
    let mut all = [if is_negative { 0xff } else { 0 }; 16];
    all[..bytes.len()].copy_from_slice(bytes);
    if !signed && bytes.len() == 16 {
        all[15] ^= 0x80;
    }
    i128::from_le_bytes(all)
}

fn distance(one: Quantity, other: Quantity) -> f64 {
    match (one, other) {
        (Quantity::Integer(one), Quantity::Integer(other)) => one.abs_diff(other) as f64,
        // Infinities that are the same have no difference by their numbers.
        (Quantity::Float(one), Quantity::Float(other)) if one == other => 0.0,
        (Quantity::Float(one), Quantity::Float(other)) => (one - other).abs(),
        // The type of the column has changed.
        _ => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests;
