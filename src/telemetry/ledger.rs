//! The ledger: the state of every message that was ever received.
//!
//! In every snapshot `received = inserted + dead_lettered + dropped + skipped + pending`. The counts change together
//! under one lock, once per read and once per batch, never per message. The ledger also knows which groups of
//! messages (batches, dead letters) are still open, so that a flush or a stop can wait for them.

use crate::core::lock::{lock, wait, wait_timeout};
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::Serialize;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    pub received: u64,
    pub inserted: u64,
    pub dead_lettered: u64,
    /// Only what the configuration asked to drop.
    pub dropped: u64,
    /// Retained messages that were not wanted, and messages that a broker sent again while they were in hand.
    pub skipped: u64,
    pub pending: u64,
}

/// How many messages of a group ended in which way.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    pub inserted: u64,
    pub dead_lettered: u64,
    pub dropped: u64,
}

impl std::ops::Add for Settled {
    type Output = Settled;

    fn add(self, other: Settled) -> Settled {
        Settled {
            inserted: self.inserted + other.inserted,
            dead_lettered: self.dead_lettered + other.dead_lettered,
            dropped: self.dropped + other.dropped,
        }
    }
}

/// A group of messages that is still open.
pub type PendingGroupId = u64;

#[derive(Debug, Default)]
pub struct Ledger {
    state: Mutex<LedgerState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct LedgerState {
    counts: Counts,
    open: BTreeMap<PendingGroupId, OpenGroup>,
    next: PendingGroupId,
    abandoned: bool,
}

#[derive(Debug)]
struct OpenGroup {
    /// The arrival of its first message.
    since: Instant,
    /// How many parts of it are to be closed.
    parts: usize,
}

impl LedgerState {
    fn settle(&mut self, settled: Settled) {
        let Settled { inserted, dead_lettered, dropped } = settled;
        let Counts { pending, .. } = self.counts;
        self.counts.inserted += inserted;
        self.counts.dead_lettered += dead_lettered;
        self.counts.dropped += dropped;
        self.counts.pending = pending.saturating_sub(inserted + dead_lettered + dropped);
    }
}

impl Ledger {
    fn state(&self) -> MutexGuard<'_, LedgerState> {
        // The state is changed by additions alone: a panic elsewhere cannot leave it half written.
        lock(&self.state)
    }

    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// How long the message has been here that came first of those that are pending; zero if there are none.
    pub fn oldest(&self, now: Instant) -> Duration {
        let state = self.state();
        let first = state.open.values().map(|group| group.since).min().filter(|_| state.counts.pending > 0);
        first.map_or(Duration::ZERO, |first| now.saturating_duration_since(first))
    }

    /// Opens a group whose first message came at `now`: they will all be settled by one [`Ledger::close`].
    pub fn open(&self, now: Instant) -> PendingGroupId {
        let mut state = self.state();
        let group = state.next;
        state.next += 1;
        state.open.insert(group, OpenGroup { since: now, parts: 1 });
        group
    }

    /// A part of an open group will be closed by itself: the group is open until all of them are. Gives a number that no group
    /// has.
    pub fn fork(&self, group: PendingGroupId) -> PendingGroupId {
        let mut state = self.state();
        if let Some(open) = state.open.get_mut(&group) {
            open.parts += 1;
        }
        state.next += 1;
        state.next - 1
    }

    /// `received` messages came in; `skipped` of them go nowhere.
    pub fn receive(&self, received: u64, skipped: u64) {
        let counts = &mut self.state().counts;
        counts.received += received;
        counts.skipped += skipped;
        counts.pending += received - skipped;
    }

    /// Messages are settled of which no group is closed by it: of one that stays open, or of none.
    pub fn settle(&self, settled: Settled) {
        self.state().settle(settled);
    }

    /// A group, or a part of it, is settled: its messages are inserted, dead letters or dropped.
    pub fn close(&self, group: PendingGroupId, settled: Settled) {
        let mut state = self.state();
        state.settle(settled);
        if let Some(open) = state.open.get_mut(&group) {
            open.parts -= 1;
            if open.parts == 0 {
                state.open.remove(&group);
            }
        }
        self.changed.notify_all();
    }

    /// The messages of a group move on in other groups.
    pub fn transfer(&self, group: PendingGroupId) {
        self.close(group, Settled::default());
    }

    /// The number that the next group will have: all that is open now is below it.
    pub fn watermark(&self) -> PendingGroupId {
        self.state().next
    }

    /// Waits until no group below `watermark` is open. `false`: the deadline passed first, or all was abandoned.
    pub fn wait_below(&self, watermark: PendingGroupId, deadline: Option<Instant>) -> bool {
        let mut state = self.state();
        loop {
            if state.open.first_key_value().is_none_or(|(group, _)| *group >= watermark) {
                return true;
            }
            if state.abandoned {
                return false;
            }
            state = match deadline {
                None => wait(&self.changed, state),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    wait_timeout(&self.changed, state, left)
                }
            };
        }
    }

    /// No open group will be closed any more: all waiting threads return.
    pub fn abandon(&self) {
        self.state().abandoned = true;
        self.changed.notify_all();
    }

    /// Before a start: what an earlier one that failed had begun was never acknowledged, and is forgotten.
    pub fn reset(&self) {
        let mut state = self.state();
        state.abandoned = false;
        state.open.clear();
        state.counts.received -= state.counts.pending;
        state.counts.pending = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balanced(counts: Counts) -> bool {
        counts.received
            == counts.inserted + counts.dead_lettered + counts.dropped + counts.skipped + counts.pending
    }

    #[test]
    fn the_books_balance() {
        let ledger = Ledger::default();
        let now = Instant::now();
        let (a, b) = (ledger.open(now), ledger.open(now));
        ledger.receive(10, 2);
        assert!(balanced(ledger.counts()));
        ledger.settle(Settled { inserted: 1, ..Settled::default() });
        assert!(balanced(ledger.counts()));
        ledger.settle(Settled { dropped: 1, ..Settled::default() });
        assert!(balanced(ledger.counts()));
        assert_eq!(ledger.counts().dropped, 1);
        ledger.close(a, Settled { inserted: 2, dropped: 1, ..Settled::default() });
        ledger.close(b, Settled { dead_lettered: 3, ..Settled::default() });
        assert!(balanced(ledger.counts()));
        assert_eq!(ledger.counts().pending, 0);
    }

    #[test]
    fn the_oldest_message_is_that_of_the_first_open_group() {
        let ledger = Ledger::default();
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let a = ledger.open(at(0));
        assert_eq!(ledger.oldest(at(1)), Duration::ZERO, "nothing has been received yet");
        ledger.open(at(2));
        ledger.receive(2, 0);
        assert_eq!(ledger.oldest(at(5)), Duration::from_secs(5));
        ledger.close(a, Settled { inserted: 1, ..Settled::default() });
        assert_eq!(ledger.oldest(at(5)), Duration::from_secs(3));
    }

    #[test]
    fn a_group_is_open_until_all_its_parts_are_closed() {
        let ledger = Ledger::default();
        let group = ledger.open(Instant::now());
        let part = ledger.fork(group);
        assert!(part > group && ledger.open(Instant::now()) > part);
        let below = || ledger.wait_below(group + 1, Some(Instant::now()));
        ledger.close(group, Settled::default());
        assert!(!below());
        ledger.close(group, Settled::default());
        assert!(below());
    }

    #[test]
    fn waiting_ends_when_the_groups_below_are_closed() {
        let ledger = Ledger::default();
        let now = Instant::now();
        let a = ledger.open(now);
        let mark = ledger.watermark();
        let later = ledger.open(now);
        assert!(!ledger.wait_below(mark, Some(Instant::now())));
        ledger.transfer(a);
        assert!(ledger.wait_below(mark, None));
        ledger.abandon();
        assert!(!ledger.wait_below(later + 1, None));
    }
}
