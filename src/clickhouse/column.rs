//! One column of a batch under construction.
//!
//! - It holds the bytes of the Native format: little-endian numbers side by side, strings each behind
//!   its length as a varint, the ends of arrays ahead of their items.
//! - [`Column::mark`] notes its length and [`Column::rewind`] cuts it back to that length, so that a
//!   row appears completely or not at all.

use std::sync::Arc;

use crate::clickhouse::column_type::{ColumnType, Kind};
use crate::clickhouse::documents::Documents;
use crate::clickhouse::dynamic::{self, Dynamic};
use crate::clickhouse::json_type::JsonLayout;
use crate::core::varint;

#[derive(Debug, Clone)]
pub enum Column {
    /// Values of one width.
    Fixed {
        width: usize,
        zero: Box<[u8]>,
        data: Vec<u8>,
    },
    Strings {
        data: Vec<u8>,
        rows: usize,
    },
    /// Documents, each behind its length: see [`dynamic`].
    Json {
        layout: Arc<JsonLayout>,
        data: Vec<u8>,
        rows: usize,
    },
    /// Values with their types, each behind its length: see [`dynamic`].
    Dynamic {
        max_types: usize,
        data: Vec<u8>,
        rows: usize,
    },
    /// One byte per row, 1 for NULL, ahead of all values.
    Nullable {
        nulls: Vec<u8>,
        values: Box<Column>,
    },
    /// Arrays and maps: where each one ends among the items, as 64 bits.
    Array {
        ends: Vec<u8>,
        items: Box<Column>,
    },
    Tuple {
        parts: Vec<Column>,
        rows: usize,
    },
    /// One byte per row says which part has the value; 255 is NULL.
    Variant {
        discriminators: Vec<u8>,
        parts: Vec<Column>,
    },
    /// A Json as a block declares it; nothing is appended to it.
    ByPath(Box<Documents>),
    /// A Dynamic as a block declares it; nothing is appended to it.
    ByType(Box<Dynamic>),
}

/// NULL in a Variant.
const NULL_DISCRIMINATOR: u8 = 255;

impl Column {
    pub fn new(column_type: &ColumnType, nullable: bool) -> Column {
        let column = Column::of(&column_type.kind);
        if nullable { Column::Nullable { nulls: Vec::new(), values: Box::new(column) } } else { column }
    }

    fn of(kind: &Kind) -> Column {
        let part = |column_type: &ColumnType| Column::new(column_type, column_type.nullable);
        match kind {
            Kind::String => Column::Strings { data: Vec::new(), rows: 0 },
            Kind::Json(layout) => Column::Json { layout: layout.clone(), data: Vec::new(), rows: 0 },
            Kind::Dynamic { max_types } => {
                Column::Dynamic { max_types: *max_types, data: Vec::new(), rows: 0 }
            }
            Kind::QBit { bits, dimension } => {
                let plane = || Column::of(&Kind::FixedString(dimension.div_ceil(8)));
                Column::Tuple { parts: (0..*bits).map(|_| plane()).collect(), rows: 0 }
            }
            Kind::Array(items) => Column::Array { ends: Vec::new(), items: Box::new(part(items)) },
            Kind::Tuple(elements) => Column::Tuple {
                parts: elements.iter().map(|element| part(&element.column_type)).collect(),
                rows: 0,
            },
            Kind::Map(sides) => {
                let entries = Column::Tuple { parts: sides.iter().map(part).collect(), rows: 0 };
                Column::Array { ends: Vec::new(), items: Box::new(entries) }
            }
            Kind::Variant(types) => {
                Column::Variant { discriminators: Vec::new(), parts: types.iter().map(part).collect() }
            }
            fixed => {
                let zero = fixed.zero().into_boxed_slice();
                Column::Fixed { width: zero.len(), zero, data: Vec::new() }
            }
        }
    }

    /// A column of Bool.
    pub fn flags() -> Column {
        Column::of(&Kind::Bool)
    }

    /// The same without rows.
    pub fn clone_empty(&self) -> Column {
        match self {
            Column::Fixed { width, zero, .. } => {
                Column::Fixed { width: *width, zero: zero.clone(), data: Vec::new() }
            }
            Column::Strings { .. } => Column::Strings { data: Vec::new(), rows: 0 },
            Column::Json { layout, .. } => Column::Json { layout: layout.clone(), data: Vec::new(), rows: 0 },
            Column::Dynamic { max_types, .. } => {
                Column::Dynamic { max_types: *max_types, data: Vec::new(), rows: 0 }
            }
            Column::Nullable { values, .. } => {
                Column::Nullable { nulls: Vec::new(), values: Box::new(values.clone_empty()) }
            }
            Column::Array { items, .. } => {
                Column::Array { ends: Vec::new(), items: Box::new(items.clone_empty()) }
            }
            Column::Tuple { parts, .. } => {
                Column::Tuple { parts: parts.iter().map(Column::clone_empty).collect(), rows: 0 }
            }
            Column::Variant { parts, .. } => Column::Variant {
                discriminators: Vec::new(),
                parts: parts.iter().map(Column::clone_empty).collect(),
            },
            block @ (Column::ByPath(_) | Column::ByType(_)) => block.clone(),
        }
    }

    /// Reserves capacity for `rows` rows. Values of variable length are not counted.
    pub fn reserve(&mut self, rows: usize) {
        match self {
            Column::Fixed { width, data, .. } => data.reserve(rows * *width),
            Column::Strings { .. } | Column::Json { .. } | Column::Dynamic { .. } => {}
            Column::ByPath(_) | Column::ByType(_) => {}
            Column::Nullable { nulls, values } => {
                nulls.reserve(rows);
                values.reserve(rows);
            }
            Column::Array { ends, .. } => ends.reserve(8 * rows),
            Column::Tuple { parts, .. } => parts.iter_mut().for_each(|part| part.reserve(rows)),
            Column::Variant { discriminators, .. } => discriminators.reserve(rows),
        }
    }

    /// Removes all rows and keeps the capacity.
    pub fn clear(&mut self) {
        match self {
            Column::Fixed { data, .. } => data.clear(),
            Column::Strings { data, rows }
            | Column::Json { data, rows, .. }
            | Column::Dynamic { data, rows, .. } => {
                data.clear();
                *rows = 0;
            }
            Column::Nullable { nulls: own, values: inner } | Column::Array { ends: own, items: inner } => {
                own.clear();
                inner.clear();
            }
            Column::Tuple { parts, rows } => {
                *rows = 0;
                parts.iter_mut().for_each(Column::clear);
            }
            Column::Variant { discriminators, parts } => {
                discriminators.clear();
                parts.iter_mut().for_each(Column::clear);
            }
            Column::ByPath(_) | Column::ByType(_) => debug_assert!(false, "it is part of a block"),
        }
    }

    /// The bytes for which it has memory.
    pub fn capacity(&self) -> usize {
        let all = |parts: &[Column]| parts.iter().map(Column::capacity).sum::<usize>();
        match self {
            Column::Fixed { data, .. }
            | Column::Strings { data, .. }
            | Column::Json { data, .. }
            | Column::Dynamic { data, .. } => data.capacity(),
            Column::ByPath(_) | Column::ByType(_) => 0,
            Column::Nullable { nulls: own, values: inner } | Column::Array { ends: own, items: inner } => {
                own.capacity() + inner.capacity()
            }
            Column::Tuple { parts, .. } => all(parts),
            Column::Variant { discriminators, parts } => discriminators.capacity() + all(parts),
        }
    }

    pub fn rows(&self) -> usize {
        match self {
            // Dividing takes longer than all the rest.
            Column::Fixed { width: 8, data, .. } => data.len() / 8,
            Column::Fixed { width, data, .. } => data.len() / width,
            Column::Strings { rows, .. }
            | Column::Json { rows, .. }
            | Column::Dynamic { rows, .. }
            | Column::Tuple { rows, .. } => *rows,
            Column::ByPath(documents) => documents.rows,
            Column::ByType(dynamic) => dynamic.rows(),
            Column::Nullable { nulls, .. } => nulls.len(),
            Column::Array { ends, .. } => ends.len() / 8,
            Column::Variant { discriminators, .. } => discriminators.len(),
        }
    }

    /// The bytes of the values: as [`Column::encode`] writes them, but for JSON and Dynamic.
    pub fn bytes(&self) -> usize {
        match self {
            Column::Fixed { data, .. }
            | Column::Strings { data, .. }
            | Column::Json { data, .. }
            | Column::Dynamic { data, .. } => data.len(),
            Column::ByPath(_) | Column::ByType(_) => 0,
            Column::Nullable { nulls, values } => nulls.len() + values.bytes(),
            Column::Array { ends, items } => ends.len() + items.bytes(),
            Column::Tuple { parts, .. } => parts.iter().map(Column::bytes).sum(),
            Column::Variant { discriminators, parts } => {
                discriminators.len() + parts.iter().map(Column::bytes).sum::<usize>()
            }
        }
    }

    /// The number of items in the newest row of an Array.
    pub fn last_length(&self) -> u64 {
        let Column::Array { ends, .. } = self else { return 0 };
        let end = |back: usize| {
            ends.as_chunks::<8>().0.iter().rev().nth(back).map_or(0, |end| u64::from_le_bytes(*end))
        };
        end(0) - end(1)
    }

    /// Appends a value whose bytes are those of the wire; its length is the column's width.
    #[inline(always)]
    pub fn push_fixed<const N: usize>(&mut self, bytes: [u8; N]) {
        match self {
            Column::Fixed { width, data, .. } => {
                debug_assert_eq!(*width, N);
                data.extend_from_slice(&bytes);
            }
            Column::Nullable { nulls, values } => {
                nulls.push(0);
                values.push_fixed(bytes);
            }
            other => debug_assert!(false, "{other:?} has no width"),
        }
    }

    /// The same for a width that is not known here.
    pub fn push_wide(&mut self, bytes: &[u8]) {
        match self.values_of_next() {
            Column::Fixed { width, data, .. } => {
                debug_assert_eq!(*width, bytes.len());
                data.extend_from_slice(bytes);
            }
            other => debug_assert!(false, "{other:?} has no width"),
        }
    }

    /// The column that takes the next value, which is not NULL.
    #[inline]
    fn values_of_next(&mut self) -> &mut Column {
        match self {
            Column::Nullable { nulls, values } => {
                nulls.push(0);
                values
            }
            other => other,
        }
    }

    #[inline]
    pub fn push_string(&mut self, bytes: &[u8]) {
        match self.values_of_next() {
            Column::Strings { data, rows }
            | Column::Json { data, rows, .. }
            | Column::Dynamic { data, rows, .. } => {
                *rows += 1;
                varint::write(data, bytes.len() as u64);
                data.extend_from_slice(bytes);
            }
            other => debug_assert!(false, "{other:?} holds no strings"),
        }
    }

    /// NULL, where the column can hold it.
    pub fn push_null(&mut self) {
        match self {
            Column::Nullable { nulls, values } => {
                nulls.push(1);
                match &mut **values {
                    // Without a call for so few bytes.
                    Column::Fixed { width: 8, data, .. } => data.extend_from_slice(&[0; 8]),
                    Column::Fixed { width: 4, data, .. } => data.extend_from_slice(&[0; 4]),
                    values => values.push_zero(),
                }
            }
            Column::Variant { discriminators, .. } => discriminators.push(NULL_DISCRIMINATOR),
            Column::Dynamic { .. } => {
                let mut null = Vec::new();
                dynamic::put_nothing(&mut null);
                self.push_string(&null);
            }
            other => debug_assert!(false, "{other:?} holds no NULL"),
        }
    }

    /// The type's zero: NULL where the column can hold it, else 0, the empty string, 1970, the empty array.
    pub fn push_zero(&mut self) {
        match self {
            Column::Fixed { zero, data, .. } => data.extend_from_slice(zero),
            Column::Strings { .. } => self.push_string(b""),
            Column::Json { layout, .. } => {
                let document: &[u8] = if layout.typed().is_empty() { &[0] } else { &[0, 0] };
                self.push_string(document);
            }
            Column::Nullable { .. } | Column::Variant { .. } | Column::Dynamic { .. } => self.push_null(),
            Column::ByPath(_) | Column::ByType(_) => debug_assert!(false, "it is part of a block"),
            Column::Array { .. } => self.push_offset(),
            Column::Tuple { parts, rows } => {
                *rows += 1;
                parts.iter_mut().for_each(Column::push_zero);
            }
        }
    }

    /// Ends an array: its items are those that were appended since the last end.
    pub fn push_offset(&mut self) {
        if let Column::Array { ends, items } = self {
            ends.extend_from_slice(&(items.rows() as u64).to_le_bytes());
        }
    }

    /// Appends all rows of another column of the same type.
    pub fn append(&mut self, other: &Column) {
        match (self, other) {
            (Column::Fixed { data, .. }, Column::Fixed { data: more, .. }) => data.extend_from_slice(more),
            (Column::Strings { data, rows }, Column::Strings { data: more, rows: count })
            | (Column::Json { data, rows, .. }, Column::Json { data: more, rows: count, .. })
            | (Column::Dynamic { data, rows, .. }, Column::Dynamic { data: more, rows: count, .. }) => {
                data.extend_from_slice(more);
                *rows += count;
            }
            (Column::Nullable { nulls, values }, Column::Nullable { nulls: more, values: others }) => {
                nulls.extend_from_slice(more);
                values.append(others);
            }
            (Column::Array { ends, items }, Column::Array { ends: more, items: others }) => {
                let base = items.rows() as u64;
                for end in more.as_chunks::<8>().0 {
                    ends.extend_from_slice(&(base + u64::from_le_bytes(*end)).to_le_bytes());
                }
                items.append(others);
            }
            (Column::Tuple { parts, rows }, Column::Tuple { parts: others, rows: count }) => {
                *rows += count;
                parts.iter_mut().zip(others).for_each(|(part, other)| part.append(other));
            }
            (
                Column::Variant { discriminators, parts },
                Column::Variant { discriminators: more, parts: others },
            ) => {
                discriminators.extend_from_slice(more);
                parts.iter_mut().zip(others).for_each(|(part, other)| part.append(other));
            }
            (this, other) => debug_assert!(false, "{this:?} and {other:?} differ in type"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str) -> Column {
        let column_type = ColumnType::parse(name, "UTC").unwrap();
        Column::new(&column_type, column_type.nullable)
    }

    fn encoded(column: &Column) -> Vec<u8> {
        let mut out = Vec::new();
        column.encode(&mut out);
        out
    }

    #[test]
    fn rows_can_be_taken_back() {
        for name in [
            "UInt32",
            "Nullable(String)",
            "Array(Array(String))",
            "Tuple(UInt8, Array(Nullable(Int64)))",
            "Map(String, Tuple(a UInt8, b String))",
            "Variant(Array(String), UInt8)",
            "JSON",
        ] {
            let mut column = column(name);
            column.push_zero();
            let before = encoded(&column);
            let mut marks = Vec::new();
            column.mark(&mut marks);
            column.push_zero();
            let other = column.clone();
            column.append(&other);
            assert_eq!(column.rows(), 4, "{name}");
            let mut rest = marks.as_slice();
            column.rewind(&mut rest);
            assert_eq!((column.rows(), encoded(&column), rest.len()), (1, before, 0), "{name}");
        }
    }

    #[test]
    fn zero_and_null_have_the_width_of_a_value() {
        let mut column = column("Nullable(UInt32)");
        column.push_fixed(7u32.to_le_bytes());
        column.push_null();
        column.push_zero();
        assert_eq!(encoded(&column), [0, 1, 1, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn arrays_end_where_their_items_do_also_when_appended() {
        let mut one = column("Array(String)");
        if let Column::Array { items, .. } = &mut one {
            items.push_string(b"a");
            items.push_string(b"bc");
        }
        one.push_offset();
        one.push_zero();
        let other = one.clone();
        one.append(&other);
        let ends: Vec<u8> = [2u64, 2, 4, 4].iter().flat_map(|end| end.to_le_bytes()).collect();
        assert_eq!(encoded(&one), [ends.as_slice(), b"\x01a\x02bc\x01a\x02bc"].concat());
    }

    #[test]
    fn a_variant_says_which_part_has_the_value() {
        let mut column = column("Variant(String, UInt8)");
        if let Column::Variant { discriminators, parts } = &mut column {
            discriminators.push(1);
            parts[1].push_fixed([9]);
        }
        column.push_null();
        assert_eq!(encoded(&column), [0, 0, 0, 0, 0, 0, 0, 0, 1, 255, 9]);
    }
}
