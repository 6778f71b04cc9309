//! The ceiling over all buffers together.
//!
//! Connections add what their batches grew by after each read, and whoever frees a batch subtracts it. At the
//! ceiling connections stop reading, which is back-pressure to the broker; one read may overshoot it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

#[derive(Debug)]
pub struct Memory {
    limit: usize,
    used: AtomicUsize,
    freed: Notify,
}

impl Memory {
    pub fn new(limit: usize) -> Memory {
        Memory { limit, used: AtomicUsize::new(0), freed: Notify::new() }
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

    pub fn add(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn subtract(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes);
        if before >= self.limit && before - bytes < self.limit {
            self.freed.notify_waiters();
        }
    }

    /// Nothing is held any more.
    pub fn clear(&self) {
        self.used.store(0, Ordering::Relaxed);
    }

    /// Ends when there is room. A wake-up between the check and the wait is not lost: `notified` counts from the
    /// moment it is enabled.
    pub async fn room(&self) {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if !self.is_full() {
                return;
            }
            freed.await;
        }
    }
}

/// Bytes that count until this is dropped.
#[derive(Debug)]
pub struct Held {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Held {
    /// Takes over bytes that were added before.
    pub fn take_over(memory: &Arc<Memory>, bytes: usize) -> Held {
        Held { memory: memory.clone(), bytes }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.subtract(self.bytes);
    }
}
