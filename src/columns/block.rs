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
//!   [64 bits        how it is written]    JSON and Variant, also within other types
//!   [rows bytes     1 where NULL]         Nullable
//!   [rows * 64 bits where each ends]      Array and Map
//!   [rows bytes     which part has it]    Variant
//!   values          numbers little-endian side by side; strings as varint length + bytes
//! ```

use super::Column;

/// Appends one block to `out`. `heads` gives each column's name and type as the block declares them.
pub fn encode(out: &mut Vec<u8>, heads: &[(String, String)], columns: &[Column], rows: usize) {
    let heads_bytes: usize = heads.iter().map(|(name, ty)| name.len() + ty.len() + 40).sum();
    out.reserve(20 + heads_bytes + columns.iter().map(Column::bytes).sum::<usize>());
    put_varint(out, columns.len() as u64);
    put_varint(out, rows as u64);
    for ((name, column_type), column) in heads.iter().zip(columns) {
        debug_assert_eq!(column.rows(), rows);
        put_string(out, name);
        put_string(out, column_type);
        column.encode(out);
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// LEB128, least significant seven bits first.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::super::ColumnType;
    use super::*;

    #[test]
    fn a_block_is_what_clickhouse_documents() {
        let numbers = ColumnType::parse("UInt8", "UTC").unwrap();
        let mut column = Column::new(&numbers, true);
        column.push_fixed([5]);
        column.push_null();
        let mut out = Vec::new();
        encode(&mut out, &[("a".into(), "Nullable(UInt8)".into())], &[column], 2);
        assert_eq!(out, b"\x01\x02\x01a\x0fNullable(UInt8)\x00\x01\x05\x00");
    }

    #[test]
    fn varints_carry_seven_bits_a_byte() {
        let mut out = Vec::new();
        put_varint(&mut out, 127);
        put_varint(&mut out, 300);
        assert_eq!(out, [127, 0xac, 0x02]);
    }
}
