//! The ceiling over all buffers together.
//!
//! Whoever holds memory has a [`MemoryReservation`] that says how much; dropping it gives the bytes
//! back. The capacity of a buffer counts, not its length, and a batch also counts the memory of its
//! later stages: so no later stage of a message exceeds the ceiling. At the ceiling connections stop
//! reading, which is back-pressure to the broker; one read may overshoot it.
//!
//! Memory that pools keep for reuse is not used. It has a part of the ceiling, and is given up where it stands in the way:
//! see [`Pool`].

use crate::core::lock::lock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::Notify;

/// The most that one message, one batch or one INSERT may take is this part of the ceiling.
const SHARE: usize = 8;

pub struct MemoryBudget {
    limit: usize,
    used: AtomicUsize,
    /// Bytes that pools keep.
    pooled: AtomicUsize,
    pools: Mutex<Vec<Weak<dyn Pool>>>,
    released: Notify,
}

/// Keeps unused memory for reuse.
pub trait Pool: Send + Sync {
    /// Frees all of it.
    fn empty(&self);
}

impl MemoryBudget {
    pub fn new(limit: usize) -> MemoryBudget {
        MemoryBudget {
            limit,
            used: AtomicUsize::new(0),
            pooled: AtomicUsize::new(0),
            pools: Mutex::default(),
            released: Notify::new(),
        }
    }

    /// The most that one message, one batch or one INSERT may take of a ceiling.
    pub const fn share_of(limit: usize) -> usize {
        limit / SHARE
    }

    pub fn share(&self) -> usize {
        MemoryBudget::share_of(self.limit)
    }

    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Whether nothing more may be read. Pools are emptied before they, together with what is used, pass the ceiling.
    pub fn is_full(&self) -> bool {
        let used = self.used();
        if used + self.pooled.load(Ordering::Relaxed) >= self.limit {
            self.empty_pools();
        }
        used >= self.limit
    }

    /// Whether `bytes` more stay below the ceiling.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.used() + bytes <= self.limit
    }

    /// From now on `pool` is emptied where memory is short.
    pub fn add_pool(&self, pool: Weak<dyn Pool>) {
        let mut pools = lock(&self.pools);
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(pool);
    }

    /// Lets a pool keep `bytes` more until the returned guard is dropped. `None`: it has to free them.
    pub fn pool(self: &Arc<Self>, bytes: usize) -> Option<PooledBytes> {
        let before = self.pooled.fetch_add(bytes, Ordering::Relaxed);
        let pooled = PooledBytes { budget: self.clone(), bytes };
        let fits = before + bytes <= self.share() && self.used() + before + bytes <= self.limit;
        fits.then_some(pooled)
    }

    #[cold]
    fn empty_pools(&self) {
        let pools = lock(&self.pools);
        pools.iter().filter_map(Weak::upgrade).for_each(|pool| pool.empty());
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

impl Default for MemoryBudget {
    /// Without a ceiling.
    fn default() -> Self {
        MemoryBudget::new(usize::MAX / 2)
    }
}

impl std::fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let MemoryBudget { limit, used, pooled, .. } = self;
        f.debug_struct("MemoryBudget")
            .field("limit", limit)
            .field("used", used)
            .field("pooled", pooled)
            .finish()
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

/// Bytes that a pool keeps until this is dropped.
#[derive(Debug)]
pub struct PooledBytes {
    budget: Arc<MemoryBudget>,
    bytes: usize,
}

impl Drop for PooledBytes {
    fn drop(&mut self) {
        let before = self.budget.pooled.fetch_sub(self.bytes, Ordering::Relaxed);
        debug_assert!(before >= self.bytes);
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

    struct Kept(Mutex<Option<PooledBytes>>);

    impl Pool for Kept {
        fn empty(&self) {
            self.0.lock().unwrap().take();
        }
    }

    #[test]
    fn pools_have_a_share_and_give_it_up_at_the_ceiling() {
        let budget = Arc::new(MemoryBudget::new(80));
        let kept = Arc::new(Kept(Mutex::new(budget.pool(10))));
        assert!(budget.pool(1).is_none(), "more than a share");
        let pool: Weak<Kept> = Arc::downgrade(&kept);
        budget.add_pool(pool);
        let is_kept = || kept.0.lock().unwrap().is_some();
        let mut held = MemoryReservation::new(&budget);
        held.resize(69);
        assert!(!budget.is_full() && is_kept());
        held.resize(70);
        assert!(!budget.is_full() && !is_kept(), "it is emptied, and there is room");
        assert!(budget.pool(10).is_some());
        held.resize(71);
        assert!(budget.pool(10).is_none(), "with what is used it is more than the ceiling");
        held.resize(80);
        assert!(budget.is_full());
    }
}
