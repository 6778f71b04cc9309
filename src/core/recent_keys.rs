//! Keys that were seen lately, each with a value, in memory that is bounded: the oldest key is forgotten for a new one.
//!
//! Keys are kept as fingerprints of 128 bits, made with a secret of the process: nobody can publish a key that is taken for
//! another one. The connections of a pipeline share them.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::core::lock::lock;
use crate::core::memory_budget::{MemoryBudget, MemoryReservation};

#[derive(Debug)]
pub struct RecentKeys<V> {
    secrets: [RandomState; 2],
    max_keys: usize,
    state: Mutex<State<V>>,
    dropped: AtomicU64,
    evicted: AtomicU64,
    keys: AtomicU64,
}

/// Counts of [`RecentKeys`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyCounts {
    /// Rows that were dropped for what is known of their key.
    pub dropped: u64,
    /// Keys that are known.
    pub keys: u64,
    /// Keys that were forgotten before their time, for newer ones.
    pub evicted: u64,
}

#[derive(Debug)]
struct State<V> {
    entries: HashMap<u128, Entry<V>, BuildHasherDefault<Fingerprint>>,
    /// The oldest first. An entry that is newer than its place here has another place behind it.
    order: VecDeque<(u128, Instant)>,
    memory: Option<MemoryReservation>,
}

#[derive(Debug, Clone, Copy)]
struct Entry<V> {
    at: Instant,
    value: V,
}

/// The decision on a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<V> {
    /// It is dropped, and the key stays as it is.
    Drop,
    /// It is kept, and this is known of its key from now on.
    Keep(V),
    /// It is kept, and nothing is known of its key any more.
    Forget,
}

impl<V: Copy> RecentKeys<V> {
    /// At most `max_keys` keys, at least one.
    pub fn new(max_keys: usize) -> Arc<RecentKeys<V>> {
        Arc::new(RecentKeys {
            secrets: [RandomState::new(), RandomState::new()],
            max_keys: max_keys.max(1),
            state: Mutex::new(State { entries: HashMap::default(), order: VecDeque::new(), memory: None }),
            dropped: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            keys: AtomicU64::new(0),
        })
    }

    /// Decides on a row by what is known of its key; `window` is how long that is known. `true`: it is kept.
    pub fn decide(
        &self,
        key: &[u8],
        now: Instant,
        window: Option<Duration>,
        memory: &Arc<MemoryBudget>,
        decide: impl FnOnce(Option<V>) -> Decision<V>,
    ) -> bool {
        let [high, low] = self.secrets.each_ref().map(|secret| secret.hash_one(key));
        let key = u128::from(high) << 64 | u128::from(low);
        let mut state = lock(&self.state);
        if let Some(window) = window {
            state.expire(now, window);
        }
        let known = state.entries.get(&key).map(|entry| entry.value);
        let is_kept = match decide(known) {
            Decision::Drop => false,
            Decision::Keep(value) => {
                let evicted = state.keep(key, Entry { at: now, value }, self.max_keys, memory);
                self.evicted.fetch_add(evicted, Ordering::Relaxed);
                true
            }
            Decision::Forget => {
                state.entries.remove(&key);
                true
            }
        };
        self.keys.store(state.entries.len() as u64, Ordering::Relaxed);
        if !is_kept {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        is_kept
    }

    pub fn counts(&self) -> KeyCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        KeyCounts { dropped: get(&self.dropped), keys: get(&self.keys), evicted: get(&self.evicted) }
    }
}

impl<V: Copy> State<V> {
    fn expire(&mut self, now: Instant, window: Duration) {
        while let Some((_, at)) = self.order.front()
            && now.saturating_duration_since(*at) >= window
        {
            self.pop();
        }
    }

    /// Forgets the oldest key. `false`: that place was not its last one.
    fn pop(&mut self) -> bool {
        let Some((key, at)) = self.order.pop_front() else { return false };
        let is_last = self.entries.get(&key).is_some_and(|entry| entry.at == at);
        if is_last {
            self.entries.remove(&key);
        }
        is_last
    }

    /// Gives how many keys had to go for it.
    fn keep(&mut self, key: u128, entry: Entry<V>, max_keys: usize, memory: &Arc<MemoryBudget>) -> u64 {
        let mut evicted = 0;
        match self.entries.get_mut(&key) {
            Some(known) => {
                let is_noted = known.at == entry.at;
                *known = entry;
                if is_noted {
                    return 0;
                }
            }
            None => {
                while !self.entries.is_empty() && !self.has_room(max_keys, memory) {
                    evicted += u64::from(self.pop());
                }
                self.entries.insert(key, entry);
            }
        }
        // Places that are not the last of their key are as many as the keys at most.
        if self.order.len() >= 2 * self.entries.len() + 64 {
            let entries = &self.entries;
            self.order.retain(|(key, at)| entries.get(key).is_some_and(|entry| entry.at == *at));
        }
        self.order.push_back((key, entry.at));
        let bytes = self.bytes();
        let reservation = self.memory.get_or_insert_with(|| MemoryReservation::new(memory));
        if reservation.bytes() != bytes {
            reservation.resize(bytes);
        }
        evicted
    }

    /// Whether one key more is allowed. Where the table would have to grow beyond half of the ceiling, it is not: messages need the
    /// other half.
    fn has_room(&self, max_keys: usize, memory: &MemoryBudget) -> bool {
        let (keys, capacity) = (self.entries.len(), self.entries.capacity());
        let grows = keys == capacity;
        keys < max_keys && (!grows || memory.used() + 2 * self.bytes() <= memory.limit() / 2)
    }

    fn bytes(&self) -> usize {
        // A table of this capacity is filled to seven eighths, with one byte beside each place.
        let places = (self.entries.capacity() * 8 / 7).next_power_of_two();
        places * (size_of::<(u128, Entry<V>)>() + 1) + self.order.capacity() * size_of::<(u128, Instant)>()
    }
}

/// The hash of a key that is random itself.
#[derive(Default)]
struct Fingerprint(u64);

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    }

    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(1);

    fn once(known: Option<()>) -> Decision<()> {
        if known.is_some() { Decision::Drop } else { Decision::Keep(()) }
    }

    #[test]
    fn a_key_is_kept_once_in_a_window_that_begins_with_the_row_that_was_kept() {
        let (memory, start) = (Arc::<MemoryBudget>::default(), Instant::now());
        let keys = RecentKeys::new(10);
        let kept =
            |key: &[u8], ms| keys.decide(key, start + Duration::from_millis(ms), Some(WINDOW), &memory, once);
        assert!(kept(b"a", 0) && kept(b"b", 500));
        assert!(!kept(b"a", 600) && !kept(b"a", 999));
        assert!(kept(b"a", 1000), "a repetition does not lengthen the window");
        assert!(!kept(b"b", 1499) && kept(b"b", 1500) && !kept(b"a", 1999));
        assert_eq!(keys.counts(), KeyCounts { dropped: 4, keys: 2, evicted: 0 });
    }

    #[test]
    fn the_oldest_key_goes_for_a_new_one_and_memory_is_counted() {
        let (memory, start) = (Arc::<MemoryBudget>::default(), Instant::now());
        let keys = RecentKeys::new(100);
        for key in 0..1000u32 {
            let at = start + Duration::from_micros(key.into());
            assert!(keys.decide(&key.to_le_bytes(), at, Some(WINDOW), &memory, once));
        }
        assert_eq!(keys.counts(), KeyCounts { dropped: 0, keys: 100, evicted: 900 });
        let at = start + Duration::from_millis(2);
        assert!(!keys.decide(&999u32.to_le_bytes(), at, Some(WINDOW), &memory, once));
        assert!(!keys.decide(&900u32.to_le_bytes(), at, Some(WINDOW), &memory, once));
        assert!(keys.decide(&899u32.to_le_bytes(), at, Some(WINDOW), &memory, once));
        assert!(memory.used() > 100 * 56 && memory.used() < 100 * 400, "{}", memory.used());
        drop(keys);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn values_that_change_take_no_further_memory() {
        let (memory, start) = (Arc::<MemoryBudget>::default(), Instant::now());
        let keys = RecentKeys::new(4);
        for i in 0..10_000u64 {
            let at = start + Duration::from_micros(i);
            assert!(keys.decide(b"a", at, None, &memory, |known| {
                assert_eq!(known, i.checked_sub(1));
                Decision::Keep(i)
            }));
        }
        assert!(memory.used() < 10_000, "{}", memory.used());
        assert!(keys.decide(b"a", start, None, &memory, |known| {
            assert_eq!(known, Some(9999));
            Decision::Forget
        }));
        assert_eq!(keys.counts(), KeyCounts { dropped: 0, keys: 0, evicted: 0 });
    }

    #[test]
    fn keys_leave_half_of_the_ceiling_to_messages() {
        let memory = Arc::new(MemoryBudget::new(1 << 20));
        let keys = RecentKeys::new(1_000_000);
        let now = Instant::now();
        for key in 0..100_000u32 {
            assert!(keys.decide(&key.to_le_bytes(), now, Some(WINDOW), &memory, once));
        }
        assert!(memory.used() <= 1 << 19, "{}", memory.used());
        let KeyCounts { keys, evicted, .. } = keys.counts();
        assert!(keys > 500 && keys + evicted == 100_000, "{keys} {evicted}");
    }
}
