//! Assigns records to INSERTs, and says which INSERT is next. It knows sequences and sizes, no bytes.
//!
//! - A record joins the open INSERT of its stream. If that would pass the limits, or has another statement, it is closed and
//!   the record opens another one.
//! - An INSERT that waits behind another takes more rows: a busy ClickHouse needs fewer and larger INSERTs.
//! - An INSERT that is taken is closed too: its rows are fixed from then on.
//! - A stream has one INSERT out at a time, so that its rows arrive in order. Streams do not wait for each other.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use crate::spool::wal::record::{Record, StreamKey};

/// The limits of an INSERT. The first record always fits.
#[derive(Debug, Clone, Copy)]
pub struct InsertLimits {
    pub rows: u64,
    /// Rows of an INSERT that waits behind another.
    pub rows_behind: u64,
    /// Bytes of the blocks before compression.
    pub bytes: u64,
    /// Bytes of blocks and messages before compression: all records of an INSERT are in memory together.
    pub decoded_bytes: u64,
    /// The age of the first record at which it is due.
    pub delay: Duration,
}

/// A stream has one INSERT out at a time. Before that one stand those that were done and of which no commit said so: as many
/// as ClickHouse takes within a tenth of a second.
const MAX_ATTEMPTED: usize = 32;

#[derive(Debug)]
pub struct InsertQueue {
    limits: InsertLimits,
    streams: Vec<StreamQueue>,
    inserts: HashMap<u64, PendingInsert>,
    /// Bytes of tokens and statements of all INSERTs.
    text_bytes: usize,
}

/// Bytes of memory for an INSERT without its texts and sequences.
const INSERT_BYTES: usize = size_of::<(u64, PendingInsert)>() + 64;

/// The INSERTs of a stream.
#[derive(Debug)]
struct StreamQueue {
    stream: StreamKey,
    /// In order. The last one is open unless it is marked as closed.
    waiting: VecDeque<u64>,
    /// The INSERT that was taken and is not settled.
    out: Option<u64>,
}

#[derive(Debug)]
pub struct PendingInsert {
    stream: usize,
    pub token: String,
    statement: String,
    pub records: Vec<u64>,
    rows: u64,
    bytes: u64,
    decoded_bytes: u64,
    received_at: SystemTime,
    due_at: Instant,
    is_closed: bool,
    /// An earlier process may have attempted it.
    pub may_be_attempted: bool,
    /// Records of it that are not synced yet. It is only taken when there are none.
    unsynced: usize,
}

impl InsertQueue {
    pub fn new(limits: InsertLimits) -> InsertQueue {
        InsertQueue { limits, streams: Vec::new(), inserts: HashMap::new(), text_bytes: 0 }
    }

    /// Assigns a new record to the open INSERT of its stream, or to a new one with this token. Returns the INSERT.
    pub fn assign(
        &mut self,
        sequence: u64,
        record: &Record,
        now: Instant,
        token: impl FnOnce() -> String,
    ) -> u64 {
        let stream = self.stream(&record.stream);
        let open = self.streams[stream].waiting.back().copied();
        if let Some(insert) = open
            && let Some(waiting) = self.inserts.get_mut(&insert)
            && !waiting.is_closed
        {
            let InsertLimits { rows, rows_behind, .. } = self.limits;
            let most_rows = if self.streams[stream].waiting.len() > 1 { rows_behind } else { rows };
            let fits = waiting.rows + u64::from(record.rows) <= most_rows
                && waiting.bytes + u64::from(record.block_bytes) <= self.limits.bytes
                && waiting.decoded_bytes + record.decoded_bytes() <= self.limits.decoded_bytes;
            if fits && waiting.statement == record.statement {
                waiting.add(sequence, record, false);
                return insert;
            }
            waiting.is_closed = true;
        }
        self.begin(sequence, stream, token(), record, now + self.limits.delay).add(sequence, record, false);
        sequence
    }

    /// Adds a record that was found on disk and has its INSERT already. New records never join that INSERT.
    pub fn restore(
        &mut self,
        insert: u64,
        sequence: u64,
        token: &str,
        record: &Record,
        now: Instant,
        synced: bool,
    ) {
        let stream = self.stream(&record.stream);
        if !self.inserts.contains_key(&insert) {
            let before = self.streams[stream].waiting.len();
            let restored = self.begin(insert, stream, token.into(), record, now);
            (restored.is_closed, restored.may_be_attempted) = (true, before < MAX_ATTEMPTED);
        }
        if let Some(waiting) = self.inserts.get_mut(&insert) {
            waiting.add(sequence, record, synced);
        }
    }

    fn begin(
        &mut self,
        insert: u64,
        stream: usize,
        token: String,
        record: &Record,
        due_at: Instant,
    ) -> &mut PendingInsert {
        self.streams[stream].waiting.push_back(insert);
        self.text_bytes += token.len() + record.statement.len();
        self.inserts.entry(insert).or_insert(PendingInsert {
            stream,
            token,
            statement: record.statement.clone(),
            records: Vec::new(),
            rows: 0,
            bytes: 0,
            decoded_bytes: 0,
            received_at: record.received_at,
            due_at,
            is_closed: false,
            may_be_attempted: false,
            unsynced: 0,
        })
    }

    /// The streams of INSERTs that are not done.
    pub fn open_streams(&self) -> impl Iterator<Item = &StreamKey> {
        self.streams.iter().filter(|places| !places.waiting.is_empty()).map(|places| &places.stream)
    }

    /// Closes all INSERTs that are open.
    pub fn close(&mut self) {
        for insert in self.streams.iter().filter_map(|places| places.waiting.back()) {
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

    /// The oldest INSERT that is due; with `all` the oldest.
    pub fn next(&mut self, now: Instant, all: bool) -> Option<u64> {
        let mut next = None::<u64>;
        for places in self.streams.iter().filter(|places| places.out.is_none()) {
            let Some(insert) = places.waiting.front() else { continue };
            let Some(waiting) = self.inserts.get_mut(insert) else { continue };
            if !(all || waiting.is_due(now, &self.limits)) {
                continue;
            }
            // If records went on joining it, it would wait for each of them to be synced.
            waiting.is_closed = true;
            if waiting.unsynced == 0 {
                next = Some(next.map_or(*insert, |oldest| oldest.min(*insert)));
            }
        }
        next
    }

    /// When the result of [`InsertQueue::next`] may change. `None`: not before a record is synced, settled or assigned.
    pub fn due_at(&self, now: Instant) -> Option<Instant> {
        let free = self.streams.iter().filter(|places| places.out.is_none());
        let fronts = free.filter_map(|places| self.inserts.get(places.waiting.front()?));
        fronts.map(|waiting| waiting.due_at).filter(|at| *at > now).min()
    }

    /// Receive time of the oldest message that is not settled.
    pub fn oldest(&self) -> Option<SystemTime> {
        let firsts = self.streams.iter().filter_map(|places| places.out.as_ref().or(places.waiting.front()));
        firsts.filter_map(|insert| Some(self.inserts.get(insert)?.received_at)).min()
    }

    pub fn get(&self, insert: u64) -> Option<&PendingInsert> {
        self.inserts.get(&insert)
    }

    /// Bytes of memory for what is known of the INSERTs.
    pub fn memory_bytes(&self) -> usize {
        // The texts are those of the record, once more.
        self.inserts.len() * INSERT_BYTES + self.text_bytes
    }

    /// Takes the INSERT that [`InsertQueue::next`] returned.
    pub fn take(&mut self, insert: u64) {
        if let Some(waiting) = self.inserts.get(&insert) {
            let places = &mut self.streams[waiting.stream];
            debug_assert_eq!(places.waiting.front(), Some(&insert));
            places.waiting.pop_front();
            places.out = Some(insert);
        }
    }

    /// An INSERT that was taken is settled.
    pub fn settle(&mut self, insert: u64) -> Option<PendingInsert> {
        let waiting = self.inserts.remove(&insert)?;
        self.text_bytes -= waiting.token.len() + waiting.statement.len();
        self.streams[waiting.stream].out.take_if(|out| *out == insert);
        Some(waiting)
    }

    fn stream(&mut self, stream: &StreamKey) -> usize {
        self.streams.iter().position(|places| places.stream == *stream).unwrap_or_else(|| {
            self.streams.push(StreamQueue { stream: stream.clone(), waiting: VecDeque::new(), out: None });
            self.streams.len() - 1
        })
    }
}

impl PendingInsert {
    fn add(&mut self, sequence: u64, record: &Record, synced: bool) {
        self.records.push(sequence);
        self.rows += u64::from(record.rows);
        self.bytes += u64::from(record.block_bytes);
        self.decoded_bytes += record.decoded_bytes();
        self.unsynced += usize::from(!synced);
    }

    fn is_due(&self, now: Instant, limits: &InsertLimits) -> bool {
        self.is_closed
            || now >= self.due_at
            || self.rows >= limits.rows
            || self.bytes >= limits.bytes
            || self.decoded_bytes >= limits.decoded_bytes
    }
}
