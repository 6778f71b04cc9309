//! A route's mapping and the columns of its table, made into a decoder. A mapping that cannot fit is an
//! error here, before a start.

use std::sync::Arc;

use crate::clickhouse::schema::TableColumn;
use crate::clickhouse::{Column, ColumnType, Kind};
use crate::config::{ColumnSource, Format, Input, LookupSource, Meta, PayloadCompression, Route, Unit};
use crate::core::error::{Error, Result};
use crate::core::json_path::{Path, Root, Segment};
use crate::decode::condition::Filter;
use crate::decode::documents::DocumentPlan;
use crate::decode::fill::Filled;
use crate::decode::format::json::lexer::Reader;
use crate::decode::lookup_column::{self, LookupColumn, key_column};
use crate::decode::non_payload::{MissingPolicy, NonPayloadSource, RowCompletion};
use crate::decode::path_tree::PathNode;
use crate::decode::required_paths::RequiredPaths;
use crate::decode::scalar_paths::ScalarPaths;
use crate::decode::value::{self, DecodeContext, FastKind};
use crate::decode::value_source::ValueSource;
use crate::decode::{ColumnBinding, Decoder, Scratch, Unpacking};

impl TableColumn {
    /// The column of a block that says for which rows the default is to be computed, or the state of no value. NULL says it by
    /// itself, where the type knows NULL. No column of the `table` has this name.
    pub fn missing_flag(&self, table: &[TableColumn]) -> Option<String> {
        if !self.is_flagged() {
            return None;
        }
        let mut prefix = "missing ".to_string();
        while table.iter().any(|column| column.name.starts_with(&prefix)) {
            prefix.push(' ');
        }
        Some(prefix + &self.name)
    }

    /// Whether it has a [`TableColumn::missing_flag`].
    pub fn is_flagged(&self) -> bool {
        (self.default.is_some() || self.column_type.aggregate.is_some())
            && !self.column_type.kind.can_be_null()
    }
}

impl Decoder {
    /// Joins a route's mapping with its table. Errors carry the path of the option, below `path`
    /// (such as `routes[0]`).
    pub fn new(path: &str, route: &Route, table: &[TableColumn]) -> Result<Decoder> {
        for (name, _) in &route.columns {
            if !table.iter().any(|column| column.name == *name || is_part_of(column, name)) {
                return Err(Error::ColumnNotFound {
                    path: format!("{path}.columns.{name}"),
                    column: name.clone(),
                    table: route.table.clone(),
                });
            }
        }
        let mut filled: Vec<TableColumn> = table.iter().cloned().chain(inputs(path, route, table)?).collect();
        let without_keys = filled.len();
        let mut keys: Vec<&Path> = Vec::new();
        for key in lookup_column::key_paths(route) {
            if key_column(route, &filled[..without_keys], key).is_none() && !keys.contains(&key) {
                keys.push(key);
                filled.push(lookup_column::own_column(key));
            }
        }
        let inputs = table.len()..filled.len();
        let table = &filled[..];
        let context = DecodeContext {
            zero_missing: route.zero_missing_fields,
            reject_unknown: route.reject_unknown_fields,
            ..DecodeContext::default()
        };
        let mut decoder = Decoder {
            bindings: Vec::new(),
            heads: Vec::new(),
            columns: Vec::new(),
            inputs,
            keys: without_keys..table.len(),
            has_lookups: false,
            non_payload: Vec::new(),
            root: PathNode::default(),
            document_root: route.rows.as_ref().map(|_| PathNode::default()),
            marked: Vec::new(),
            nested: Vec::new(),
            is_plain: false,
            row_completions: Vec::new(),
            documents: None,
            filter: Filter::of(route),
            reads_parts: false,
            max_row_bytes: route.max_decoded_bytes,
            unpacking: Unpacking {
                compression: route.compression,
                max_bytes: route.max_payload_bytes,
                is_json: route.format == Format::Json,
            },
            reads_json: route.reject_unknown_fields
                || route.rows.is_some()
                || !route.zip.is_empty()
                || Filter::of(route).is_some_and(|filter| filter.reads_payload()),
            row: Scratch {
                filled: Filled::new(table.len()),
                places: vec![None; table.len() + 1],
                was_truncated: vec![false; table.len()],
                scalars: ScalarPaths::new(table.len()),
                context,
                ..Scratch::default()
            },
        };
        for (at, column) in table.iter().enumerate() {
            if let Some(key) = at.checked_sub(without_keys) {
                decoder.add(path, route, column, Some(keys[key]))?;
                continue;
            }
            decoder.add(path, route, column, None)?;
            // A field that bears a column's name is known, even where the column is filled from elsewhere.
            for node in [Some(&mut decoder.root), decoder.document_root.as_mut()].into_iter().flatten() {
                node.mark_known(&[Segment::Field(column.name.clone())]);
            }
        }
        if let (Some(document_root), Some(rows)) = (&mut decoder.document_root, &route.rows) {
            document_root.insert(&rows.segments, table.len());
        }
        let filter = decoder.filter.iter().filter(|_| route.reject_unknown_fields);
        for path in filter.flat_map(Filter::paths).filter(|path| path.is_simple()) {
            decoder.root.mark_known(&path.segments);
        }
        decoder.row.required = RequiredPaths::new(&decoder.bindings);
        decoder.nested = nested_columns(&table[..without_keys]);
        decoder.add_flags(table);
        decoder.add_lookups(route, &table[..without_keys], &keys);
        let marks = |column: &Column| {
            let mut lengths = Vec::new();
            column.mark_row(&mut lengths);
            !lengths.is_empty()
        };
        decoder.marked = (0..decoder.columns.len()).filter(|at| marks(&decoder.columns[*at])).collect();
        decoder.root.prepare(&decoder.bindings);
        match &mut decoder.document_root {
            Some(document_root) => document_root.prepare(&decoder.bindings),
            None => decoder.is_plain = decoder.is_walked_plainly() && decoder.filter.is_none(),
        }
        if let Some(plan) = DocumentPlan::of(path, route, &decoder.bindings, decoder.filter.as_mut())? {
            decoder.documents = Some(Arc::new(plan));
        }
        decoder.is_plain &= decoder.documents.is_none() && route.compression == PayloadCompression::None;
        if decoder.nested.is_empty() && decoder.columns.len() == decoder.bindings.len() {
            decoder.row_completions =
                vec![RowCompletion::default(); decoder.root.key_order().as_slice().len() + 1];
        }
        Ok(decoder)
    }

    /// `key` is the path of a column that has the key of a lookup.
    fn add(&mut self, path: &str, route: &Route, column: &TableColumn, key: Option<&Path>) -> Result<()> {
        let TableColumn { name, column_type, default: table_default, is_added, .. } = column;
        let path = format!("{path}.columns.{name}");
        let at = self.bindings.len();
        let source = match key {
            Some(path) => ValueSource::Key { path: path.clone() },
            None => ValueSource::of(route, name, column_type),
        };

        // A column with a DEFAULT is sent as Nullable: NULL then means "compute the default for this row"; how, is
        // for `Table::insert_sql` to say. NULL for a column of states means "the state of no value".
        let is_state = column_type.aggregate.is_some();
        let nullable =
            column_type.nullable || ((table_default.is_some() || is_state) && column_type.kind.can_be_null());
        let is_unread = matches!(source, ValueSource::Computed | ValueSource::Key { .. });
        let is_zero = route.zero_missing_fields || *is_added || is_unread;
        let holds_null = match is_state && !column_type.nullable && table_default.is_none() {
            true => is_zero && nullable,
            false => nullable || (column_type.kind.holds_null() && table_default.is_none()),
        };
        let mut binding = ColumnBinding {
            name: name.clone(),
            column_type: {
                let mut own = column_type.clone();
                own.nullable = nullable;
                own
            },
            unit: Unit::Auto,
            fast_kind: FastKind::of(&column_type.kind),
            missing: match (holds_null, table_default, is_zero) {
                (true, _, _) => MissingPolicy::Null,
                (false, Some(_), _) => MissingPolicy::Flagged,
                (false, None, true) if is_state => MissingPolicy::Flagged,
                (false, None, true) => MissingPolicy::Zero,
                (false, None, false) => MissingPolicy::Refused,
            },
            source,
            lengths: 0,
            has_default: table_default.is_some(),
            // Known when all columns are.
            flag: None,
        };
        let given = route.source_of(name);
        let group =
            route.columns.iter().find(|(given, _)| is_part_of(column, given)).map(|(_, source)| source);
        if let Some(ColumnSource::Path { default, unit, fields, .. }) = given.or(group) {
            binding.unit = *unit;
            if !fields.is_empty() && !name_elements(&mut binding.column_type, fields) {
                let message = format!(
                    "needs a Tuple or a Point of {} elements, the column is {}",
                    fields.len(),
                    column_type.inner_name
                );
                return Err(Error::config(format!("{path}.fields"), message));
            }
            if let Some(value) = default.as_ref().filter(|value| !value.is_null()) {
                binding.missing =
                    MissingPolicy::Value(constant(&format!("{path}.default"), &binding, value)?);
            }
        }
        if let Some(ColumnSource::Lookup(LookupSource { default: Some(value), .. })) = given
            && !value.is_null()
        {
            binding.missing = MissingPolicy::Value(constant(&format!("{path}.default"), &binding, value)?);
        }
        match &binding.source.clone() {
            ValueSource::Payload { path, list, .. } => {
                self.add_path(path, list.as_deref(), at);
                if given.is_none() && group.is_some() {
                    self.add_part(path, at);
                }
            }
            ValueSource::Key { path } => self.add_path(path, None, at),
            ValueSource::Document => {
                self.add_path(&Path { root: Root::Document, segments: Vec::new() }, None, at);
            }
            _ => {
                if let Some(value) = non_payload(&path, route, given, &binding)? {
                    self.non_payload.push((at, value));
                }
            }
        }
        if !self.inputs.contains(&at) {
            self.heads.push((name.clone(), binding.column_type.wire_name()));
        }
        self.columns.push(Column::new(&binding.column_type, nullable));
        self.bindings.push(binding);
        Ok(())
    }

    /// Has a column filled from a path of the payload.
    fn add_path(&mut self, path: &Path, list: Option<&str>, at: usize) {
        let Path { root, segments } = path;
        if let (Some(list), [Segment::Field(part)]) = (list, segments.as_slice()) {
            // The column of a Nested: the member of an object of lists, or of a list of objects; or a field of its name.
            self.root.insert(&[Segment::Field(list.into()), Segment::Field(part.clone())], at);
            self.root.nest(&[Segment::Field(list.into())], part, at);
            return self.add_path(&Path::field(&format!("{list}.{part}")), None, at);
        }
        // The walk takes simple paths alone; others are followed on a tape.
        if !path.is_simple() {
            self.reads_json = true;
            return;
        }
        self.reads_json = true;
        match &mut self.document_root {
            Some(document_root) if *root != Root::Element => document_root.insert(segments, at),
            _ => {}
        }
        if self.document_root.is_none() || *root != Root::Document {
            self.root.insert(segments, at);
        }
    }

    /// Has the column of a Nested filled from the objects of a list that is elsewhere.
    fn add_part(&mut self, path: &Path, at: usize) {
        if let Some((Segment::Field(part), list)) = path.segments.split_last()
            && path.is_simple()
            && self.document_root.is_none()
        {
            self.root.nest(list, part, at);
        }
    }

    /// Adds the columns that are filled from maps, when it is known where their keys are. `table` is without those of `keys`.
    fn add_lookups(&mut self, route: &Route, table: &[TableColumn], keys: &[&Path]) {
        for at in 0..table.len() {
            let Some(source @ ColumnSource::Lookup(lookup)) = route.source_of(&self.bindings[at].name) else {
                continue;
            };
            let column_of = |path: &Path| {
                let own = || Some(table.len() + keys.iter().position(|key| *key == path)?);
                key_column(route, table, path).or_else(own)
            };
            let key = lookup_column::key_path(source).and_then(column_of);
            let column = LookupColumn::new(lookup, route, key, &self.bindings);
            self.non_payload.push((at, NonPayloadSource::Lookup(Box::new(column))));
            self.has_lookups = true;
        }
    }

    /// Adds the columns that say where a default is to be computed, behind those of the table.
    fn add_flags(&mut self, table: &[TableColumn]) {
        let mut lengths = Vec::new();
        for ((binding, column), described) in self.bindings.iter_mut().zip(&self.columns.clone()).zip(table) {
            binding.lengths = lengths.len();
            column.mark_row(&mut lengths);
            if let Some(name) = described.missing_flag(table) {
                binding.flag = Some(self.columns.len());
                self.heads.push((name, "Bool".into()));
                self.columns.push(Column::flags());
            }
        }
    }
}

/// The columns that only the transform of a route reads.
fn inputs(path: &str, route: &Route, table: &[TableColumn]) -> Result<Vec<TableColumn>> {
    let inputs = route.transform.iter().flat_map(|transform| &transform.inputs);
    let input = |Input { name, type_name, .. }: &Input| {
        let path = format!("{path}.inputs.{name}");
        if table.iter().any(|column| column.name == *name) {
            let message = format!("is a column of {}: a transform reads it without being told", route.table);
            return Err(Error::config(path, message));
        }
        let column_type = ColumnType::parse(type_name, "UTC")
            .map_err(|advice| Error::config(format!("{path}.type"), format!("is {type_name}, {advice}")))?;
        Ok(TableColumn {
            name: name.clone(),
            column_type,
            default: None,
            is_ephemeral: false,
            is_added: false,
        })
    };
    inputs.map(input).collect()
}

/// A value that does not come from the payload; none for one that is always NULL.
fn non_payload(
    path: &str,
    route: &Route,
    given: Option<&ColumnSource>,
    binding: &ColumnBinding,
) -> Result<Option<NonPayloadSource>> {
    let ColumnBinding { column_type, source, .. } = binding;
    let value = match (source, given) {
        (ValueSource::Topic { name, .. }, _) => {
            let place = route.topic.names().position(|level| level == name);
            let place = place.ok_or_else(|| Error::config(path, "the topic has no such name"))?;
            NonPayloadSource::Topic(place)
        }
        (_, Some(ColumnSource::Meta(meta))) => {
            check_meta(path, *meta, column_type)?;
            return Ok(Some(NonPayloadSource::Meta(*meta)));
        }
        (ValueSource::UserProperty { name }, _) => NonPayloadSource::UserProperty(name.clone()),
        (ValueSource::Constant { value }, _) if value.is_null() => {
            if matches!(binding.missing, MissingPolicy::Zero | MissingPolicy::Refused) {
                let message = "null does not fit a column that is not Nullable";
                return Err(Error::config(format!("{path}.value"), message));
            }
            return Ok(None);
        }
        (ValueSource::Constant { value }, _) => {
            let constant = constant(&format!("{path}.value"), binding, value)?;
            return Ok(Some(NonPayloadSource::Constant(constant)));
        }
        _ => return Ok(None),
    };
    let is_compound = !column_type.kind.can_be_null() || matches!(column_type.kind, Kind::Json(_));
    if is_compound {
        let message = format!("a text cannot be put into a column of type {}", column_type.inner_name);
        return Err(Error::config(path, message));
    }
    Ok(Some(value))
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
fn constant(path: &str, binding: &ColumnBinding, value: &serde_json::Value) -> Result<Column> {
    let mut column = Column::new(&binding.column_type, binding.column_type.nullable);
    let mut context = DecodeContext { unit: binding.unit, ..DecodeContext::default() };
    match value::read(
        &mut Reader::new(value.to_string().as_bytes()),
        &binding.column_type,
        &mut column,
        &mut context,
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

/// Whether a column is `n.a` of the Nested `n`.
pub fn is_part_of(column: &TableColumn, nested: &str) -> bool {
    let part = column.name.strip_prefix(nested).and_then(|rest| rest.strip_prefix('.'));
    part.is_some() && matches!(column.column_type.kind, Kind::Array(_))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn routes_of_plain_objects_are_read_the_fast_way() {
        for (columns, is_plain) in [
            (serde_json::json!({}), true),
            (serde_json::json!({ "speed": "$.motion.speed" }), true),
            // Where the root may be a list, it is walked over.
            (serde_json::json!({ "speed": "$[0]" }), false),
            (serde_json::json!({ "parts": "$" }), false),
        ] {
            let config = serde_json::json!({
                "mqtt": { "url": "mqtt://x" },
                "clickhouse": { "url": "http://x" },
                "routes": [{ "topic": "t", "table": "t", "columns": columns }],
            });
            let table: Vec<TableColumn> =
                [("speed", "Float64"), ("name", "String"), ("parts.id", "Array(UInt8)")]
                    .map(|(name, column_type)| TableColumn {
                        name: name.into(),
                        column_type: ColumnType::parse(column_type, "UTC").unwrap(),
                        default: None,
                        is_ephemeral: false,
                        is_added: false,
                    })
                    .into();
            let config = Config::parse(&config.to_string()).unwrap();
            let decoder = Decoder::new("routes[0]", &config.routes[0], &table).unwrap();
            assert_eq!(decoder.is_plain, is_plain, "{:?}", config.routes[0].columns);
        }
    }
}
