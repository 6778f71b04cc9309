//! Which records make up an INSERT, and whose turn it is. It knows sequences and sizes, no bytes.
//!
//! A record joins the open INSERT of its lane unless that would pass the limits or has another statement; then the open
//! one is closed and another opened. One that has to wait behind another takes more rows: fewer and larger INSERTs are what
//! a busy ClickHouse needs. An INSERT that is taken is closed too: its rows are fixed from then on. A lane has one
//! INSERT out at a time, so that its rows arrive in order; lanes do not wait for each other.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use crate::spool::wal::record::{Lane, Record};

/// The limits of an INSERT. The first record of one always fits.
#[derive(Debug, Clone, Copy)]
pub struct InsertLimits {
    pub rows: u64,
    /// Where it has to wait behind another.
    pub rows_behind: u64,
    /// Of blocks before they are compressed.
    pub bytes: u64,
    /// Age of the first record.
    pub delay: Duration,
}

#[derive(Debug)]
pub struct Queue {
    limits: InsertLimits,
    lanes: Vec<Places>,
    inserts: HashMap<u64, Waiting>,
}

/// The INSERTs of a lane.
#[derive(Debug)]
struct Places {
    lane: Lane,
    /// In order. The last one is open unless it says otherwise.
    waiting: VecDeque<u64>,
    /// The one that is out.
    out: Option<u64>,
}

#[derive(Debug)]
pub struct Waiting {
    lane: usize,
    pub token: String,
    statement: String,
    pub records: Vec<u64>,
    rows: u64,
    bytes: u64,
    received_at: SystemTime,
    due_at: Instant,
    is_closed: bool,
    /// Records of it that were not synced yet. While there are any it is not taken.
    unsynced: usize,
}

impl Queue {
    pub fn new(limits: InsertLimits) -> Queue {
        Queue { limits, lanes: Vec::new(), inserts: HashMap::new() }
    }

    /// Assigns a new record to an INSERT: the open one of its lane, or one that begins with it and gets this token.
    pub fn assign(
        &mut self,
        sequence: u64,
        record: &Record,
        now: Instant,
        token: impl FnOnce() -> String,
    ) -> u64 {
        let lane = self.lane(&record.lane);
        let open = self.lanes[lane].waiting.back().copied();
        if let Some(insert) = open
            && let Some(waiting) = self.inserts.get_mut(&insert)
            && !waiting.is_closed
        {
            let InsertLimits { rows, rows_behind, .. } = self.limits;
            let most_rows = if self.lanes[lane].waiting.len() > 1 { rows_behind } else { rows };
            let fits = waiting.rows + u64::from(record.rows) <= most_rows
                && waiting.bytes + u64::from(record.block_bytes) <= self.limits.bytes;
            if fits && waiting.statement == record.statement {
                waiting.add(sequence, record, false);
                return insert;
            }
            waiting.is_closed = true;
        }
        self.begin(sequence, lane, token(), record, now + self.limits.delay).add(sequence, record, false);
        sequence
    }

    /// Takes in a record that has an INSERT already. What was found is never joined by what comes.
    pub fn restore(
        &mut self,
        insert: u64,
        sequence: u64,
        token: &str,
        record: &Record,
        now: Instant,
        synced: bool,
    ) {
        let lane = self.lane(&record.lane);
        if !self.inserts.contains_key(&insert) {
            self.begin(insert, lane, token.into(), record, now).is_closed = true;
        }
        if let Some(waiting) = self.inserts.get_mut(&insert) {
            waiting.add(sequence, record, synced);
        }
    }

    fn begin(
        &mut self,
        insert: u64,
        lane: usize,
        token: String,
        record: &Record,
        due_at: Instant,
    ) -> &mut Waiting {
        self.lanes[lane].waiting.push_back(insert);
        self.inserts.entry(insert).or_insert(Waiting {
            lane,
            token,
            statement: record.statement.clone(),
            records: Vec::new(),
            rows: 0,
            bytes: 0,
            received_at: record.received_at,
            due_at,
            is_closed: false,
            unsynced: 0,
        })
    }

    /// Nothing joins any of the INSERTs that are open now.
    pub fn close(&mut self) {
        for insert in self.lanes.iter().filter_map(|places| places.waiting.back()) {
            if let Some(waiting) = self.inserts.get_mut(insert) {
                waiting.is_closed = true;
            }
        }
    }

    /// A record of this INSERT was synced.
    pub fn synced(&mut self, insert: u64) {
        if let Some(waiting) = self.inserts.get_mut(&insert) {
            waiting.unsynced -= 1;
        }
    }

    /// The INSERT whose turn it is: the oldest that is due, or with `all` the oldest.
    pub fn next(&mut self, now: Instant, all: bool) -> Option<u64> {
        let mut next = None::<u64>;
        for places in self.lanes.iter().filter(|places| places.out.is_none()) {
            let Some(insert) = places.waiting.front() else { continue };
            let Some(waiting) = self.inserts.get_mut(insert) else { continue };
            if !(all || waiting.is_due(now, &self.limits)) {
                continue;
            }
            // Otherwise records would go on joining it, and with each it would again wait to be synced.
            waiting.is_closed = true;
            if waiting.unsynced == 0 {
                next = Some(next.map_or(*insert, |oldest| oldest.min(*insert)));
            }
        }
        next
    }

    /// When [`Queue::next`] has something new to say. `None`: not before something is synced, settled or assigned.
    pub fn due_at(&self, now: Instant) -> Option<Instant> {
        let free = self.lanes.iter().filter(|places| places.out.is_none());
        let fronts = free.filter_map(|places| self.inserts.get(places.waiting.front()?));
        fronts.map(|waiting| waiting.due_at).filter(|at| *at > now).min()
    }

    /// When the oldest message came that is not settled.
    pub fn oldest(&self) -> Option<SystemTime> {
        let firsts = self.lanes.iter().filter_map(|places| places.out.as_ref().or(places.waiting.front()));
        firsts.filter_map(|insert| Some(self.inserts.get(insert)?.received_at)).min()
    }

    pub fn get(&self, insert: u64) -> Option<&Waiting> {
        self.inserts.get(&insert)
    }

    /// The one that [`Queue::next`] said goes out.
    pub fn take(&mut self, insert: u64) {
        if let Some(waiting) = self.inserts.get(&insert) {
            let places = &mut self.lanes[waiting.lane];
            debug_assert_eq!(places.waiting.front(), Some(&insert));
            places.waiting.pop_front();
            places.out = Some(insert);
        }
    }

    /// One that was out is settled.
    pub fn settle(&mut self, insert: u64) -> Option<Waiting> {
        let waiting = self.inserts.remove(&insert)?;
        self.lanes[waiting.lane].out.take_if(|out| *out == insert);
        Some(waiting)
    }

    fn lane(&mut self, lane: &Lane) -> usize {
        self.lanes.iter().position(|places| places.lane == *lane).unwrap_or_else(|| {
            self.lanes.push(Places { lane: lane.clone(), waiting: VecDeque::new(), out: None });
            self.lanes.len() - 1
        })
    }
}

impl Waiting {
    fn add(&mut self, sequence: u64, record: &Record, synced: bool) {
        self.records.push(sequence);
        self.rows += u64::from(record.rows);
        self.bytes += u64::from(record.block_bytes);
        self.unsynced += usize::from(!synced);
    }

    fn is_due(&self, now: Instant, limits: &InsertLimits) -> bool {
        self.is_closed || now >= self.due_at || self.rows >= limits.rows || self.bytes >= limits.bytes
    }
}
