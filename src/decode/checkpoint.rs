//! Lengths of columns before a row or a message, so that a row is appended completely or not at all,
//! and the limit on how much one message may add.

use crate::clickhouse::Column;
use crate::core::reason::{Code, Reason};
use crate::decode::value_reader::Result;
use crate::decode::{ColumnBinding, MAX_GROWTH, MAX_ROWS, MIN_GROWTH_LIMIT};

/// How far columns of as many rows are.
#[derive(Debug, Clone, Default)]
pub struct Checkpoint {
    rows: usize,
    lengths: Vec<usize>,
}

impl Checkpoint {
    /// Only the `marked` columns are more than their number of rows says.
    #[inline]
    pub fn note(&mut self, columns: &[Column], marked: &[usize]) {
        self.rows = columns.first().map_or(0, Column::rows);
        self.lengths.clear();
        marked.iter().for_each(|at| columns[*at].mark_row(&mut self.lengths));
    }

    /// Rows of the columns then.
    #[inline]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// A number that a column noted.
    #[inline]
    pub fn length(&self, at: usize) -> Option<usize> {
        self.lengths.get(at).copied()
    }

    #[cold]
    pub fn rollback(&self, columns: &mut [Column]) {
        let mut lengths = self.lengths.as_slice();
        columns.iter_mut().for_each(|column| column.rewind_row(self.rows, &mut lengths));
    }

    /// The same for the column of one binding.
    #[cold]
    pub fn take_back(&self, column: &mut Column, binding: &ColumnBinding) {
        column.rewind_row(self.rows, &mut &self.lengths[binding.lengths..]);
    }
}

/// The rows of a message so far, and how large the columns may become with them.
pub struct Rows {
    pub count: usize,
    pub limit: Option<usize>,
    /// The most that they may take.
    pub max_bytes: usize,
}

impl Rows {
    /// Before each row but the first.
    pub fn check(&mut self, columns: &[Column], payload: &[u8]) -> Result<()> {
        let bytes: usize = columns.iter().map(Column::bytes).sum();
        let growth = (MAX_GROWTH * payload.len() + MIN_GROWTH_LIMIT).min(self.max_bytes);
        let limit = *self.limit.get_or_insert(bytes + growth);
        if self.count < MAX_ROWS && bytes <= limit {
            return Ok(());
        }
        let message =
            format!("more than {MAX_ROWS} rows, or rows that are together far larger than the message");
        Err(Box::new(Reason::new(Code::OutOfRange, message)))
    }
}
