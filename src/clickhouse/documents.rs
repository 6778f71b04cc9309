//! The documents of a JSON column, by path, as a block carries them: see [`dynamic`](crate::clickhouse::dynamic).

use std::collections::HashMap;

use crate::clickhouse::Column;
use crate::clickhouse::dynamic::{Dynamic, put_bytes, skip_dynamic, take_bytes, take_varint};
use crate::clickhouse::json_type::JsonLayout;
use crate::clickhouse::native::BlockSink;
use crate::core::varint;

/// More paths than this are not made columns, whatever a type allows.
const MAX_PATHS: usize = 1024;
/// Source: ClickHouse, `SerializationObject::SerializationVersion`.
const OBJECT_V1: u64 = 0;

/// A JSON column of a block: its values by path.
#[derive(Debug, Clone)]
pub struct Documents {
    layout: JsonLayout,
    typed: Vec<Column>,
    paths: Vec<(String, Dynamic)>,
    places: HashMap<String, usize>,
    /// Paths beyond the limit: where the values of each row end, the paths, and the values as they are.
    shared_ends: Vec<u8>,
    shared_paths: Vec<u8>,
    shared_values: Vec<u8>,
    shared_count: u64,
    pub rows: usize,
}

impl Documents {
    pub fn new(layout: JsonLayout) -> Documents {
        let typed = layout.typed().iter().map(|(_, typed)| Column::new(typed, typed.nullable)).collect();
        Documents {
            layout,
            typed,
            paths: Vec::new(),
            places: HashMap::new(),
            shared_ends: Vec::new(),
            shared_paths: Vec::new(),
            shared_values: Vec::new(),
            shared_count: 0,
            rows: 0,
        }
    }

    /// Appends the document that stands at the beginning of `bytes`, and takes it off them.
    pub fn push(&mut self, bytes: &mut &[u8]) {
        if !self.typed.is_empty() {
            for _ in 0..take_varint(bytes) {
                let place = take_varint(bytes);
                let mut row = take_bytes(bytes);
                if let Some(column) = self.typed.get_mut(place) {
                    column.take_rows(1, &mut row);
                }
            }
            for column in self.typed.iter_mut().filter(|column| column.rows() == self.rows) {
                column.push_zero();
            }
        }
        let mut shared = Vec::new();
        for _ in 0..take_varint(bytes) {
            let path = String::from_utf8_lossy(take_bytes(bytes));
            let place = match self.places.get(&*path) {
                Some(place) => Some(*place),
                None if self.paths.len() < self.layout.limits.paths.min(MAX_PATHS) => {
                    let path = path.to_string();
                    self.places.insert(path.clone(), self.paths.len());
                    self.paths.push((path, Dynamic::new(self.layout.limits.types, self.layout.limits)));
                    Some(self.paths.len() - 1)
                }
                None => None,
            };
            match place {
                Some(place) => {
                    let values = &mut self.paths[place].1;
                    values.pad(self.rows);
                    values.push(bytes);
                }
                None => {
                    let start = *bytes;
                    skip_dynamic(bytes);
                    shared.push((path, &start[..start.len() - bytes.len()]));
                }
            }
        }
        // ClickHouse looks for a path there by halving.
        shared.sort();
        for (path, value) in &shared {
            put_bytes(&mut self.shared_paths, path.as_bytes());
            put_bytes(&mut self.shared_values, value);
        }
        self.shared_count += shared.len() as u64;
        self.shared_ends.extend_from_slice(&self.shared_count.to_le_bytes());
        self.rows += 1;
    }

    /// To be called when all rows are in.
    pub fn complete(&mut self) {
        self.typed = self.typed.iter().map(Column::arranged).collect();
        for (_, values) in &mut self.paths {
            values.pad(self.rows);
            values.complete();
        }
        self.paths.sort_by(|(one, _), (other, _)| one.cmp(other));
    }

    pub fn encode_prefix(&self, out: &mut impl BlockSink) {
        let mut head = OBJECT_V1.to_le_bytes().to_vec();
        varint::write(&mut head, self.layout.limits.paths as u64);
        varint::write(&mut head, self.paths.len() as u64);
        self.paths.iter().for_each(|(path, _)| put_bytes(&mut head, path.as_bytes()));
        out.put(&head);
        self.typed.iter().for_each(|column| column.encode_prefix(out));
        self.paths.iter().for_each(|(_, values)| values.encode_prefix(out));
    }

    pub fn encode_values(&self, out: &mut impl BlockSink) {
        self.typed.iter().for_each(|column| column.encode_values(out));
        self.paths.iter().for_each(|(_, values)| values.encode_values(out));
        out.put(&self.shared_ends);
        out.put(&self.shared_paths);
        out.put(&self.shared_values);
    }
}
