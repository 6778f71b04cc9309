//! What batches were held in, to be used again: fresh memory costs a page fault for every 4 KiB.
//!
//! A batch takes from here when it is opened. Its columns come back when a block was made of them, its messages when it is
//! settled. Where more batches are under way than usual some find nothing here and grow from nothing.
//!
//! What came first is taken first: so each is used again soon, and gives up what only a time of very large batches needed.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::batch::Messages;
use crate::columns::Column;

/// For batches of one plan.
#[derive(Debug, Default)]
pub struct Spares(Mutex<Shelf>);

#[derive(Debug, Default)]
struct Shelf {
    columns: VecDeque<Vec<Column>>,
    messages: VecDeque<Messages>,
}

/// Of each: what is given back while ClickHouse takes several at once is enough for the next time it does.
const MOST: usize = 4;

impl Spares {
    pub fn take_columns(&self) -> Option<Vec<Column>> {
        self.shelf().columns.pop_front()
    }

    pub fn take_messages(&self) -> Option<Messages> {
        self.shelf().messages.pop_front()
    }

    pub fn give_columns(&self, mut columns: Vec<Column>) {
        columns.iter_mut().for_each(Column::clear);
        give(&mut self.shelf().columns, columns);
    }

    pub fn give_messages(&self, mut messages: Messages) {
        messages.clear();
        give(&mut self.shelf().messages, messages);
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn give<T>(shelf: &mut VecDeque<T>, spare: T) {
    if shelf.len() < MOST {
        shelf.push_back(spare);
    }
}

/// Empties a buffer and keeps its room, unless that is far more than was wanted last.
pub fn empty<T>(buffer: &mut Vec<T>) {
    let wanted = 2 * buffer.len();
    buffer.clear();
    if buffer.capacity() > 2 * wanted {
        buffer.shrink_to(wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::ColumnType;

    #[test]
    fn what_comes_back_is_empty_and_has_its_room() {
        let spares = Spares::default();
        assert!(spares.take_columns().is_none());
        let column_type = ColumnType::parse("Nullable(UInt32)", "UTC").unwrap();
        let mut column = Column::new(&column_type, true);
        (0..1000u32).for_each(|value| column.push_fixed(value.to_le_bytes()));
        spares.give_columns(vec![column]);
        let columns = spares.take_columns().unwrap();
        assert_eq!((columns[0].rows(), columns[0].bytes()), (0, 0));
        let Column::Nullable { nulls, .. } = &columns[0] else { unreachable!() };
        assert!(nulls.capacity() >= 1000);
        assert!(spares.take_columns().is_none());
    }

    #[test]
    fn room_that_one_batch_alone_wanted_is_given_up() {
        let mut buffer = vec![0u8; 1 << 20];
        empty(&mut buffer);
        assert_eq!(buffer.capacity(), 1 << 20);
        buffer.extend([0; 1000]);
        empty(&mut buffer);
        assert!(buffer.capacity() < 10_000);
    }
}
