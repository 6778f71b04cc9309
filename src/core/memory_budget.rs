//! The ceiling over all buffers together.
//!
//! Whoever holds memory has a [`MemoryReservation`] that says how much; dropping it gives the bytes back. At the ceiling
//! connections stop reading, which is back-pressure to the broker; one read may overshoot it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

#[derive(Debug)]
pub struct MemoryBudget {
    limit: usize,
    used: AtomicUsize,
    released: Notify,
}

impl MemoryBudget {
    pub fn new(limit: usize) -> MemoryBudget {
        MemoryBudget { limit, used: AtomicUsize::new(0), released: Notify::new() }
    }

    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    pub fn is_full(&self) -> bool {
        self.used() >= self.limit
    }

    fn acquire(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn release(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes);
        if before >= self.limit && before - bytes < self.limit {
            self.released.notify_waiters();
        }
    }

    /// Ends when less than the ceiling is used. A wake-up between the check and the wait is not lost: `notified` counts
    /// from the moment it is enabled.
    pub async fn wait_for_capacity(&self) {
        loop {
            let mut released = std::pin::pin!(self.released.notified());
            released.as_mut().enable();
            if !self.is_full() {
                return;
            }
            released.await;
        }
    }
}

/// Bytes that count towards the ceiling until this is dropped.
#[derive(Debug)]
pub struct MemoryReservation {
    budget: Arc<MemoryBudget>,
    bytes: usize,
}

impl MemoryReservation {
    /// Without any bytes yet.
    pub fn new(budget: &Arc<MemoryBudget>) -> MemoryReservation {
        MemoryReservation { budget: budget.clone(), bytes: 0 }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts `bytes` in place of what was counted before.
    pub fn resize(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        match bytes.checked_sub(before) {
            Some(0) => {}
            Some(more) => self.budget.acquire(more),
            None => self.budget.release(before - bytes),
        }
    }
}

impl Drop for MemoryReservation {
    fn drop(&mut self) {
        self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_count_until_they_are_dropped() {
        let budget = Arc::new(MemoryBudget::new(100));
        let mut one = MemoryReservation::new(&budget);
        let mut other = MemoryReservation::new(&budget);
        one.resize(60);
        other.resize(40);
        assert!(budget.is_full());
        one.resize(10);
        assert_eq!((budget.used(), budget.is_full()), (50, false));
        drop((one, other));
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_by_the_release_that_makes_room() {
        let budget = Arc::new(MemoryBudget::new(1));
        let mut held = MemoryReservation::new(&budget);
        held.resize(1);
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.wait_for_capacity().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(held);
        waiting.await.unwrap();
    }
}
