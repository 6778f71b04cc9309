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
    /// Bytes of records that are to be read from disk.
    stored_bytes: usize,
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
    /// Bytes that it takes in memory, or will take when it is read; 0 once it was taken.
    bytes: u32,
}

impl RecordIndex {
    /// Adds a new record. It is kept in memory while all kept ones have at most `keep_bytes`; says whether it is.
    pub fn append(&mut self, sequence: u64, insert: u64, record: Record, keep_bytes: usize) -> bool {
        let bytes = record.bytes();
        let is_kept = self.kept_bytes + bytes <= keep_bytes;
        *(if is_kept { &mut self.kept_bytes } else { &mut self.stored_bytes }) += bytes;
        let messages = record.messages;
        let kept = is_kept.then(|| Arc::new(record));
        let state = RecordState { location: None, insert, messages, kept, bytes: bytes as u32 };
        self.records.insert(sequence, state);
        is_kept
    }

    /// Adds a record that lies on the disk.
    pub fn restore(&mut self, sequence: u64, insert: u64, messages: u32, location: Location) {
        let bytes = location.len;
        self.stored_bytes += bytes as usize;
        let location = Some(location);
        self.records.insert(sequence, RecordState { location, insert, messages, kept: None, bytes });
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
        for sequence in records {
            let Some(state) = self.records.remove(sequence) else { continue };
            self.forget(state.kept.is_some(), state.bytes);
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
        let Some(state) = self.records.get_mut(&sequence) else { return };
        let (kept, bytes) = (state.kept.take(), std::mem::take(&mut state.bytes));
        self.forget(kept.is_some(), bytes);
    }

    /// A record is no longer kept, or no longer to be read.
    fn forget(&mut self, was_kept: bool, bytes: u32) {
        *(if was_kept { &mut self.kept_bytes } else { &mut self.stored_bytes }) -= bytes as usize;
    }

    /// Bytes of a record that was not taken.
    pub fn bytes_of(&self, sequence: u64) -> usize {
        self.records.get(&sequence).map_or(0, |state| state.bytes as usize)
    }

    /// Bytes of all records that are to be read from disk.
    pub fn stored_bytes(&self) -> usize {
        self.stored_bytes
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
