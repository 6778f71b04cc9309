//! Payload bytes into columns.
//!
//! A [`Decoder`] is made once per route from its mapping and the table's columns; [`Decoder::append`] then adds one
//! row per message. A row is appended whole or not at all: whatever fails, every column is cut back to where it was.

mod coerce;
mod json;
mod path;
mod time;

pub use path::{Path, Segment};
pub use time::Instant;

use crate::columns::{Column, ColumnType, Kind};
use crate::config::{ColumnSource, Meta, Route, Unit};
use crate::dead_letters::{Code, Reason};
use crate::error::{Error, Result};
use crate::mqtt::Properties;
use crate::mqtt::topic::Captures;
use coerce::Scalar;

/// A column of a table as ClickHouse describes it.
#[derive(Debug, Clone)]
pub struct TableColumn {
    pub name: String,
    pub column_type: ColumnType,
    /// The expression ClickHouse computes when no value is given.
    pub default: Option<String>,
}

/// One message as the decoder sees it; everything is borrowed from the read buffer.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub topic: &'a str,
    pub captures: &'a Captures,
    pub payload: &'a [u8],
    pub qos: u8,
    pub retain: bool,
    pub received_at: Instant,
    pub client_id: &'a str,
    pub properties: Properties<'a>,
}

/// A column as the decoder fills it.
#[derive(Debug, Clone)]
pub struct Slot {
    name: String,
    kind: Kind,
    unit: Unit,
    missing: Missing,
}

/// What a row gets where the message has nothing for a column.
#[derive(Debug, Clone)]
enum Missing {
    /// A value given in the configuration, already encoded.
    Value(Vec<u8>),
    /// NULL: either the column's own, or the sign for "compute the default" (see [`Decoder::heads`]).
    Null,
    Zero,
    Refused,
}

/// A column that is not filled from the JSON.
#[derive(Debug)]
enum Given {
    /// A named level of the topic, by its place among the captures.
    Topic(usize),
    Meta(Meta),
    UserProperty(String),
    Constant(Vec<u8>),
}

#[derive(Debug)]
pub struct Decoder {
    slots: Vec<Slot>,
    /// Whether the block declares the column `Nullable`, and under which type.
    heads: Vec<(String, String)>,
    columns: Vec<Column>,
    given: Vec<(usize, Given)>,
    root: json::Node,
    /// Without a column that is filled from it, the payload need not be JSON.
    reads_json: bool,
    reject_unknown: bool,
    filled: Vec<bool>,
}

impl Decoder {
    /// Joins a route's mapping with its table. Errors carry the path of the option, below `path`
    /// (such as `routes[0]`).
    pub fn new(path: &str, route: &Route, table: &[TableColumn]) -> Result<Decoder> {
        for (name, _) in &route.columns {
            if !table.iter().any(|c| c.name == *name) {
                return Err(Error::ColumnNotFound {
                    path: format!("{path}.columns.{name}"),
                    column: name.clone(),
                    table: route.table.clone(),
                });
            }
        }
        let mut decoder = Decoder {
            slots: Vec::new(),
            heads: Vec::new(),
            columns: Vec::new(),
            given: Vec::new(),
            root: json::Node::default(),
            reads_json: route.reject_unknown_fields,
            reject_unknown: route.reject_unknown_fields,
            filled: vec![false; table.len()],
        };
        for column in table {
            decoder.add(path, route, column)?;
            // A field that bears a column's name is known, even where the column is filled from elsewhere.
            decoder.root.mention(&[Segment::Field(column.name.clone())]);
        }
        Ok(decoder)
    }

    fn add(&mut self, path: &str, route: &Route, column: &TableColumn) -> Result<()> {
        let TableColumn { name, column_type, default: table_default } = column;
        let path = format!("{path}.columns.{name}");
        let at = self.slots.len();
        let captured = |name: &str| route.topic.names().position(|n| n == name);

        // A column with a DEFAULT is sent as Nullable: NULL then means "compute the default for this row"; how, is
        // for `sink::tables` to say.
        let nullable = column_type.nullable || table_default.is_some();
        let mut slot = Slot {
            name: name.clone(),
            kind: column_type.kind.clone(),
            unit: Unit::Auto,
            missing: match (nullable, route.zero_missing_fields) {
                (true, _) => Missing::Null,
                (false, true) => Missing::Zero,
                (false, false) => Missing::Refused,
            },
        };

        let mut json_path = None;
        match route.columns.iter().find(|(n, _)| n == name).map(|(_, source)| source) {
            None => match captured(name) {
                Some(index) => self.given.push((at, Given::Topic(index))),
                None => json_path = Some(Path::field(name)),
            },
            Some(ColumnSource::Path { path: wanted, default, unit }) => {
                slot.unit = *unit;
                if let Some(value) = default.as_ref().filter(|value| !value.is_null()) {
                    slot.missing =
                        Missing::Value(encode(&format!("{path}.default"), column_type, &slot, value)?);
                }
                json_path = Some(wanted.clone());
            }
            Some(ColumnSource::Topic(name)) => {
                let index =
                    captured(name).ok_or_else(|| Error::config(&path, "the topic has no such name"))?;
                self.given.push((at, Given::Topic(index)));
            }
            Some(ColumnSource::Meta(meta)) => {
                check_meta(&path, *meta, column_type)?;
                self.given.push((at, Given::Meta(*meta)));
            }
            Some(ColumnSource::UserProperty(key)) => self.given.push((at, Given::UserProperty(key.clone()))),
            Some(ColumnSource::Value(value)) if value.is_null() => {
                if !nullable {
                    return Err(Error::config(
                        format!("{path}.value"),
                        "null does not fit a column that is not Nullable",
                    ));
                }
            }
            Some(ColumnSource::Value(value)) => {
                let encoded = encode(&format!("{path}.value"), column_type, &slot, value)?;
                self.given.push((at, Given::Constant(encoded)));
            }
        }
        if let Some(json_path) = json_path {
            self.reads_json = true;
            self.root.insert(&json_path.0, at);
        }

        let declared = match nullable {
            true => format!("Nullable({})", column_type.inner_name),
            false => column_type.inner_name.clone(),
        };
        self.heads.push((name.clone(), declared));
        self.columns.push(Column::new(column_type, nullable));
        self.slots.push(slot);
        Ok(())
    }

    /// The names and types that blocks of these columns declare.
    pub fn heads(&self) -> &[(String, String)] {
        &self.heads
    }

    /// Empty columns to append to.
    pub fn columns(&self) -> Vec<Column> {
        self.columns.clone()
    }

    /// Appends one row to `columns`, which came from [`Decoder::columns`]; on an error they are as before.
    pub fn append(&mut self, message: &Message<'_>, columns: &mut [Column]) -> Result<(), Reason> {
        let rows = columns.first().map_or(0, Column::rows);
        let result = self.fill(message, columns, rows);
        if result.is_err() {
            for column in columns {
                column.truncate(rows);
            }
        }
        result
    }

    fn fill(&mut self, message: &Message<'_>, columns: &mut [Column], rows: usize) -> Result<(), Reason> {
        self.filled.fill(false);
        if self.reads_json {
            let mut row = json::Row {
                slots: &self.slots,
                columns,
                filled: &mut self.filled,
                rows,
                reject_unknown: self.reject_unknown,
                reason: None,
            };
            json::read(&mut self.root, message.payload, &mut row)?;
        }
        for (at, given) in &self.given {
            self.filled[*at] = put_given(&mut columns[*at], &self.slots[*at], given, message)?;
        }
        for ((slot, column), filled) in self.slots.iter().zip(columns).zip(&self.filled) {
            if !filled {
                match &slot.missing {
                    Missing::Value(encoded) => column.push_encoded(encoded),
                    Missing::Null => column.push_null(),
                    Missing::Zero => column.push_zero(),
                    Missing::Refused => {
                        return Err(
                            Reason::new(Code::FieldMissing, "is required and missing").about(&slot.name)
                        );
                    }
                }
            }
        }
        Ok(())
    }
}

/// Says whether there was a value.
fn put_given(column: &mut Column, slot: &Slot, given: &Given, message: &Message<'_>) -> Result<bool, Reason> {
    let value = match given {
        Given::Constant(encoded) => {
            column.push_encoded(encoded);
            return Ok(true);
        }
        Given::Meta(Meta::ReceivedAt) => {
            return match &slot.kind {
                Kind::Int { .. } => {
                    let millis = message.received_at.ticks(3).unwrap_or(0);
                    coerce::put(column, &slot.kind, slot.unit, Scalar::Unsigned(millis.max(0) as u64))
                }
                kind => coerce::put_instant(column, kind, message.received_at)
                    .ok_or_else(|| Reason::new(Code::OutOfRange, "the clock is out of its range")),
            }
            .map(|()| true)
            .map_err(|reason| reason.about(&slot.name));
        }
        Given::Meta(Meta::Payload) => {
            // As it came, whether it is UTF-8 or not: a ClickHouse String is bytes.
            column.push_string(message.payload);
            return Ok(true);
        }
        Given::Topic(index) => Scalar::Text(message.captures.get(*index, message.topic)),
        Given::Meta(Meta::Topic) => Scalar::Text(message.topic),
        Given::Meta(Meta::ClientId) => Scalar::Text(message.client_id),
        Given::Meta(Meta::Qos) => Scalar::Unsigned(message.qos as u64),
        Given::Meta(Meta::Retain) => Scalar::Bool(message.retain),
        Given::UserProperty(key) => match message.properties.user(key) {
            Some(value) => Scalar::Text(value),
            None => return Ok(false),
        },
    };
    coerce::put(column, &slot.kind, slot.unit, value).map_err(|reason| reason.about(&slot.name))?;
    Ok(true)
}

/// Some sources can only ever fit some types: that is a mistake in the configuration, not of a message.
fn check_meta(path: &str, meta: Meta, column_type: &ColumnType) -> Result<()> {
    let fits = matches!(
        (meta, &column_type.kind),
        (
            Meta::ReceivedAt,
            Kind::DateTime { .. } | Kind::DateTime64 { .. } | Kind::Date | Kind::Int { bytes: 8, .. }
        ) | (Meta::Payload | Meta::Topic | Meta::ClientId, Kind::String)
            | (Meta::Qos, Kind::Int { .. } | Kind::Float32 | Kind::Float64 | Kind::String)
            | (Meta::Retain, Kind::Bool | Kind::Int { .. } | Kind::String)
    );
    if fits {
        return Ok(());
    }
    Err(Error::config(path, format!("cannot be put into a column of type {}", column_type.inner_name)))
}

/// Encodes a value of the configuration as the column carries it.
fn encode(path: &str, column_type: &ColumnType, slot: &Slot, value: &serde_json::Value) -> Result<Vec<u8>> {
    let mut column = Column::new(column_type, false);
    json::read_into(&mut column, slot, &value.to_string())
        .map_err(|reason| Error::config(path, &*reason.message))?;
    Ok(column.data().to_vec())
}
