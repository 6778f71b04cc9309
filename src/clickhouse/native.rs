//! The Native block: what an INSERT … FORMAT Native carries.
//!
//! Source: <https://clickhouse.com/docs/interfaces/formats/Native> and ClickHouse's `NativeWriter`, for a client
//! that announces no revision:
//!
//! ```text
//! varint  number of columns
//! varint  number of rows
//! per column:
//!   varint + bytes  name
//!   varint + bytes  type
//!   [64 bits …      how it is written]    JSON, Dynamic and Variant, also within other types
//!   [rows bytes     1 where NULL]         Nullable
//!   [rows * 64 bits where each ends]      Array and Map
//!   [rows bytes     which part has it]    Variant
//!   values          numbers little-endian side by side; strings as varint length + bytes
//! ```

use crate::clickhouse::dynamic::{take_bytes, take_varint};
use crate::clickhouse::{Column, ColumnType};
use crate::core::varint;

/// The output of a block, which is written in many small writes.
pub trait BlockSink {
    fn put(&mut self, bytes: &[u8]);

    /// All of a column was put.
    fn end_column(&mut self) {}
}

impl BlockSink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Writes one block. `heads` gives each column's name and type as the block declares them.
pub fn encode(out: &mut impl BlockSink, heads: &[(String, String)], columns: &[Column]) {
    let rows = columns.first().map_or(0, Column::rows);
    let mut head = Vec::new();
    varint::write(&mut head, columns.len() as u64);
    varint::write(&mut head, rows as u64);
    for ((name, column_type), column) in heads.iter().zip(columns) {
        debug_assert_eq!(column.rows(), rows);
        put_string(&mut head, name);
        put_string(&mut head, column_type);
        out.put(&head);
        head.clear();
        // ClickHouse reads nothing of a column without rows, not even how it is written: it would take
        // that for the next block.
        if rows > 0 {
            column.encode(out);
        }
        out.end_column();
    }
    // Where there are no columns.
    out.put(&head);
}

/// The block, as one.
pub fn encode_to_vec(heads: &[(String, String)], columns: &[Column]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out, heads, columns);
    out
}

/// Names and types of a block, and its columns.
pub type Block = (Vec<(String, String)>, Vec<Column>);

/// Reads a block that [`encode`] wrote, of columns without dynamic values. `None`: it is none.
pub fn read(mut block: &[u8]) -> Option<Block> {
    let block = &mut block;
    let (columns, rows) = (take_varint(block), take_varint(block));
    let mut read = (Vec::new(), Vec::new());
    for _ in 0..columns {
        let mut text = || String::from_utf8(take_bytes(block).to_vec()).ok();
        let (name, type_name) = (text()?, text()?);
        let column_type = ColumnType::parse(&type_name, "UTC").ok()?;
        let mut column = Column::new(&column_type, column_type.nullable);
        if column.has_dynamic_values() {
            return None;
        }
        if rows > 0 {
            *block = block.get(column.prefix_len()..)?;
            column.take_rows(rows, block);
        }
        if column.rows() != rows {
            return None;
        }
        read.0.push((name, type_name));
        read.1.push(column);
    }
    block.is_empty().then_some(read)
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    varint::write(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clickhouse::ColumnType;

    #[test]
    fn a_block_is_what_clickhouse_documents() {
        let numbers = ColumnType::parse("UInt8", "UTC").unwrap();
        let mut column = Column::new(&numbers, true);
        column.push_fixed([5]);
        column.push_null();
        let mut out = Vec::new();
        encode(&mut out, &[("a".into(), "Nullable(UInt8)".into())], &[column]);
        assert_eq!(out, b"\x01\x02\x01a\x0fNullable(UInt8)\x00\x01\x05\x00");
    }

    #[test]
    fn a_block_without_rows_has_nothing_but_names_and_types() {
        let document = Column::new(&ColumnType::parse("JSON", "UTC").unwrap(), false);
        assert_eq!(encode_to_vec(&[("a".into(), "JSON".into())], &[document]), b"\x01\x00\x01a\x04JSON");
    }
}
