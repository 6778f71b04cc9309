//! One column of a batch under construction.
//!
//! - `data` holds the values exactly as the Native format carries them: little-endian numbers side by side, or
//!   strings each behind its length as a varint.
//! - `nulls` holds one byte per row, 1 for NULL; it stays empty where the column cannot be NULL.
//! - Only the newest row can be taken back, by [`Column::truncate`]: that is what makes a row appear whole or
//!   not at all.

use super::block::put_varint;
use super::types::ColumnType;

#[derive(Debug, Clone)]
pub struct Column {
    /// Whether the block declares it `Nullable`.
    nullable: bool,
    width: Option<usize>,
    zero: Vec<u8>,
    data: Vec<u8>,
    nulls: Vec<u8>,
    rows: usize,
    /// Where the newest value begins in `data`.
    newest: usize,
}

impl Column {
    pub fn new(column_type: &ColumnType, nullable: bool) -> Column {
        Column {
            nullable,
            width: column_type.kind.width(),
            zero: column_type.kind.zero(),
            data: Vec::new(),
            nulls: Vec::new(),
            rows: 0,
            newest: 0,
        }
    }

    /// An empty column of the same type, with room for what this one needed.
    pub fn successor(&self) -> Column {
        Column {
            nullable: self.nullable,
            width: self.width,
            zero: self.zero.clone(),
            data: Vec::with_capacity(self.data.len()),
            nulls: Vec::with_capacity(self.nulls.len()),
            rows: 0,
            newest: 0,
        }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn bytes(&self) -> usize {
        self.data.len() + self.nulls.len()
    }

    pub fn is_nullable(&self) -> bool {
        self.nullable
    }

    pub fn data(&self) -> &[u8] {
        &self.data
    }

    pub fn nulls(&self) -> &[u8] {
        &self.nulls
    }

    /// Appends a value whose bytes are those of the wire; its length is the column's width.
    #[inline]
    pub fn push_fixed<const N: usize>(&mut self, bytes: [u8; N]) {
        debug_assert_eq!(self.width, Some(N));
        self.begin();
        self.data.extend_from_slice(&bytes);
    }

    #[inline]
    pub fn push_string(&mut self, bytes: &[u8]) {
        debug_assert_eq!(self.width, None);
        self.begin();
        put_varint(&mut self.data, bytes.len() as u64);
        self.data.extend_from_slice(bytes);
    }

    /// Appends a value that another column of the same type encoded before.
    pub fn push_encoded(&mut self, bytes: &[u8]) {
        self.begin();
        self.data.extend_from_slice(bytes);
    }

    pub fn push_null(&mut self) {
        debug_assert!(self.nullable);
        self.push_zero();
        if let Some(last) = self.nulls.last_mut() {
            *last = 1;
        }
    }

    /// The type's zero: 0, the empty string, 1970.
    pub fn push_zero(&mut self) {
        self.begin();
        self.data.extend_from_slice(&self.zero);
    }

    /// Takes the newest row back if there are more than `rows`.
    pub fn truncate(&mut self, rows: usize) {
        debug_assert!(self.rows <= rows + 1);
        if self.rows > rows {
            self.rows -= 1;
            self.data.truncate(self.newest);
            if self.nullable {
                self.nulls.pop();
            }
        }
    }

    #[inline]
    fn begin(&mut self) {
        self.newest = self.data.len();
        self.rows += 1;
        if self.nullable {
            self.nulls.push(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_row_can_be_taken_back() {
        let strings = ColumnType::parse("String", "UTC").unwrap();
        let mut column = Column::new(&strings, true);
        column.push_string(b"kept");
        column.push_null();
        column.truncate(1);
        assert_eq!((column.rows(), column.data(), column.nulls()), (1, &b"\x04kept"[..], &[0][..]));
        column.truncate(1);
        assert_eq!(column.rows(), 1);
    }

    #[test]
    fn zero_and_null_have_the_width_of_a_value() {
        let numbers = ColumnType::parse("UInt32", "UTC").unwrap();
        let mut column = Column::new(&numbers, true);
        column.push_fixed(7u32.to_le_bytes());
        column.push_null();
        column.push_zero();
        assert_eq!(column.data(), &[7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(column.nulls(), &[0, 1, 0]);
    }
}
