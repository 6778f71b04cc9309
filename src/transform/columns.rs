//! The columns of a batch as a transform sees them.
//!
//! Numbers are copied into memory of the host and back, a column at a time. Texts are copied as one
//! buffer of bytes and the end of each text. All other types are read as JSON ([`JsonCursor`]), and
//! written value by value.
//!
//! **Where a column can be NULL on the wire but the transform is to fill it**, because it is computed, or where NULL stands for
//! "compute the DEFAULT", rows without a value hold [`unfilled`] when they are read. A row that holds something else
//! afterwards is filled.

mod numbers;

use std::ops::Range;

use serde::Serialize;

use crate::clickhouse::column_json::JsonCursor;
use crate::clickhouse::schema::TableColumn;
use crate::clickhouse::{Column, ColumnType, Kind, Zone};
use crate::config::{ColumnSource, Route};
use crate::core::error::Result;
use crate::core::reason::{Code, Reason};
use crate::decode::RowDecoder;
use crate::ingest::table_plan::TablePlan;

use numbers::{mark_unfilled, take_nulls, unfilled};

/// How the host keeps the values of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cells {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
    Text,
    Other,
}

/// The description of a column for the host.
#[derive(Debug, Clone, Serialize)]
pub struct ColumnInfo {
    pub name: String,
    /// ClickHouse's name of the type.
    #[serde(rename = "type")]
    pub type_name: String,
    #[serde(rename = "kind")]
    pub cells: Cells,
    /// Whether a row can be without a value.
    pub nullable: bool,
    /// Whether ClickHouse computes a DEFAULT for a row without a value.
    pub default: bool,
    /// Whether it is read for the transform alone.
    pub input: bool,
    pub computed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<TimeInfo>,
    /// Names and numbers.
    #[serde(rename = "enum", skip_serializing_if = "Option::is_none")]
    pub enumeration: Option<Vec<(String, i16)>>,
}

#[derive(Debug, Clone, Serialize)]
pub struct TimeInfo {
    /// `day`, `second` or `ticks`.
    pub unit: &'static str,
    /// Digits of a second.
    pub precision: u32,
    pub zone: String,
}

/// The columns of a route, for its table as it is now.
pub struct ColumnLayout {
    pub generation: u64,
    pub columns: Vec<ColumnInfo>,
    /// The same as JSON.
    pub json: String,
    /// As they are on the wire.
    types: Vec<ColumnType>,
    /// Where the columns are that no block has.
    pub inputs: Range<usize>,
    /// For each column that of its flags.
    flags: Vec<Option<usize>>,
    path: String,
}

impl ColumnLayout {
    pub fn new(plan: &TablePlan, route: &Route) -> ColumnLayout {
        let decoder = plan.decoder(route);
        let inputs = decoder.inputs();
        let bindings = decoder.bindings();
        let flagged: Vec<(usize, String)> = plan.flagged_columns().collect();
        let flag = |column: usize| {
            let (_, name) = flagged.iter().find(|(flagged, _)| *flagged == column)?;
            let place = decoder.heads().iter().position(|(head, _)| head == name)?;
            // Blocks do not have the inputs.
            Some(place + inputs.len())
        };
        // The keys of lookups are nobody's to see.
        let columns: Vec<_> = bindings[..decoder.keys().start]
            .iter()
            .enumerate()
            .map(|(place, binding)| {
                let own = plan.table.columns.get(place);
                let is_computed = matches!(route.source_of(binding.name()), Some(ColumnSource::Computed));
                info(binding.name(), binding.column_type(), own, is_computed)
            })
            .collect();
        ColumnLayout {
            generation: plan.generation,
            json: serde_json::to_string(&columns).unwrap_or_default(),
            flags: (0..columns.len()).map(flag).collect(),
            columns,
            types: bindings.iter().map(|binding| binding.column_type().clone()).collect(),
            inputs,
            path: route.path.clone(),
        }
    }

    /// The columns of a block, to be read alone: NULL is never a value that is still to be filled.
    pub fn of_block(plan: &TablePlan, route: &Route) -> ColumnLayout {
        let mut layout = ColumnLayout::new(plan, route);
        let inputs = layout.inputs.start..layout.columns.len();
        layout.inputs = inputs.start..inputs.start;
        layout.columns.drain(inputs.clone());
        layout.types.truncate(layout.columns.len());
        layout.flags.truncate(layout.columns.len());
        for column in &mut layout.columns {
            (column.computed, column.default) = (false, false);
        }
        layout.json = serde_json::to_string(&layout.columns).unwrap_or_default();
        layout
    }

    /// Reads one value of a program: CBOR.
    fn value(&self, at: usize, cbor: &[u8]) -> Result<Column, Reason> {
        let ColumnInfo { name, .. } = &self.columns[at];
        let column = TableColumn {
            name: name.clone(),
            column_type: self.types[at].clone(),
            default: None,
            is_ephemeral: false,
            is_added: false,
        };
        let broken = |error: &dyn std::fmt::Display| Reason::new(Code::TypeMismatch, error.to_string());
        let mut decoder = RowDecoder::new(&self.path, "", &[column]).map_err(|error| broken(&error))?;
        let mut columns = decoder.columns();
        let mut row = vec![0xa1, 0x7a];
        row.extend((name.len() as u32).to_be_bytes());
        row.extend(name.as_bytes());
        row.extend(cbor);
        decoder.append(&row, &mut columns).map_err(|error| error.reason)?;
        columns.pop().ok_or_else(|| broken(&"it has no column"))
    }
}

fn info(
    name: &str,
    column_type: &ColumnType,
    table_column: Option<&TableColumn>,
    computed: bool,
) -> ColumnInfo {
    let default = table_column.is_some_and(|column| column.default.is_some());
    let own_type = table_column.map_or(column_type, |column| &column.column_type);
    let time = |unit, precision, zone: Option<&Zone>| {
        let zone = match zone {
            Some(Zone::Named(zone)) => zone.iana_name().unwrap_or("UTC").to_string(),
            _ => "UTC".into(),
        };
        Some(TimeInfo { unit, precision, zone })
    };
    let (cells, time) = match &column_type.kind {
        Kind::Bool => (Cells::Bool, None),
        Kind::Int { bytes: 1, signed } => (if *signed { Cells::I8 } else { Cells::U8 }, None),
        Kind::Int { bytes: 2, signed } => (if *signed { Cells::I16 } else { Cells::U16 }, None),
        Kind::Int { bytes: 4, signed } => (if *signed { Cells::I32 } else { Cells::U32 }, None),
        Kind::Int { bytes: 8, signed } => (if *signed { Cells::I64 } else { Cells::U64 }, None),
        Kind::Float32 => (Cells::F32, None),
        Kind::Float64 => (Cells::F64, None),
        Kind::Date => (Cells::U16, time("day", 0, None)),
        Kind::Date32 => (Cells::I32, time("day", 0, None)),
        Kind::DateTime { zone } => (Cells::U32, time("second", 0, Some(zone))),
        Kind::DateTime64 { scale, zone } => (Cells::I64, time("ticks", *scale, Some(zone))),
        Kind::Time { scale: None } => (Cells::I32, time("second", 0, None)),
        Kind::Time { scale: Some(scale) } => (Cells::I64, time("ticks", *scale, None)),
        Kind::Enum8(_) => (Cells::I8, None),
        Kind::Enum16(_) => (Cells::I16, None),
        Kind::String => (Cells::Text, None),
        _ => (Cells::Other, None),
    };
    let enumeration = match &column_type.kind {
        Kind::Enum8(names) | Kind::Enum16(names) => Some(
            names
                .names()
                .into_iter()
                .filter_map(|name| Some((names.number(&name)?, name)))
                .map(|(n, name)| (name, n))
                .collect(),
        ),
        _ => None,
    };
    ColumnInfo {
        name: name.into(),
        type_name: own_type.wire_name(),
        cells,
        nullable: column_type.nullable || column_type.kind.holds_null(),
        default,
        input: table_column.is_none(),
        computed,
        time,
        enumeration,
    }
}

/// The columns of one batch, in the hands of the host.
pub struct BatchColumns<'a> {
    pub layout: &'a ColumnLayout,
    pub columns: &'a mut [Column],
    /// Values that replace others at the end: column, row, and a column with the value.
    pub overrides: &'a mut Vec<(usize, usize, Column)>,
    /// Set when values are written.
    pub is_changed: &'a mut bool,
}

/// The error for a column or a row that does not exist: a fault of the engine, reported and not hidden.
#[derive(Debug, PartialEq, Eq)]
pub struct Misuse(pub &'static str);

impl BatchColumns<'_> {
    /// Whether rows without a value hold [`unfilled`].
    fn marks_unfilled(&self, at: usize) -> bool {
        let ColumnInfo { computed, default, nullable, .. } = &self.layout.columns[at];
        *nullable && (*computed || *default)
    }

    fn column(&self, at: usize) -> Result<&Column, Misuse> {
        if at < self.layout.columns.len() { Ok(&self.columns[at]) } else { Err(Misuse("no such column")) }
    }

    /// Copies the values of a column of numbers, and 1 for each row without a value.
    pub fn read(&self, at: usize, values: &mut [u8], nulls: Option<&mut [u8]>) -> Result<(), Misuse> {
        let (own_nulls, column) = split(self.column(at)?);
        let Column::Fixed { data, width, .. } = column else { return Err(Misuse("it has no numbers")) };
        if values.len() != data.len() {
            return Err(Misuse("the memory has another length than the column"));
        }
        values.copy_from_slice(data);
        let Some(own_nulls) = own_nulls else {
            nulls.into_iter().for_each(|nulls| nulls.fill(0));
            return Ok(());
        };
        if self.marks_unfilled(at) {
            mark_unfilled(values, *width, own_nulls, self.layout.columns[at].cells);
        }
        copy_nulls(own_nulls, nulls)
    }

    /// Takes the values of a column of numbers back.
    pub fn write(&mut self, at: usize, values: &[u8], nulls: Option<&[u8]>) -> Result<(), Misuse> {
        self.column(at)?;
        let marks_unfilled = self.marks_unfilled(at);
        let cells = self.layout.columns[at].cells;
        let (own_nulls, column) = split_mut(&mut self.columns[at]);
        let Column::Fixed { data, width, zero } = column else { return Err(Misuse("it has no numbers")) };
        if values.len() != data.len() || nulls.is_some_and(|nulls| nulls.len() != data.len() / *width) {
            return Err(Misuse("the memory has another length than the column"));
        }
        *self.is_changed = true;
        data.copy_from_slice(values);
        if cells == Cells::Bool {
            data.iter_mut().for_each(|value| *value = u8::from(*value != 0));
        }
        let Some(own_nulls) = own_nulls else { return Ok(()) };
        let unfilled = if marks_unfilled { unfilled(cells) } else { &[] };
        take_nulls(data, zero, own_nulls, nulls, unfilled);
        Ok(())
    }

    /// The bytes that the texts of a column have together at most: what is not added up text by text.
    pub fn text_bytes(&self, at: usize) -> Result<usize, Misuse> {
        let column = self.column(at)?;
        drop(texts(column)?);
        // A length takes a byte at least.
        Ok(split(column).1.bytes() - column.rows())
    }

    /// Copies the texts of a column one behind the other, and where each ends.
    pub fn read_texts(
        &self,
        at: usize,
        bytes: &mut [u8],
        ends: &mut [u32],
        nulls: Option<&mut [u8]>,
    ) -> Result<(), Misuse> {
        let column = self.column(at)?;
        let (mut end, mut row) = (0, 0);
        for text in texts(column)? {
            let into = bytes.get_mut(end..end + text.len()).ok_or(Misuse("the memory is too small"))?;
            into.copy_from_slice(text);
            end += text.len();
            *ends.get_mut(row).ok_or(Misuse("the memory is too small"))? = end as u32;
            row += 1;
        }
        match split(column).0 {
            Some(own) => copy_nulls(own, nulls),
            None => {
                nulls.into_iter().for_each(|nulls| nulls.fill(0));
                Ok(())
            }
        }
    }

    /// Takes the texts of a column back.
    pub fn write_texts(
        &mut self,
        at: usize,
        bytes: &[u8],
        ends: &[u32],
        nulls: Option<&[u8]>,
    ) -> Result<(), Misuse> {
        let rows = self.column(at)?.rows();
        drop(texts(&self.columns[at])?);
        let is_whole = ends.len() == rows
            && ends.is_sorted()
            && ends.last().is_none_or(|end| *end as usize <= bytes.len())
            && nulls.is_none_or(|nulls| nulls.len() == rows);
        if !is_whole {
            return Err(Misuse("the texts are not those of all rows"));
        }
        let marks_unfilled = self.marks_unfilled(at);
        let before = split(&self.columns[at]).0.map(<[u8]>::to_vec);
        *self.is_changed = true;
        let column = &mut self.columns[at];
        column.clear();
        let mut start = 0;
        for (row, end) in ends.iter().enumerate() {
            let text = &bytes[start..*end as usize];
            start = *end as usize;
            let was_null = before.as_ref().is_some_and(|before| before[row] == 1);
            let is_null = before.is_some() && nulls.map_or(was_null, |nulls| nulls[row] != 0);
            let is_filled = marks_unfilled && was_null && !text.is_empty();
            match is_null && !is_filled {
                true => column.push_null(),
                false => column.push_string(text),
            }
        }
        Ok(())
    }

    /// The values of any column as a list in JSON.
    pub fn read_json(&self, at: usize) -> Result<String, Misuse> {
        Ok(self.values(at)?.to_string())
    }

    /// The values of any column.
    pub fn values(&self, at: usize) -> Result<serde_json::Value, Misuse> {
        let column = self.column(at)?;
        let mut cursor = JsonCursor::new(column, &self.layout.types[at]);
        Ok((0..column.rows()).map(|_| cursor.read()).collect())
    }

    /// Sets one value of any column, as CBOR; `None` is NULL.
    pub fn set_value(&mut self, at: usize, row: usize, cbor: Option<&[u8]>) -> Result<(), Reason> {
        let misuse = |Misuse(text)| Reason::new(Code::OutOfRange, text);
        if row >= self.column(at).map_err(misuse)?.rows() {
            return Err(Reason::new(Code::OutOfRange, format!("there is no row {row}")));
        }
        let ColumnInfo { name, .. } = &self.layout.columns[at];
        let value = match cbor {
            Some(cbor) => self.layout.value(at, cbor)?,
            None => {
                let mut value = self.columns[at].clone_empty();
                if !self.layout.columns[at].nullable {
                    let reason =
                        Reason::new(Code::TypeMismatch, "NULL does not fit a column that is not Nullable");
                    return Err(reason.about(name));
                }
                value.push_null();
                value
            }
        };
        self.overrides.push((at, row, value));
        Ok(())
    }

    /// Puts the values of [`BatchColumns::set_value`] into their columns, the last one of each row.
    pub fn apply_overrides(&mut self) {
        let mut overrides = std::mem::take(self.overrides);
        // Stable: of several values of a row the last one stays the last.
        overrides.sort_by_key(|(at, row, _)| (*at, *row));
        for of_column in overrides.chunk_by(|one, other| one.0 == other.0) {
            let at = of_column[0].0;
            let mut changed = self.columns[at].clone_empty();
            let mut from = 0;
            for of_row in of_column.chunk_by(|one, other| one.1 == other.1) {
                let Some((_, row, value)) = of_row.last() else { continue };
                changed.append_rows(&self.columns[at], std::slice::from_ref(&(from..*row)));
                changed.append(value);
                from = row + 1;
                if let Some(flags) = self.layout.flags[at]
                    && let Column::Fixed { data, .. } = &mut self.columns[flags]
                {
                    data[*row] = 0;
                }
            }
            let rows = self.columns[at].rows();
            changed.append_rows(&self.columns[at], std::slice::from_ref(&(from..rows)));
            self.columns[at] = changed;
        }
    }

    /// Why a column cannot be inserted: a number that is none of its enum.
    pub fn fault(&self) -> Option<Reason> {
        for (at, info) in self.layout.columns.iter().enumerate() {
            let (Kind::Enum8(names) | Kind::Enum16(names), false) = (&self.layout.types[at].kind, info.input)
            else {
                continue;
            };
            let (nulls, Column::Fixed { data, width, .. }) = split(&self.columns[at]) else { continue };
            for (row, value) in data.chunks(*width).enumerate() {
                let number = match value {
                    [low, high] => i16::from_le_bytes([*low, *high]),
                    _ => i16::from(value[0] as i8),
                };
                if nulls.is_none_or(|nulls| nulls[row] == 0) && !names.has_number(number) {
                    let text = format!("row {row}: {number} is no number of {}", info.type_name);
                    return Some(Reason::new(Code::OutOfRange, text).about(&info.name));
                }
            }
        }
        None
    }
}

/// The rows without a value, and the values.
fn split(column: &Column) -> (Option<&[u8]>, &Column) {
    match column {
        Column::Nullable { nulls, values } => (Some(nulls), values),
        other => (None, other),
    }
}

fn split_mut(column: &mut Column) -> (Option<&mut Vec<u8>>, &mut Column) {
    match column {
        Column::Nullable { nulls, values } => (Some(nulls), values),
        other => (None, other),
    }
}

fn copy_nulls(own: &[u8], nulls: Option<&mut [u8]>) -> Result<(), Misuse> {
    match nulls {
        Some(nulls) if nulls.len() == own.len() => nulls.copy_from_slice(own),
        Some(_) => return Err(Misuse("the memory has another length than the column")),
        None => {}
    }
    Ok(())
}

fn texts(column: &Column) -> Result<impl Iterator<Item = &[u8]>, Misuse> {
    let Column::Strings { data, .. } = split(column).1 else { return Err(Misuse("it has no texts")) };
    let mut rest = &data[..];
    Ok(std::iter::from_fn(move || {
        (!rest.is_empty()).then(|| crate::clickhouse::dynamic::take_bytes(&mut rest))
    }))
}
