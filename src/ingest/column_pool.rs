//! Columns of finished batches, for the next batches: fresh memory costs a page fault for every 4 KiB.
//!
//! A batch takes its columns from here when it is opened, and they come back when a block was made of them; the memory of
//! its messages comes from [`crate::core::chunk_pool`]. If more batches are under way than before, some
//! start without reused columns.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::clickhouse::Column;
use crate::core::free_list::FreeList;
use crate::core::lock::lock;
use crate::core::memory_budget::{MemoryBudget, Pool, PooledBytes};

/// The columns for batches of one plan.
#[derive(Debug)]
pub struct ColumnPool {
    columns: Mutex<Columns>,
    budget: Arc<MemoryBudget>,
}

#[derive(Debug)]
struct Columns {
    free: FreeList<(Vec<Column>, PooledBytes)>,
    /// Bytes of the largest set that came back since the last trim.
    max_used: usize,
}

/// Sets of columns that are kept, as far as the ceiling allows.
const MAX_SETS: usize = 4;

impl Default for Columns {
    fn default() -> Self {
        Columns { free: FreeList::new(MAX_SETS), max_used: 0 }
    }
}

impl Pool for ColumnPool {
    fn empty(&self) {
        *self.lock() = Columns::default();
    }
}

impl ColumnPool {
    /// A pool of the budget's.
    pub fn of(budget: &Arc<MemoryBudget>) -> Arc<ColumnPool> {
        let pool = Arc::new(ColumnPool { columns: Mutex::default(), budget: budget.clone() });
        let weak = Arc::downgrade(&pool);
        budget.add_pool(weak);
        pool
    }

    /// Empty columns, with capacity.
    pub fn acquire(&self) -> Option<Vec<Column>> {
        self.lock().free.take().map(|(columns, _)| columns)
    }

    pub fn release(&self, mut columns: Vec<Column>) {
        let used: usize = columns.iter().map(Column::bytes).sum();
        columns.iter_mut().for_each(Column::clear);
        let pooled = self.budget.pool(capacity(&columns));
        let Columns { free, max_used } = &mut *self.lock();
        *max_used = used.max(*max_used);
        if free.put(pooled.map(|pooled| (columns, pooled))) {
            // A set that has grown for one larger batch.
            let limit = 2 * std::mem::take(max_used);
            free.retain(|(columns, _)| capacity(columns) <= limit);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Columns> {
        lock(&self.columns)
    }
}

/// The bytes for which columns have memory.
pub fn capacity(columns: &[Column]) -> usize {
    columns.iter().map(Column::capacity).sum()
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

    #[test]
    fn a_returned_column_is_empty_and_keeps_its_capacity() {
        let pool = ColumnPool::of(&Arc::default());
        assert!(pool.acquire().is_none());
        pool.release(column(1000));
        let columns = pool.acquire().unwrap();
        assert_eq!((columns[0].rows(), columns[0].bytes()), (0, 0));
        assert!(capacity(&columns) >= 5000);
        assert!(pool.acquire().is_none());
    }

    #[test]
    fn room_that_one_batch_alone_wanted_is_given_up() {
        let pool = ColumnPool::of(&Arc::default());
        pool.release(column(100_000));
        for _ in 0..2 * TRIM_INTERVAL {
            let columns = pool.acquire().unwrap_or_else(|| column(0));
            pool.release(column(1000));
            pool.release(columns);
        }
        assert!(capacity(&pool.acquire().unwrap()) < 20_000);
    }

    #[test]
    fn the_ceiling_bounds_what_is_kept_by_all_pools_together() {
        let budget = Arc::new(MemoryBudget::new(8 * 10_000));
        let (one, other) = (ColumnPool::of(&budget), ColumnPool::of(&budget));
        one.release(column(1000));
        other.release(column(1000));
        assert_eq!((one.acquire().is_some(), other.acquire().is_some()), (true, false));
        other.release(column(1000));
        other.empty();
        assert!(other.acquire().is_none());
    }
}
