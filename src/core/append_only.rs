//! A list that grows while others read it: what is in it stays where it is.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use crate::core::lock::lock;

/// Entries of the first block; each further block has twice as many.
const FIRST: usize = 8;
/// More entries than there is memory for.
const BLOCKS: usize = 32;

pub struct AppendOnly<T> {
    blocks: [OnceLock<Box<[OnceLock<T>]>>; BLOCKS],
    len: AtomicUsize,
    /// Held while an entry is added.
    adding: Mutex<()>,
}

impl<T> AppendOnly<T> {
    /// Adds an entry and gives its place.
    pub fn push(&self, entry: T) -> usize {
        self.push_with(|_| entry)
    }

    /// The same with an entry that knows its place. Nothing else is added meanwhile.
    pub fn push_with(&self, make: impl FnOnce(usize) -> T) -> usize {
        let _adding = lock(&self.adding);
        let at = self.len.load(Ordering::Relaxed);
        let (block, place) = position(at);
        let block = self.blocks[block].get_or_init(|| (0..FIRST << block).map(|_| OnceLock::new()).collect());
        // The place is free: entries are added one after the other.
        let _ = block[place].set(make(at));
        self.len.store(at + 1, Ordering::Release);
        at
    }

    pub fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, at: usize) -> Option<&T> {
        let (block, place) = position(at);
        self.blocks.get(block)?.get()?[place].get()
    }

    /// The entries that are there when it is called.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.len()).filter_map(|at| self.get(at))
    }
}

/// The block of an entry, and its place there.
fn position(at: usize) -> (usize, usize) {
    let block = (at / FIRST + 1).ilog2() as usize;
    (block, at - FIRST * ((1 << block) - 1))
}

impl<T> Default for AppendOnly<T> {
    fn default() -> AppendOnly<T> {
        AppendOnly {
            blocks: [const { OnceLock::new() }; BLOCKS],
            len: AtomicUsize::new(0),
            adding: Mutex::default(),
        }
    }
}

impl<T> FromIterator<T> for AppendOnly<T> {
    fn from_iter<I: IntoIterator<Item = T>>(entries: I) -> AppendOnly<T> {
        let list = AppendOnly::default();
        for entry in entries {
            list.push(entry);
        }
        list
    }
}

impl<T: fmt::Debug> fmt::Debug for AppendOnly<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn entries_stay_where_they_are() {
        let list = AppendOnly::default();
        assert!(list.is_empty() && list.get(0).is_none());
        let first = list.push(0);
        let address = std::ptr::from_ref(list.get(first).unwrap());
        for entry in 1..1000 {
            assert_eq!(list.push_with(|at| at), entry);
        }
        assert_eq!(std::ptr::from_ref(list.get(0).unwrap()), address);
        assert_eq!(list.iter().copied().collect::<Vec<_>>(), (0..1000).collect::<Vec<_>>());
        assert_eq!((list.len(), list.get(1000)), (1000, None));
    }

    #[test]
    fn all_that_is_counted_is_there_for_other_threads() {
        let list = Arc::new(AppendOnly::default());
        let reader = {
            let list = list.clone();
            std::thread::spawn(move || {
                while list.len() < 10_000 {
                    let len = list.len();
                    assert_eq!(list.iter().take(len).count(), len);
                }
            })
        };
        for entry in 0..10_000 {
            list.push(entry);
        }
        reader.join().unwrap();
    }
}
