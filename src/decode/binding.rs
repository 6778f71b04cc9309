//! A route's mapping and the columns of its table, made into a decoder. What cannot fit is told here, before a start.

use crate::clickhouse::schema::TableColumn;
use crate::clickhouse::{Column, ColumnType, Kind};
use crate::config::{ColumnSource, Meta, Route, Unit};
use crate::core::error::{Error, Result};
use crate::core::json_path::{Path, Root, Segment};
use crate::decode::fill::Filled;
use crate::decode::format::json::lexer::Reader;
use crate::decode::non_payload::{Ending, Given, Missing};
use crate::decode::path_tree::Node;
use crate::decode::value::{self, Manner, Quick};
use crate::decode::{Decoder, Scratch, Slot};

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
        let manner = Manner {
            zero_missing: route.zero_missing_fields,
            reject_unknown: route.reject_unknown_fields,
            ..Manner::default()
        };
        let mut decoder = Decoder {
            slots: Vec::new(),
            heads: Vec::new(),
            columns: Vec::new(),
            given: Vec::new(),
            root: Node::default(),
            around: route.rows.as_ref().map(|_| Node::default()),
            marked: Vec::new(),
            nested: Vec::new(),
            is_plain: false,
            endings: Vec::new(),
            reads_json: route.reject_unknown_fields || route.rows.is_some(),
            row: Scratch {
                filled: Filled::new(table.len()),
                places: vec![None; table.len() + 1],
                was_cut: vec![false; table.len()],
                manner,
                ..Scratch::default()
            },
        };
        for column in table {
            decoder.add(path, route, column)?;
            // A field that bears a column's name is known, even where the column is filled from elsewhere.
            for node in [Some(&mut decoder.root), decoder.around.as_mut()].into_iter().flatten() {
                node.mention(&[Segment::Field(column.name.clone())]);
            }
        }
        if let (Some(around), Some(rows)) = (&mut decoder.around, &route.rows) {
            around.insert(&rows.segments, table.len());
        }
        decoder.nested = nested_columns(table);
        decoder.add_flags(table);
        let marks = |column: &Column| {
            let mut lengths = Vec::new();
            column.mark_row(&mut lengths);
            !lengths.is_empty()
        };
        decoder.marked = (0..decoder.columns.len()).filter(|at| marks(&decoder.columns[*at])).collect();
        decoder.root.prepare(&decoder.slots);
        match &mut decoder.around {
            Some(around) => around.prepare(&decoder.slots),
            None => decoder.is_plain = decoder.reads_json && decoder.root.takes_members_alone(),
        }
        if decoder.nested.is_empty() && decoder.columns.len() == decoder.slots.len() {
            decoder.endings = vec![Ending::default(); decoder.root.steps().as_slice().len() + 1];
        }
        Ok(decoder)
    }

    fn add(&mut self, path: &str, route: &Route, column: &TableColumn) -> Result<()> {
        let TableColumn { name, column_type, default: table_default, is_added } = column;
        let path = format!("{path}.columns.{name}");
        let at = self.slots.len();
        let captured = |name: &str| route.topic.names().position(|n| n == name);

        // A column with a DEFAULT is sent as Nullable: NULL then means "compute the default for this row"; how, is
        // for `sink::tables` to say.
        let nullable = column_type.nullable || (table_default.is_some() && column_type.kind.can_be_null());
        let holds_null =
            nullable || (matches!(column_type.kind, Kind::Variant(_)) && table_default.is_none());
        let mut slot = Slot {
            name: name.clone(),
            column_type: ColumnType { nullable, ..column_type.clone() },
            unit: Unit::Auto,
            quick: Quick::of(&column_type.kind),
            missing: match (holds_null, table_default, route.zero_missing_fields || *is_added) {
                (true, _, _) => Missing::Null,
                // Its place is known when all columns are.
                (false, Some(_), _) => Missing::Flagged(0),
                (false, None, true) => Missing::Zero,
                (false, None, false) => Missing::Refused,
            },
            lengths: 0,
        };

        let mut json_path = None;
        match route.columns.iter().find(|(n, _)| n == name).map(|(_, source)| source) {
            None => match captured(name) {
                Some(index) => self.given.push((at, Given::Topic(index))),
                None => {
                    json_path = Some(Path::field(name));
                    if let (Some((group, part)), Kind::Array(_)) = (name.split_once('.'), &column_type.kind) {
                        // The column of a Nested: also the member of an object of lists, or of a list of objects.
                        self.root.insert(&[Segment::Field(group.into()), Segment::Field(part.into())], at);
                        self.root.nest(group, part, at);
                    }
                }
            },
            Some(ColumnSource::Path { path: wanted, default, unit, fields }) => {
                slot.unit = *unit;
                if !fields.is_empty() && !name_elements(&mut slot.column_type, fields) {
                    let message = format!(
                        "needs a Tuple or a Point of {} elements, the column is {}",
                        fields.len(),
                        column_type.inner_name
                    );
                    return Err(Error::config(format!("{path}.fields"), message));
                }
                if let Some(value) = default.as_ref().filter(|value| !value.is_null()) {
                    slot.missing = Missing::Value(constant(&format!("{path}.default"), &slot, value)?);
                }
                json_path = Some(wanted.clone());
            }
            Some(ColumnSource::Topic(name)) => {
                let index =
                    captured(name).ok_or_else(|| Error::config(&path, "the topic has no such name"))?;
                self.given.push((at, Given::Topic(index)));
            }
            Some(ColumnSource::Meta(Meta::Payload)) if matches!(column_type.kind, Kind::Json) => {
                json_path = Some(Path { root: Root::Document, segments: Vec::new() });
            }
            Some(ColumnSource::Meta(meta)) => {
                check_meta(&path, *meta, column_type)?;
                self.given.push((at, Given::Meta(*meta)));
            }
            Some(ColumnSource::UserProperty(key)) => self.given.push((at, Given::UserProperty(key.clone()))),
            Some(ColumnSource::Value(value)) if value.is_null() => {
                if matches!(slot.missing, Missing::Zero | Missing::Refused) {
                    return Err(Error::config(
                        format!("{path}.value"),
                        "null does not fit a column that is not Nullable",
                    ));
                }
            }
            Some(ColumnSource::Value(value)) => {
                let constant = constant(&format!("{path}.value"), &slot, value)?;
                self.given.push((at, Given::Constant(constant)));
            }
        }
        let is_text = |given: &Given| matches!(given, Given::Topic(_) | Given::UserProperty(_));
        let is_compound = !column_type.kind.can_be_null() || matches!(column_type.kind, Kind::Json);
        if is_compound && self.given.last().is_some_and(|(slot, given)| *slot == at && is_text(given)) {
            let message = format!("a text cannot be put into a column of type {}", column_type.inner_name);
            return Err(Error::config(&path, message));
        }
        if let Some(Path { root, segments }) = json_path {
            self.reads_json = true;
            match &mut self.around {
                Some(around) if root != Root::Element => around.insert(&segments, at),
                _ => {}
            }
            if self.around.is_none() || root != Root::Document {
                self.root.insert(&segments, at);
            }
        }

        self.heads.push((name.clone(), slot.column_type.wire_name()));
        self.columns.push(Column::new(&slot.column_type, nullable));
        self.slots.push(slot);
        Ok(())
    }

    /// Adds the columns that say where a default is to be computed, behind those of the table.
    fn add_flags(&mut self, table: &[TableColumn]) {
        let mut lengths = Vec::new();
        for ((slot, column), described) in self.slots.iter_mut().zip(&self.columns.clone()).zip(table) {
            slot.lengths = lengths.len();
            column.mark_row(&mut lengths);
            if let (Missing::Flagged(flag), Some(name)) = (&mut slot.missing, described.missing_flag(table)) {
                *flag = self.columns.len();
                self.heads.push((name, "Bool".into()));
                self.columns.push(Column::flags());
            }
        }
    }
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

/// A column of one row: a value of the configuration.
fn constant(path: &str, slot: &Slot, value: &serde_json::Value) -> Result<Column> {
    let mut column = Column::new(&slot.column_type, slot.column_type.nullable);
    let mut manner = Manner { unit: slot.unit, ..Manner::default() };
    match value::read(
        &mut Reader::new(value.to_string().as_bytes()),
        &slot.column_type,
        &mut column,
        &mut manner,
    ) {
        Ok(_) => Ok(column),
        Err(reason) => Err(Error::config(path, &*reason.message)),
    }
}

/// Gives names to the elements of a Tuple, or of those in an Array; `false` if there are not as many.
fn name_elements(column_type: &mut ColumnType, names: &[String]) -> bool {
    match &mut column_type.kind {
        Kind::Array(items) => name_elements(items, names),
        Kind::Tuple(elements) if elements.len() == names.len() => {
            elements.iter_mut().zip(names).for_each(|(element, name)| element.name = Some(name.clone()));
            true
        }
        _ => false,
    }
}

/// The columns `n.a`, `n.b` of each Nested `n`.
fn nested_columns(table: &[TableColumn]) -> Vec<Vec<usize>> {
    let mut groups: Vec<(&str, Vec<usize>)> = Vec::new();
    for (at, column) in table.iter().enumerate() {
        let (Some((group, _)), Kind::Array(_)) = (column.name.split_once('.'), &column.column_type.kind)
        else {
            continue;
        };
        match groups.iter_mut().find(|(name, _)| *name == group) {
            Some((_, columns)) => columns.push(at),
            None => groups.push((group, vec![at])),
        }
    }
    groups.into_iter().map(|(_, columns)| columns).filter(|columns| columns.len() > 1).collect()
}
