//! Messages that several completions have: of several routes, or of a batch and what was made of it.
//!
//! Each is acknowledged once, when the last completion that has it says so, and counts once, with the completion that had it
//! first, when the last one is settled. If one of them is abandoned, neither happens.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::core::ack_set::AckSet;
use crate::core::lock::lock;
use crate::telemetry::ledger::Settled;

/// Something that is given to the last of several holders.
#[derive(Debug)]
pub struct Shared<T>(Arc<Mutex<Share<T>>>);

#[derive(Debug)]
struct Share<T> {
    /// Holders that have not let it go.
    open: usize,
    content: T,
}

/// Acknowledgements, sent with those of the last completion.
pub type SharedAcks = Shared<AckSet>;

/// Counts of settled messages, which are reported when the last completion is settled.
pub type SharedCounts = Shared<Vec<Deferred>>;

/// Counts that wait for others, one after the other.
#[derive(Debug)]
pub struct Deferred {
    pub settled: Settled,
    pub waits_for: Vec<SharedCounts>,
}

impl<T> Clone for Shared<T> {
    /// The same holder once more: [`Shared::hold`] makes another one.
    fn clone(&self) -> Shared<T> {
        Shared(self.0.clone())
    }
}

impl<T: Default> Shared<T> {
    /// With one holder.
    pub fn new(content: T) -> Shared<T> {
        Shared(Arc::new(Mutex::new(Share { open: 1, content })))
    }

    /// For another holder.
    pub fn hold(&self) -> Shared<T> {
        self.share().open += 1;
        self.clone()
    }

    /// One holder lets go. Gives the content if it was the last one.
    pub fn release(self) -> Option<T> {
        let mut share = self.share();
        share.open -= 1;
        (share.open == 0).then(|| std::mem::take(&mut share.content))
    }

    pub fn is_same(&self, other: &Shared<T>) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Does something with the content, and says how many holders there are.
    pub fn with<R>(&self, f: impl FnOnce(&mut T, usize) -> R) -> R {
        let mut share = self.share();
        let open = share.open;
        f(&mut share.content, open)
    }

    fn share(&self) -> MutexGuard<'_, Share<T>> {
        // Nothing can panic while it is locked.
        lock(&self.0)
    }
}

/// The part that may be counted now; the rest waits for the first of its shares that still has holders.
pub fn countable(settled: Settled, waits_for: Vec<SharedCounts>) -> Option<Settled> {
    let mut left = waits_for;
    while let Some(shared) = left.pop() {
        let is_open = shared.with(|deferred, open| {
            if open > 0 {
                deferred.push(Deferred { settled, waits_for: std::mem::take(&mut left) });
            }
            open > 0
        });
        if is_open {
            return None;
        }
    }
    Some(settled)
}
