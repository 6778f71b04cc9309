//! Columns of finished batches, for the next batches: fresh memory costs a page fault for every 4 KiB.
//!
//! A batch takes its columns from here when it is opened, and they come back when a block was made of them; the memory of
//! its messages comes from [`crate::core::chunk_pool`]. If more batches are under way than usual, some start without
//! reused columns.

use std::sync::{Mutex, PoisonError};

use crate::clickhouse::Column;
use crate::core::free_list::FreeList;

/// The columns for batches of one plan.
#[derive(Debug)]
pub struct ColumnPool(Mutex<Columns>);

#[derive(Debug)]
struct Columns {
    free: FreeList<Vec<Column>>,
    /// Bytes of the largest set that came back since the last trim.
    max_used: usize,
}

/// Sets of columns that are kept.
const MAX_SETS: usize = 4;
impl Default for ColumnPool {
    fn default() -> Self {
        ColumnPool(Mutex::new(Columns { free: FreeList::new(MAX_SETS), max_used: 0 }))
    }
}

impl ColumnPool {
    pub fn acquire(&self) -> Option<Vec<Column>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).free.take()
    }

    pub fn release(&self, mut columns: Vec<Column>) {
        let used: usize = columns.iter().map(Column::bytes).sum();
        columns.iter_mut().for_each(Column::clear);
        let Columns { free, max_used } = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *max_used = used.max(*max_used);
        if free.put([columns]) {
            // A set that has grown for one larger batch.
            let limit = 2 * std::mem::take(max_used);
            free.retain(|columns| columns.iter().map(Column::capacity).sum::<usize>() <= limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clickhouse::ColumnType;
    use crate::core::free_list::TRIM_INTERVAL;

    fn column(rows: u32) -> Vec<Column> {
        let column_type = ColumnType::parse("Nullable(UInt32)", "UTC").unwrap();
        let mut column = Column::new(&column_type, true);
        (0..rows).for_each(|value| column.push_fixed(value.to_le_bytes()));
        vec![column]
    }

    fn room(columns: &[Column]) -> usize {
        columns.iter().map(Column::capacity).sum()
    }

    #[test]
    fn what_comes_back_is_empty_and_has_its_room() {
        let pool = ColumnPool::default();
        assert!(pool.acquire().is_none());
        pool.release(column(1000));
        let columns = pool.acquire().unwrap();
        assert_eq!((columns[0].rows(), columns[0].bytes()), (0, 0));
        assert!(room(&columns) >= 5000);
        assert!(pool.acquire().is_none());
    }

    #[test]
    fn room_that_one_batch_alone_wanted_is_given_up() {
        let pool = ColumnPool::default();
        pool.release(column(100_000));
        for _ in 0..2 * TRIM_INTERVAL {
            let columns = pool.acquire().unwrap_or_else(|| column(0));
            pool.release(column(1000));
            pool.release(columns);
        }
        assert!(room(&pool.acquire().unwrap()) < 20_000);
    }
}
