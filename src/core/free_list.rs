//! Items kept for reuse, each as good as another. The item that came last is taken first: it may still be in the caches.
//! Items that nobody took during [`TRIM_INTERVAL`] returns are dropped.

#[derive(Debug)]
pub struct FreeList<T> {
    items: Vec<T>,
    max: usize,
    /// How many items at the bottom were not taken since the last trim.
    idle: usize,
    /// How often items came back since the last trim.
    returned: usize,
}

/// Returns between two trims.
pub(crate) const TRIM_INTERVAL: usize = 32;

impl<T> FreeList<T> {
    /// Keeps at most `max` items.
    pub fn new(max: usize) -> FreeList<T> {
        FreeList { items: Vec::new(), max, idle: 0, returned: 0 }
    }

    pub fn take(&mut self) -> Option<T> {
        let item = self.items.pop();
        self.idle = self.idle.min(self.items.len());
        item
    }

    /// Takes items back; `true` if this return trimmed the list.
    pub fn put(&mut self, items: impl IntoIterator<Item = T>) -> bool {
        let room = self.max.saturating_sub(self.items.len());
        self.items.extend(items.into_iter().take(room));
        self.returned += 1;
        if self.returned < TRIM_INTERVAL {
            return false;
        }
        self.items.drain(..self.idle);
        (self.idle, self.returned) = (self.items.len(), 0);
        true
    }

    /// Drops the items that do not fit. To be called after a trim.
    pub fn retain(&mut self, fits: impl FnMut(&T) -> bool) {
        self.items.retain(fits);
        self.idle = self.items.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_that_only_a_busy_time_needed_are_dropped() {
        let mut list = FreeList::new(4);
        (0..5).for_each(|item| assert!(!list.put([item])));
        assert_eq!(list.items.len(), 4);
        // Two at once, again and again.
        for _ in 0..TRIM_INTERVAL {
            let taken = [list.take().unwrap(), list.take().unwrap()];
            assert_eq!(taken, [3, 2]);
            taken.into_iter().rev().for_each(|item| _ = list.put([item]));
        }
        assert_eq!(list.items.len(), 2);
    }
}
