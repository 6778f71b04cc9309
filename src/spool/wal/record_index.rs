//! Where the records are that are not done, and those whose DONE entry is not synced yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::spool::wal::record::Record;
use crate::spool::wal::segment::Location;

/// Bytes of memory per record, measured.
const RECORD_BYTES: usize = 136;

#[derive(Debug, Default)]
pub struct RecordIndex {
    records: BTreeMap<u64, RecordState>,
    /// The records of INSERTs that are done, until that is synced as well, by INSERT.
    settled: BTreeMap<u64, Settled>,
    kept_bytes: usize,
}

/// The records of an INSERT that is done.
#[derive(Debug, Default)]
pub struct Settled {
    pub locations: Vec<Location>,
    pub messages: u64,
}

/// A record that is not done.
#[derive(Debug)]
struct RecordState {
    /// `None`: it is not synced yet.
    location: Option<Location>,
    insert: u64,
    messages: u32,
    /// The record itself, while it is kept in memory. One that was taken is not kept.
    kept: Option<Arc<Record>>,
}

impl RecordIndex {
    /// Adds a new record. It is kept in memory while all kept ones have at most `keep_bytes`.
    pub fn append(&mut self, sequence: u64, insert: u64, record: Record, keep_bytes: usize) {
        let bytes = record.bytes();
        let is_kept = self.kept_bytes + bytes <= keep_bytes;
        self.kept_bytes += if is_kept { bytes } else { 0 };
        let messages = record.messages;
        let kept = is_kept.then(|| Arc::new(record));
        self.records.insert(sequence, RecordState { location: None, insert, messages, kept });
    }

    /// Adds a record that lies on the disk.
    pub fn restore(&mut self, sequence: u64, insert: u64, messages: u32, location: Location) {
        let location = Some(location);
        self.records.insert(sequence, RecordState { location, insert, messages, kept: None });
    }

    /// Adds the records of an INSERT that is done, though its DONE entry may not be synced.
    pub fn restore_settled(&mut self, insert: u64, settled: Settled) {
        self.settled.insert(insert, settled);
    }

    /// A record is synced. Returns its INSERT, its number of messages, and its location before if it had one.
    pub fn synced(&mut self, sequence: u64, location: Location) -> Option<(u64, u32, Option<Location>)> {
        let state = self.records.get_mut(&sequence)?;
        Some((state.insert, state.messages, state.location.replace(location)))
    }

    /// The INSERT with these records is done. They are settled once its DONE entry is synced.
    pub fn done(&mut self, insert: u64, records: &[u64]) {
        let mut settled = Settled::default();
        for state in records.iter().filter_map(|sequence| self.records.remove(sequence)) {
            self.kept_bytes -= state.kept.map_or(0, |record| record.bytes());
            settled.messages += u64::from(state.messages);
            settled.locations.extend(state.location);
        }
        self.settled.insert(insert, settled);
    }

    /// The DONE entry of an INSERT is synced. Returns its records.
    pub fn done_is_synced(&mut self, insert: u64) -> Settled {
        self.settled.remove(&insert).unwrap_or_default()
    }

    /// The same for every INSERT that is done.
    pub fn all_done_are_synced(&mut self) -> impl Iterator<Item = Settled> + use<> {
        std::mem::take(&mut self.settled).into_values()
    }

    pub fn insert_of(&self, sequence: u64) -> Option<u64> {
        self.records.get(&sequence).map(|state| state.insert)
    }

    pub fn location(&self, sequence: u64) -> Option<Location> {
        self.records.get(&sequence)?.location
    }

    /// The record, if it is kept in memory.
    pub fn kept(&self, sequence: u64) -> Option<Arc<Record>> {
        self.records.get(&sequence)?.kept.clone()
    }

    /// From now on the record is on disk only.
    pub fn release(&mut self, sequence: u64) {
        let kept = self.records.get_mut(&sequence).and_then(|state| state.kept.take());
        self.kept_bytes -= kept.map_or(0, |record| record.bytes());
    }

    /// Records that are not done.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub fn memory_bytes(&self) -> usize {
        self.kept_bytes + self.records.len() * RECORD_BYTES
    }
}
