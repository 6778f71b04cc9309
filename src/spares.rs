//! What batches were held in, to be used again: fresh memory costs a page fault for every 4 KiB.
//!
//! A batch takes from here when it is opened. Its columns come back when a block was made of them, its messages when it is
//! settled. Where more batches are under way than usual some find nothing here and grow from nothing.
//!
//! What came last is taken first: it may still be in the caches, and what only a time of many batches needed lies still and
//! can be given up.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::batch::Messages;
use crate::columns::Column;

/// For batches of one plan.
#[derive(Debug, Default)]
pub struct Spares {
    columns: Mutex<Shelf<Vec<Column>>>,
    messages: Mutex<Shelf<Messages>>,
}

#[derive(Debug)]
struct Shelf<T> {
    spares: Vec<T>,
    /// So many at the bottom were not taken in this turn.
    idle: usize,
    /// How many came back in this turn.
    returned: usize,
}

/// Of each: what is given back while ClickHouse takes several at once is enough for the next time it does.
const MOST: usize = 4;
/// After so many returns what was never taken meanwhile is given up.
const TURN: usize = 32;

impl Spares {
    pub fn take_columns(&self) -> Option<Vec<Column>> {
        lock(&self.columns).take()
    }

    pub fn take_messages(&self) -> Option<Messages> {
        lock(&self.messages).take()
    }

    pub fn give_columns(&self, mut columns: Vec<Column>) {
        columns.iter_mut().for_each(Column::clear);
        lock(&self.columns).give(columns);
    }

    pub fn give_messages(&self, mut messages: Messages) {
        messages.clear();
        lock(&self.messages).give(messages);
    }
}

fn lock<T>(shelf: &Mutex<Shelf<T>>) -> MutexGuard<'_, Shelf<T>> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Shelf { spares: Vec::new(), idle: 0, returned: 0 }
    }
}

impl<T> Shelf<T> {
    fn take(&mut self) -> Option<T> {
        let spare = self.spares.pop();
        self.idle = self.idle.min(self.spares.len());
        spare
    }

    fn give(&mut self, spare: T) {
        if self.spares.len() < MOST {
            self.spares.push(spare);
        }
        self.returned += 1;
        if self.returned == TURN {
            self.spares.drain(..self.idle);
            *self = Shelf { idle: self.spares.len(), spares: std::mem::take(&mut self.spares), returned: 0 };
        }
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
    fn what_only_a_busy_time_needed_is_given_up() {
        let mut shelf = Shelf::default();
        (0..MOST + 1).for_each(|spare| shelf.give(spare));
        assert_eq!(shelf.spares.len(), MOST);
        // Two at once, again and again.
        for _ in 0..TURN {
            let taken = [shelf.take().unwrap(), shelf.take().unwrap()];
            assert_eq!(taken, [3, 2]);
            taken.into_iter().rev().for_each(|spare| shelf.give(spare));
        }
        assert_eq!(shelf.spares.len(), 2);
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
