//! Columns that are filled from a map of the program's, by a key of the message.
//!
//! A key that stands in the payload is read by the walk like any other value: it is in the column that has it as a text
//! anyway, or in a column of its own that no block has.

use std::sync::Arc;

use crate::clickhouse::schema::TableColumn;
use crate::clickhouse::{Column, ColumnType, Kind};
use crate::config::{ColumnSource, LookupKey, LookupSource, Reading, Route};
use crate::core::json_path::Path;
use crate::core::lookups::{Lookup, LookupMap, LookupValue};
use crate::core::reason::Reason;
use crate::core::varint;
use crate::decode::checkpoint::Checkpoint;
use crate::decode::format::json::lexer::Reader;
use crate::decode::number::TerminatedBytes;
use crate::decode::value::{self, DecodeContext, FastKind};
use crate::decode::value_reader::Result;
use crate::decode::{ColumnBinding, Message, ValueSource};

/// How one column finds its value.
#[derive(Debug, Clone)]
pub struct LookupColumn {
    lookup: Arc<Lookup>,
    field: usize,
    key: KeyPlace,
    /// The map as it was for the last message.
    map: Arc<LookupMap>,
    generation: u64,
}

#[derive(Debug, Clone)]
enum KeyPlace {
    /// A column of texts, and where its bytes before the row are noted.
    Column {
        at: usize,
        mark: usize,
    },
    /// A named level of the topic, by its place among the captures.
    Level(usize),
    Topic,
    ClientId,
    UserProperty(String),
}

impl LookupColumn {
    /// `key_column` is where a key of the payload is, as [`key_column`] has it; none for others.
    pub fn new(
        source: &LookupSource,
        route: &Route,
        key_column: Option<usize>,
        bindings: &[ColumnBinding],
    ) -> LookupColumn {
        let (generation, map) = source.lookup.current();
        let key = match (&source.key, key_column) {
            (LookupKey::Level(name), _) => {
                KeyPlace::Level(route.topic.names().position(|level| level == name).unwrap_or(usize::MAX))
            }
            (LookupKey::ClientId, _) => KeyPlace::ClientId,
            (LookupKey::UserProperty(name), _) => KeyPlace::UserProperty(name.clone()),
            (LookupKey::Path(_), Some(at)) => {
                let binding = &bindings[at];
                // The first mark of a Nullable is that of its NULLs.
                KeyPlace::Column { at, mark: binding.lengths + usize::from(binding.column_type.nullable) }
            }
            (LookupKey::Topic | LookupKey::Path(_), _) => KeyPlace::Topic,
        };
        LookupColumn { lookup: source.lookup.clone(), field: source.place, key, map, generation }
    }

    /// Takes the map as it is now.
    #[inline]
    pub fn refresh(&mut self) {
        if self.lookup.generation() != self.generation {
            (self.generation, self.map) = self.lookup.current();
        }
    }

    /// Fills a column; says whether there was a value. `start` is how far the columns were before the row.
    #[inline]
    pub fn put(
        &self,
        at: usize,
        columns: &mut [Column],
        binding: &ColumnBinding,
        message: &Message<'_>,
        start: &Checkpoint,
    ) -> Result<bool> {
        let key = match &self.key {
            KeyPlace::Column { at, mark } => start.text(&columns[*at], *mark),
            KeyPlace::Level(place) => Some(message.captures.get(*place, message.topic).as_bytes()),
            KeyPlace::Topic => Some(message.topic.as_bytes()),
            KeyPlace::ClientId => Some(message.client_id.as_bytes()),
            KeyPlace::UserProperty(name) => message.properties.user(name).map(str::as_bytes),
        };
        let Some(key) = key else { return Ok(false) };
        let Some(entry) = self.map.find(key) else {
            self.lookup.count_miss();
            return Ok(false);
        };
        let Some(value) = self.map.value(entry, self.field) else { return Ok(false) };
        let column = &mut columns[at];
        if let (LookupValue::Plain(text, _), FastKind::Text) = (&value, binding.fast_kind) {
            column.push_string(text);
            return Ok(true);
        }
        let text = value.json();
        if let Some(bytes) = TerminatedBytes::new(text)
            && value::read_fast(bytes, 0, binding.fast_kind, binding.unit, column).is_some()
        {
            return Ok(true);
        }
        let mut context = DecodeContext { unit: binding.unit, ..DecodeContext::default() };
        value::read_other(&mut Reader::new(text), &binding.column_type, column, &mut context)
            .map_err(|reason| self.at_fault(binding, &reason))
    }

    #[cold]
    fn at_fault(&self, binding: &ColumnBinding, reason: &Reason) -> Box<Reason> {
        let message =
            format!("the lookup {} has a value that does not fit: {}", self.lookup.name(), reason.message);
        Box::new(Reason::new(reason.code, message).about(&binding.name))
    }
}

impl Checkpoint {
    /// The text of the newest row, if a row was appended since; `mark` is the place of the number of bytes.
    #[inline]
    fn text<'c>(&self, column: &'c Column, mark: usize) -> Option<&'c [u8]> {
        let data = match column {
            Column::Strings { data, rows } if *rows > self.rows() => data,
            Column::Nullable { nulls, values } if nulls.len() > self.rows() && nulls.last() == Some(&0) => {
                match &**values {
                    Column::Strings { data, .. } => data,
                    _ => return None,
                }
            }
            _ => return None,
        };
        let mut rest = data.get(self.length(mark)?..)?;
        varint::read::<10>(&mut rest).ok()?;
        Some(rest)
    }
}

/// The keys of a route that stand in its payloads.
pub fn key_paths(route: &Route) -> impl Iterator<Item = &Path> {
    route.sources().filter_map(|(_, source)| key_path(source))
}

/// The path of the key of a source.
pub fn key_path(source: &ColumnSource) -> Option<&Path> {
    match source {
        ColumnSource::Lookup(LookupSource { key: LookupKey::Path(path), .. }) => Some(path),
        _ => None,
    }
}

/// The column of texts that has just what stands at a path.
pub fn key_column(route: &Route, table: &[TableColumn], path: &Path) -> Option<usize> {
    table.iter().position(|TableColumn { name, column_type, .. }| {
        let is_as_written = match route.source_of(name) {
            None => true,
            Some(ColumnSource::Path { reading, .. }) => *reading == Reading::default(),
            Some(_) => false,
        };
        let is_there = |source: ValueSource| match source {
            ValueSource::Payload { path: own, list: None, unit: None, default: None } => own == *path,
            _ => false,
        };
        matches!(column_type.kind, Kind::String)
            && is_as_written
            && is_there(ValueSource::of(route, name, column_type))
    })
}

/// The column of a key that none of the `table` has.
pub fn own_column(path: &Path) -> TableColumn {
    TableColumn {
        name: format!("the key {path} of a lookup"),
        column_type: ColumnType::text(),
        default: None,
        is_ephemeral: false,
        is_added: false,
    }
}
