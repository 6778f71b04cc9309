//! Runs a log on a disk that fails, with crashes at any moment.
//!
//! Whatever happens: what was committed comes back with the same bytes unless it was settled, no record goes out under two
//! tokens, a token always carries the same records, and nothing is taken for damaged. Messages that a
//! broker would send again are known, and no others.
//!
//! `SEED=<seed> cargo test --test spool crashes` repeats a run. `cargo test --test spool crashes -- --ignored` runs a million.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use millrace::spool::{Insert, Log, Record};

use super::random::Random;
use super::records::{key, options, record};
use super::simulated::{Faults, Simulated};

#[test]
fn crashes_lose_nothing_that_was_committed() {
    match std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => run(seed),
        None => runs(0..10_000),
    }
}

/// Records of one entry, of which one is done and another waits: after a crash that leaves open whether the entry was synced, the
/// one that waits was not written again, and never taken.
#[test]
fn crashes_that_lost_something_once() {
    run(10_936);
}

#[test]
#[ignore = "takes minutes: npm run test:full"]
fn a_million_crashes_lose_nothing_that_was_committed() {
    runs(10_000..1_010_000);
}

fn runs(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words");
            panic!("SEED={seed} repeats it: {text}");
        }
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..2 + world.random.below(60) {
        world.step();
    }
    world.finish();
}

/// A log, and what an observer knows of it.
struct World {
    random: Random,
    disk: Simulated,
    life: u64,
    log: Option<Log<Simulated>>,
    now: Instant,
    sent: BTreeMap<u32, Record>,
    /// Records of which all are on disk or none.
    together: Vec<Vec<u32>>,
    /// Appended since the last commit that succeeded.
    uncommitted: Vec<u32>,
    committed: BTreeSet<u32>,
    out: Vec<Insert>,
    settled: BTreeSet<u32>,
    /// Settled since the last commit that succeeded.
    settling: Vec<u32>,
    settled_for_good: BTreeSet<u32>,
    tokens: BTreeMap<u32, String>,
    carried: BTreeMap<String, Vec<u32>>,
    /// The last key of each stream that went out in this life.
    went: BTreeMap<u32, u32>,
    taken_in_this_life: BTreeSet<u32>,
    /// A commit has failed.
    has_failed: bool,
    was_full: bool,
}

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            random: Random::new(seed),
            disk: Simulated::new(!seed),
            life: seed << 8,
            log: None,
            now: Instant::now(),
            sent: BTreeMap::new(),
            together: Vec::new(),
            uncommitted: Vec::new(),
            committed: BTreeSet::new(),
            out: Vec::new(),
            settled: BTreeSet::new(),
            settling: Vec::new(),
            settled_for_good: BTreeSet::new(),
            tokens: BTreeMap::new(),
            carried: BTreeMap::new(),
            went: BTreeMap::new(),
            taken_in_this_life: BTreeSet::new(),
            has_failed: false,
            was_full: false,
        };
        world.open();
        world
    }

    fn open(&mut self) {
        self.life += 1;
        self.out.clear();
        self.uncommitted.clear();
        self.settling.clear();
        self.went.clear();
        self.taken_in_this_life.clear();
        self.was_full |= self.disk.used() as u64 >= options(self.life).max_bytes;
        // A start that fails has done nothing; it is started again.
        let (log, recovered) = loop {
            match Log::open(self.disk.clone(), options(self.life), self.now) {
                Ok(opened) => break opened,
                Err(error) => assert_eq!(error.code(), "SPOOL_IO", "{error}"),
            }
        };
        assert_eq!(
            (&recovered.damages[..], &recovered.breaks[..], recovered.missing),
            (&[][..], &[][..], None)
        );
        self.log = Some(log);
        self.check_receipts(false);
    }

    /// A known message counts as committed, since it is acknowledged when it comes again. Once all that
    /// was found is synced, the newest committed messages are known, unless the space of their receipts
    /// was needed.
    fn check_receipts(&mut self, all_is_synced: bool) {
        for connection in 0..3 {
            let session = self.log.as_ref().unwrap().session(connection);
            let receipts = session.into_iter().flat_map(|session| session.acknowledged.iter());
            let known: Vec<u32> = receipts.map(|receipt| receipt.fingerprint as u32).collect();
            assert!(known.is_sorted_by(|a, b| a < b), "in order, none twice: {known:?}");
            self.committed.extend(&known);
            let stream =
                self.committed.iter().rev().filter(|key| self.sent[key].stream.connection == connection);
            let forgotten: Vec<_> = stream.take(2).filter(|key| !known.contains(key)).collect();
            assert!(forgotten.is_empty() || self.was_full || !all_is_synced, "not known: {forgotten:?}");
        }
    }

    fn log(&mut self) -> &mut Log<Simulated> {
        self.log.as_mut().unwrap()
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..35 => self.append(),
            35..60 => self.commit(),
            60..75 => {
                let all = self.random.one_in(2);
                self.take(all);
            }
            75..85 => self.settle(),
            85..88 => {
                self.was_full |= self.log().is_full();
                let _ = self.log().delete_obsolete();
            }
            88..91 => self.now += Duration::from_millis(400),
            91..95 => {
                let one_in = self.random.one_in(2).then(|| 1 + self.random.below(8));
                let room = self.random.one_in(3).then(|| self.disk.used() + self.random.below(2000));
                self.disk.set_faults(Faults { one_in: one_in.map(|n| n + 1), room });
            }
            95..97 => {
                self.log = None;
                self.open();
            }
            97 => {
                // As far as it comes: what was not committed before may be by now.
                let _ = self.log.take().unwrap().close();
                self.open();
            }
            _ => {
                self.log = None;
                self.disk.crash();
                self.open();
            }
        }
    }

    fn append(&mut self) {
        if self.log().is_full() {
            self.was_full = true;
            return;
        }
        let mut records = Vec::new();
        for _ in 0..1 + self.random.below(3) {
            let key = self.sent.len() as u32;
            let record = record(key, self.random.below(3) as u32, self.random.below(120));
            self.sent.insert(key, record.clone());
            self.uncommitted.push(key);
            records.push(record);
        }
        let now = self.now;
        if self.random.one_in(3) {
            self.together.push(records.iter().map(key).collect());
            self.log().append_together(records, now);
        } else {
            for record in records {
                self.log().append(record, now);
            }
        }
    }

    fn commit(&mut self) {
        let is_committed = self.log().commit().is_ok();
        self.has_failed |= !is_committed;
        if is_committed {
            self.committed.extend(self.uncommitted.drain(..));
            self.settled_for_good.extend(self.settling.drain(..));
            self.check_receipts(true);
        }
    }

    /// `false`: there was nothing.
    fn take(&mut self, all: bool) -> bool {
        let now = self.now;
        let Some(insert) = self.log().take(now, all).unwrap() else { return false };
        let keys: Vec<u32> = insert.records.iter().map(|record| key(record)).collect();
        for (record, key) in insert.records.iter().zip(&keys) {
            assert_eq!(**record, self.sent[key], "the bytes of {key}");
            assert!(!self.settled_for_good.contains(key), "{key} was settled for good");
            assert!(!self.uncommitted.contains(key), "{key} is not committed");
            assert!(self.taken_in_this_life.insert(*key), "{key} went out twice");
            let token = self.tokens.entry(*key).or_insert_with(|| insert.token.clone());
            assert_eq!(*token, insert.token, "a second token for {key}");
            let before = self.went.insert(record.stream.connection, *key);
            assert!(before.is_none_or(|before| before < *key), "{key} overtook {before:?}");
        }
        let carried = self.carried.entry(insert.token.clone()).or_insert_with(|| keys.clone());
        // On a full disk a settled INSERT may lose records before it is written that it is settled.
        let is_left_over = self.has_failed && carried.iter().all(|key| self.settled.contains(key));
        assert!(*carried == keys || is_left_over, "{keys:?} under the token of {carried:?}");
        self.out.push(insert);
        true
    }

    fn settle(&mut self) {
        if self.out.is_empty() {
            return;
        }
        let insert = self.out.swap_remove(self.random.below(self.out.len()));
        let keys = insert.records.iter().map(|record| key(record));
        self.settling.extend(keys.clone());
        self.settled.extend(keys);
        self.log().done(insert.id);
    }

    /// The disk works again, and everything is inserted.
    fn finish(&mut self) {
        self.disk.set_faults(Faults::default());
        self.log = None;
        if self.random.one_in(2) {
            self.disk.crash();
        }
        self.open();
        self.commit();
        while self.take(true) {
            while !self.out.is_empty() {
                self.settle();
            }
        }
        let lost: Vec<_> = self.committed.difference(&self.settled).collect();
        assert!(lost.is_empty(), "committed and lost: {lost:?}");
        for together in &self.together {
            let found = together.iter().filter(|key| self.settled.contains(key)).count();
            assert!(found == 0 || found == together.len(), "{found} of {together:?}");
        }
        self.commit();
        self.log().delete_obsolete().unwrap();
        assert_eq!(self.log().open_records(), 0);
        assert!(self.log().segments() <= 1);
        self.log = None;
        self.open();
        assert_eq!((self.log().open_records(), self.log().segments() <= 1), (0, true));
    }
}
