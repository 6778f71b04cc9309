//! The columns that have their value for the row under construction.

#[derive(Debug, Clone, Default)]
pub struct Filled {
    /// For each column the last row that has a value.
    last: Vec<u64>,
    row: u64,
    /// How many columns have none yet.
    missing: usize,
}

impl Filled {
    pub fn new(columns: usize) -> Filled {
        Filled { last: vec![0; columns], row: 0, missing: columns }
    }

    /// Begins another row. Rows are numbered from 1.
    #[inline]
    pub fn begin(&mut self, row: u64) {
        self.row = row;
        self.missing = self.last.len();
    }

    #[inline(always)]
    pub fn has(&self, column: usize) -> bool {
        self.last.get(column) == Some(&self.row)
    }

    #[inline(always)]
    pub fn add(&mut self, column: usize) {
        if let Some(last) = self.last.get_mut(column) {
            self.missing -= (*last != self.row) as usize;
            *last = self.row;
        }
    }

    /// Several of them, one after the other.
    #[inline(always)]
    pub fn more(&mut self) -> FillBatch<'_> {
        FillBatch { row: self.row, missing: self.missing, filled: self }
    }

    pub fn remove(&mut self, column: usize) {
        if self.has(column) {
            self.last[column] = 0;
            self.missing += 1;
        }
    }

    /// The columns without a value.
    #[inline]
    pub fn missing(&self) -> impl Iterator<Item = usize> {
        self.last.iter().enumerate().filter(|(_, last)| **last != self.row).map(|(column, _)| column)
    }

    #[inline]
    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }
}

/// Counts filled columns in a local variable.
pub struct FillBatch<'f> {
    row: u64,
    missing: usize,
    filled: &'f mut Filled,
}

/// Notes which columns are filled.
pub trait FillTracker {
    /// Fills a column that has no value yet.
    fn fill<T>(&mut self, column: usize, fill: impl FnOnce() -> Option<T>) -> Option<T>;
}

/// For who knows it anyway: none is filled that has a value.
pub struct NoTracking;

impl FillTracker for NoTracking {
    #[inline(always)]
    fn fill<T>(&mut self, _: usize, fill: impl FnOnce() -> Option<T>) -> Option<T> {
        fill()
    }
}

impl FillTracker for FillBatch<'_> {
    #[inline(always)]
    fn fill<T>(&mut self, column: usize, fill: impl FnOnce() -> Option<T>) -> Option<T> {
        let last = self.filled.last.get_mut(column).filter(|last| **last != self.row)?;
        let done = fill()?;
        *last = self.row;
        self.missing -= 1;
        Some(done)
    }
}

impl FillBatch<'_> {
    pub fn done(self) {
        self.filled.missing = self.missing;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_complete_when_each_column_has_a_value() {
        let mut filled = Filled::new(2);
        filled.begin(1);
        filled.add(0);
        filled.add(0);
        assert!(filled.has(0) && !filled.has(1) && !filled.is_complete());
        assert_eq!(filled.missing().collect::<Vec<_>>(), [1]);
        filled.add(1);
        assert!(filled.is_complete());
        filled.remove(0);
        assert!(!filled.has(0) && !filled.is_complete());
        filled.begin(2);
        assert!(!filled.has(1));
    }
}
