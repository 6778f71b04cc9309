//! A column as a block carries it.

use crate::clickhouse::Column;
use crate::clickhouse::documents::Documents;
use crate::clickhouse::dynamic::{self, Dynamic};
use crate::clickhouse::json_type::Limits;
use crate::clickhouse::native::BlockSink;

/// How the discriminators of a Variant are written: 0 is one byte for each row.
/// Source: ClickHouse, `SerializationVariant::DiscriminatorsSerializationMode`.
pub const BASIC_DISCRIMINATORS: u64 = 0;

impl Column {
    /// Writes the column as a block carries it: first what precedes all values, then the values.
    pub fn encode(&self, out: &mut impl BlockSink) {
        if self.has_dynamic_values() {
            let arranged = self.arranged();
            arranged.encode_prefix(out);
            return arranged.encode_values(out);
        }
        self.encode_prefix(out);
        self.encode_values(out);
    }

    /// Whether a block carries it in another form than it is kept in.
    pub fn has_dynamic_values(&self) -> bool {
        match self {
            Column::Fixed { .. } | Column::Strings { .. } => false,
            Column::Json { .. } | Column::Dynamic { .. } => true,
            Column::Nullable { values: inner, .. } | Column::Array { items: inner, .. } => {
                inner.has_dynamic_values()
            }
            Column::Tuple { parts, .. } | Column::Variant { parts, .. } => {
                parts.iter().any(Column::has_dynamic_values)
            }
            Column::ByPath(_) | Column::ByType(_) => false,
        }
    }

    /// The same with JSON and Dynamic values in columns by path and type.
    pub fn arranged(&self) -> Column {
        let all = |parts: &[Column]| parts.iter().map(Column::arranged).collect();
        let each = |data: &[u8], push: &mut dyn FnMut(&mut &[u8])| {
            let mut rest = data;
            while !rest.is_empty() {
                dynamic::take_varint(&mut rest);
                push(&mut rest);
            }
        };
        match self {
            Column::Json { layout, data, .. } => {
                let mut documents = Documents::new((**layout).clone());
                each(data, &mut |row| documents.push(row));
                documents.complete();
                Column::ByPath(Box::new(documents))
            }
            Column::Dynamic { max_types, data, .. } => {
                let mut values = Dynamic::new(*max_types, Limits::default());
                each(data, &mut |row| values.push(row));
                values.complete();
                Column::ByType(Box::new(values))
            }
            Column::Nullable { nulls, values } => {
                Column::Nullable { nulls: nulls.clone(), values: Box::new(values.arranged()) }
            }
            Column::Array { ends, items } => {
                Column::Array { ends: ends.clone(), items: Box::new(items.arranged()) }
            }
            Column::Tuple { parts, rows } => Column::Tuple { parts: all(parts), rows: *rows },
            Column::Variant { discriminators, parts } => {
                Column::Variant { discriminators: discriminators.clone(), parts: all(parts) }
            }
            other => other.clone(),
        }
    }

    pub fn encode_prefix(&self, out: &mut impl BlockSink) {
        match self {
            Column::Fixed { .. } | Column::Strings { .. } => {}
            Column::Json { .. } | Column::Dynamic { .. } => debug_assert!(false, "it is not arranged"),
            Column::ByPath(documents) => documents.encode_prefix(out),
            Column::ByType(dynamic) => dynamic.encode_prefix(out),
            Column::Nullable { values: inner, .. } | Column::Array { items: inner, .. } => {
                inner.encode_prefix(out);
            }
            Column::Tuple { parts, .. } => parts.iter().for_each(|part| part.encode_prefix(out)),
            Column::Variant { parts, .. } => {
                out.put(&BASIC_DISCRIMINATORS.to_le_bytes());
                parts.iter().for_each(|part| part.encode_prefix(out));
            }
        }
    }

    pub fn encode_values(&self, out: &mut impl BlockSink) {
        match self {
            Column::Fixed { data, .. }
            | Column::Strings { data, .. }
            | Column::Json { data, .. }
            | Column::Dynamic { data, .. } => out.put(data),
            Column::ByPath(documents) => documents.encode_values(out),
            Column::ByType(dynamic) => dynamic.encode_values(out),
            Column::Nullable { nulls: own, values: inner } | Column::Array { ends: own, items: inner } => {
                out.put(own);
                inner.encode_values(out);
            }
            // A Tuple of nothing is a zero as text.
            Column::Tuple { parts, rows } if parts.is_empty() => out.put(&vec![b'0'; *rows]),
            Column::Tuple { parts, .. } => parts.iter().for_each(|part| part.encode_values(out)),
            Column::Variant { discriminators, parts } => {
                out.put(discriminators);
                parts.iter().for_each(|part| part.encode_values(out));
            }
        }
    }

    /// Writes the values as the column keeps them, for [`Column::take_rows`].
    pub fn encode_kept(&self, out: &mut Vec<u8>) {
        self.encode_values(out);
    }

    /// How many bytes [`Column::encode_prefix`] writes for a column without dynamic values.
    pub fn prefix_len(&self) -> usize {
        match self {
            Column::Nullable { values: inner, .. } | Column::Array { items: inner, .. } => inner.prefix_len(),
            Column::Tuple { parts, .. } => parts.iter().map(Column::prefix_len).sum(),
            Column::Variant { parts, .. } => {
                size_of::<u64>() + parts.iter().map(Column::prefix_len).sum::<usize>()
            }
            _ => 0,
        }
    }

    /// Appends rows that [`Column::encode_values`] wrote of another column of the same type, not arranged, and takes them
    /// off `bytes`.
    pub fn take_rows(&mut self, count: usize, bytes: &mut &[u8]) {
        let mut take = |len: usize| {
            let (head, rest) = bytes.split_at(len.min(bytes.len()));
            *bytes = rest;
            head
        };
        match self {
            Column::Fixed { width, data, .. } => data.extend_from_slice(take(count * *width)),
            Column::Strings { .. } | Column::Json { .. } | Column::Dynamic { .. } => {
                for _ in 0..count {
                    let len = dynamic::take_varint(bytes);
                    let (head, rest) = bytes.split_at(len.min(bytes.len()));
                    *bytes = rest;
                    self.push_string(head);
                }
            }
            Column::Nullable { nulls, values } => {
                nulls.extend_from_slice(take(count));
                values.take_rows(count, bytes);
            }
            Column::Array { ends, items } => {
                let base = items.rows() as u64;
                let own = take(count * 8).as_chunks::<8>().0;
                own.iter()
                    .for_each(|end| ends.extend_from_slice(&(base + u64::from_le_bytes(*end)).to_le_bytes()));
                let more = own.last().map_or(0, |end| u64::from_le_bytes(*end));
                items.take_rows(more as usize, bytes);
            }
            Column::Tuple { parts, rows } => {
                *rows += count;
                if parts.is_empty() {
                    take(count);
                }
                parts.iter_mut().for_each(|part| part.take_rows(count, bytes));
            }
            Column::Variant { discriminators, parts } => {
                let own = take(count);
                discriminators.extend_from_slice(own);
                for (at, part) in parts.iter_mut().enumerate() {
                    let count = own.iter().filter(|discriminator| **discriminator as usize == at).count();
                    part.take_rows(count, bytes);
                }
            }
            Column::ByPath(_) | Column::ByType(_) => debug_assert!(false, "it is part of a block"),
        }
    }
}
