//! Locks without poisoning: a panic ends the pipeline (`INTERNAL`), and the other threads need their state to stop.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[inline]
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until `changed` is notified.
pub fn wait<'a, T>(changed: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    changed.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// As [`wait`], but for `timeout` at most.
pub fn wait_timeout<'a, T>(
    changed: &Condvar,
    guard: MutexGuard<'a, T>,
    timeout: Duration,
) -> MutexGuard<'a, T> {
    changed.wait_timeout(guard, timeout).unwrap_or_else(PoisonError::into_inner).0
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_panic_under_a_lock_does_not_end_it() {
        let (mutex, changed) = (Arc::new(Mutex::new(1)), Condvar::new());
        let its = mutex.clone();
        let ended = std::thread::spawn(move || {
            let _guard = its.lock();
            panic!("under the lock");
        });
        assert!(ended.join().is_err());
        assert!(mutex.is_poisoned());
        let guard = lock(&mutex);
        assert_eq!(*wait_timeout(&changed, guard, Duration::ZERO), 1);
    }
}
