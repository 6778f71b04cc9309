//! What batches were held in, to be used again: fresh memory costs a page fault for every 4 KiB.
//!
//! A batch takes its columns from here when it is opened, and they come back when a block was made of them; the memory of
//! its messages is in [`crate::core::chunk_pool`]. Where more batches are under way than usual some find nothing here and grow from
//! nothing.
//!
//! What came last is taken first: it may still be in the caches, and what only a busy time needed lies still and can be
//! given up.

use std::sync::{Mutex, PoisonError};

use crate::clickhouse::Column;
use crate::core::free_list::Shelf;

/// For batches of one plan.
#[derive(Debug)]
pub struct Spares(Mutex<Columns>);

#[derive(Debug)]
struct Columns {
    shelf: Shelf<Vec<Column>>,
    /// The bytes of the largest set that came back in this turn.
    most_used: usize,
}

/// Sets of columns: what is given back while ClickHouse takes several at once is enough for the next time it does.
const MOST: usize = 4;
impl Default for Spares {
    fn default() -> Self {
        Spares(Mutex::new(Columns { shelf: Shelf::new(MOST), most_used: 0 }))
    }
}

impl Spares {
    pub fn take_columns(&self) -> Option<Vec<Column>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).shelf.take()
    }

    pub fn give_columns(&self, mut columns: Vec<Column>) {
        let used: usize = columns.iter().map(Column::bytes).sum();
        columns.iter_mut().for_each(Column::clear);
        let Columns { shelf, most_used } = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *most_used = used.max(*most_used);
        if shelf.give([columns]) {
            // What has grown for a batch that was larger than these.
            let most = 2 * std::mem::take(most_used);
            shelf.retain(|columns| columns.iter().map(Column::room).sum::<usize>() <= most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clickhouse::ColumnType;
    use crate::core::free_list::TURN;

    fn column(rows: u32) -> Vec<Column> {
        let column_type = ColumnType::parse("Nullable(UInt32)", "UTC").unwrap();
        let mut column = Column::new(&column_type, true);
        (0..rows).for_each(|value| column.push_fixed(value.to_le_bytes()));
        vec![column]
    }

    fn room(columns: &[Column]) -> usize {
        columns.iter().map(Column::room).sum()
    }

    #[test]
    fn what_comes_back_is_empty_and_has_its_room() {
        let spares = Spares::default();
        assert!(spares.take_columns().is_none());
        spares.give_columns(column(1000));
        let columns = spares.take_columns().unwrap();
        assert_eq!((columns[0].rows(), columns[0].bytes()), (0, 0));
        assert!(room(&columns) >= 5000);
        assert!(spares.take_columns().is_none());
    }

    #[test]
    fn room_that_one_batch_alone_wanted_is_given_up() {
        let spares = Spares::default();
        spares.give_columns(column(100_000));
        for _ in 0..2 * TURN {
            let columns = spares.take_columns().unwrap_or_else(|| column(0));
            spares.give_columns(column(1000));
            spares.give_columns(columns);
        }
        assert!(room(&spares.take_columns().unwrap()) < 20_000);
    }
}
