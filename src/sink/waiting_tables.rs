//! Tables of which an INSERT waits before it is tried again.
//!
//! No other table waits with it: the worker takes other INSERTs meanwhile. It puts INSERTs of the same table aside here, in
//! their order; they follow when the one in front has ended: a table that takes nothing is asked by one INSERT, not by all.

use crate::core::lock::lock;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};

pub struct WaitingTables<J>(Mutex<HashMap<String, Waiting<J>>>);

struct Waiting<J> {
    /// INSERTs that wait to be tried again.
    inserts: usize,
    behind: VecDeque<J>,
}

impl<J> Default for WaitingTables<J> {
    fn default() -> Self {
        WaitingTables(Mutex::default())
    }
}

impl<J> WaitingTables<J> {
    /// An INSERT into this table begins to wait.
    pub fn enter(&self, table: &str) {
        let mut tables = self.lock();
        match tables.get_mut(table) {
            Some(waiting) => waiting.inserts += 1,
            None => {
                tables.insert(table.into(), Waiting { inserts: 1, behind: VecDeque::new() });
            }
        }
    }

    /// Puts a job aside if its table waits; gives it back if not.
    pub fn defer(&self, table: &str, job: J) -> Option<J> {
        match self.lock().get_mut(table) {
            Some(waiting) => {
                waiting.behind.push_back(job);
                None
            }
            None => Some(job),
        }
    }

    /// An INSERT that waited has ended: the next one of its table, if there is one.
    pub fn next(&self, table: &str) -> Option<J> {
        let mut tables = self.lock();
        let waiting = tables.get_mut(table)?;
        if let Some(job) = waiting.behind.pop_front() {
            return Some(job);
        }
        waiting.inserts -= 1;
        if waiting.inserts == 0 {
            tables.remove(table);
        }
        None
    }

    /// Drops all that was put aside: nothing more is inserted.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Waiting<J>>> {
        lock(&self.0)
    }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_of_a_waiting_table_follow_in_order() {
        let tables = WaitingTables::default();
        assert_eq!(tables.defer("a", 0), Some(0));
        tables.enter("a");
        assert_eq!(tables.defer("a", 1), None);
        assert_eq!(tables.defer("b", 2), Some(2), "another table does not wait");
        assert_eq!(tables.defer("a", 3), None);
        assert_eq!((tables.next("a"), tables.next("a"), tables.next("a")), (Some(1), Some(3), None));
        assert_eq!(tables.defer("a", 4), Some(4));
    }

    #[test]
    fn a_table_waits_as_long_as_one_of_its_inserts_does() {
        let tables = WaitingTables::default();
        tables.enter("a");
        tables.enter("a");
        assert_eq!(tables.next("a"), None);
        assert_eq!(tables.defer("a", 1), None);
        assert_eq!((tables.next("a"), tables.next("a")), (Some(1), None));
        assert_eq!(tables.defer("a", 2), Some(2));
    }
}
