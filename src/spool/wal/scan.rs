//! Reads all segments of a directory, and changes nothing.
//!
//! Every byte is read once and checked, 4 MiB at a time: a log may be far larger than memory. The header data of a
//! record stays in memory, its bytes do not. `chain` then compares what was found with what the segments and the state file say of each
//! other.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::core::error::{Error, Result};
use crate::spool::ack_receipts::AckHistoryStore;
use crate::spool::wal::chain::{Chain, Missing};
use crate::spool::wal::corruption::{ChainBreak, CorruptRange};
use crate::spool::wal::directory::Listing;
use crate::spool::wal::entry::{EntryIter, EntryKind, ScanItem};
use crate::spool::wal::record::{Record, StoredRecord, StreamKey};
use crate::spool::wal::record_index::Settled;
use crate::spool::wal::segment::{Extent, Link, Location, SegmentId};
use crate::spool::wal::state::{FoundState, Snapshot};
use crate::spool::wal::storage::Disk;

#[derive(Debug, Default)]
pub struct Scan {
    pub segments: Vec<FoundSegment>,
    /// Records that are not done, by sequence.
    pub open: BTreeMap<u64, Found>,
    /// The records of INSERTs whose DONE entry may not have been synced, by INSERT.
    pub settled: BTreeMap<u64, Settled>,
    /// INSERTs that are done and have a record in one entry with records that are not, and that may not have been synced.
    pub settled_in_groups: BTreeSet<u64>,
    pub damages: Vec<CorruptRange>,
    pub torn: Vec<TruncatedTail>,
    pub breaks: Vec<ChainBreak>,
    /// How much is missing, if anything is damaged. `None`: nothing is damaged, or the state file does not say.
    pub missing: Option<Missing>,
    pub foreign: Vec<String>,
    /// A sequence above all that were ever given out.
    pub next_sequence: u64,
    /// A number above those of all segments that there were.
    pub next_segment: u64,
    /// The body of the last RECEIPTS entry.
    pub receipts: Bytes,
    /// The entry `receipts` covers the records below this sequence.
    receipts_below: u64,
    /// Connection and receipts of the records that it does not cover.
    pub further_receipts: BTreeMap<u64, (u32, Bytes)>,
    pub state: Option<FoundState>,
    /// The numbers of all state files.
    pub state_files: Vec<u64>,
    kinds: Vec<Arc<RecordKind>>,
    /// INSERTs that are done.
    done: HashMap<u64, DoneEntry>,
}

/// A segment that was found.
#[derive(Debug)]
pub struct FoundSegment {
    pub id: SegmentId,
    /// The length of the file.
    pub bytes: u64,
    /// Bytes of it that are synced and can be read.
    pub extent: Extent,
    pub previous: Link,
    /// The INSERTs of all records in it.
    pub inserts: BTreeSet<u64>,
}

/// Where it stands that an INSERT is done.
#[derive(Debug, Clone, Copy)]
pub struct DoneEntry {
    is_synced: bool,
    /// Segment number and offset of the first entry that says so.
    pub first: (u64, u64),
}

/// A record without its bytes.
#[derive(Debug, Clone)]
pub struct Found {
    pub location: Location,
    /// The first record of its entry, and how many there are.
    pub group: (u64, u64),
    pub insert: u64,
    /// Whether it is known that it had been synced.
    pub is_synced: bool,
    pub token: Arc<str>,
    pub kind: Arc<RecordKind>,
    pub received_at: SystemTime,
    pub rows: u32,
    pub messages: u32,
    pub block_bytes: u32,
}

/// Values that many records have in common, held once.
#[derive(Debug, PartialEq, Eq)]
pub struct RecordKind {
    pub stream: StreamKey,
    pub statement: String,
}

impl Found {
    /// The record as it was appended, without its bytes.
    pub fn record(&self) -> Record {
        Record {
            stream: self.kind.stream.clone(),
            statement: self.kind.statement.clone(),
            received_at: self.received_at,
            rows: self.rows,
            messages: self.messages,
            block_bytes: self.block_bytes,
            block: Bytes::new(),
            raw: Bytes::new(),
            receipts: Bytes::new(),
        }
    }
}

/// Bytes at the end of a segment that a crash left incomplete. They had not been synced. Version 1 of
/// the layout cannot distinguish them from bytes of the last commit before the crash that were damaged
/// after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TruncatedTail {
    pub segment: String,
    pub at: u64,
    pub len: usize,
}

/// Bytes of a segment that are read at a time. A larger entry is read at once.
const READ_CHUNK: usize = 4 << 20;

impl Scan {
    pub fn of<D: Disk>(disk: &D) -> Result<Scan> {
        let io = |source| Error::spool_io(disk.path(), source);
        let Listing { segments, state_files, foreign } = Listing::of(disk)?;
        let chain = Chain::read(disk, &segments, &state_files).map_err(io)?;
        let mut scan = Scan { foreign, ..Scan::default() };
        for id in segments {
            let bytes = disk.len(&id.to_string()).map_err(io)?;
            let (expected, previous) = (chain.expected(id.number), chain.previous(id.number));
            let mut segment = SegmentScan { id, synced: expected.bytes, ..SegmentScan::default() };
            let (mut at, mut len) = (0, READ_CHUNK);
            while at < bytes {
                let end = bytes.min(at + len as u64);
                let chunk = disk.read_at(&id.to_string(), at, (end - at) as usize).map_err(io)?;
                let read = scan.take_in(&mut segment, at, &Bytes::from(chunk), end == bytes);
                // An entry that the end of a chunk cuts is read again with the bytes behind it.
                len = if read > 0 { READ_CHUNK } else { 2 * len };
                at += read as u64;
            }
            let found = scan.finish(segment, bytes, previous, expected);
            scan.segments.push(found);
        }
        // Read again: a pipeline that has the directory in use may have deleted segments meanwhile.
        let chain = chain.reread(disk, &state_files).map_err(io)?;
        scan.breaks.extend(chain.removed(&scan.segments));
        if let Some(state) = &chain.state {
            scan.apply(&state.snapshot);
        }
        scan.next_segment =
            chain.next_number().max(scan.segments.last().map_or(1, |last| last.id.number + 1));
        (scan.state, scan.state_files) = (chain.state, state_files);
        scan.retain_open();
        Ok(scan)
    }

    /// Adds what only the state file says.
    fn apply(&mut self, snapshot: &Snapshot) {
        if !(self.breaks.is_empty() && self.damages.is_empty()) {
            self.missing = Some(Missing::since(snapshot, &self.open, &self.done));
        }
        self.next_sequence = self.next_sequence.max(snapshot.next_sequence);
        for insert in &snapshot.done {
            self.done.entry(*insert).or_insert(DoneEntry { is_synced: false, first: (0, 0) });
        }
    }

    /// Leaves only the records that are not done.
    fn retain_open(&mut self) {
        let Scan { open, settled, settled_in_groups, done, .. } = self;
        let waits = |found: &&Found| !found.is_synced && !done.contains_key(&found.insert);
        let rewritten: BTreeSet<u64> = open.values().filter(waits).map(|found| found.group.0).collect();
        open.retain(|_, found| {
            let done = done.get(&found.insert);
            if done.is_some() && rewritten.contains(&found.group.0) {
                settled_in_groups.insert(found.insert);
            }
            if done.is_some_and(|done| !done.is_synced) {
                let settled = settled.entry(found.insert).or_default();
                settled.locations.push(found.location);
                settled.messages += u64::from(found.messages);
            }
            done.is_none()
        });
    }

    /// Scans a chunk of a segment. Returns how many bytes of it were used.
    fn take_in(&mut self, segment: &mut SegmentScan, base: u64, chunk: &Bytes, is_last: bool) -> usize {
        for item in EntryIter::new(chunk, segment.id.marker) {
            let (at, len, sequence) = match item {
                ScanItem::Unreadable { at, len, .. } if at + len == chunk.len() && !is_last => return at,
                ScanItem::Unreadable { at, len, sequence } => (at, len, sequence),
                ScanItem::Entry { at, header, header_checksum, body } => {
                    segment.synced = segment.synced.max(header.synced);
                    let location =
                        Location { segment: segment.id, at: base + at as u64, len: header.len() as u32 };
                    segment.entries.push((location.at, header.kind, header_checksum));
                    match header.kind {
                        EntryKind::Begin | EntryKind::End => continue,
                        EntryKind::Done => {
                            segment.done.push((header.sequence, location.at));
                            self.seen(header.sequence);
                            continue;
                        }
                        EntryKind::Receipts => {
                            self.take_in_receipts(header.sequence, body);
                            continue;
                        }
                        EntryKind::Record => {}
                    }
                    if let Some(records) = StoredRecord::decode(chunk.slice_ref(body)) {
                        let count = records.len() as u64;
                        for (sequence, stored) in (header.sequence..).zip(records) {
                            segment.inserts.insert(stored.insert);
                            let Record { stream, receipts, .. } = &stored.record;
                            if !receipts.is_empty() && sequence >= self.receipts_below {
                                let receipts = Bytes::copy_from_slice(receipts);
                                self.further_receipts.insert(sequence, (stream.connection, receipts));
                            }
                            let last = segment.records.last().map(|(_, last)| last);
                            let found = self.found(location, stored, last);
                            let group = (header.sequence, count);
                            segment.records.push((sequence, Found { group, ..found }));
                            self.seen(sequence);
                        }
                        continue;
                    }
                    segment.entries.pop();
                    (at, header.len(), Some(header.sequence))
                }
            };
            if let Some(sequence) = sequence {
                self.seen(sequence);
            }
            segment.unreadable.push((base + at as u64, len, sequence));
        }
        chunk.len()
    }

    fn take_in_receipts(&mut self, below: u64, body: &[u8]) {
        // Copied, because a slice would keep the entire chunk in memory.
        (self.receipts, self.receipts_below) = (Bytes::copy_from_slice(body), below);
        self.further_receipts = self.further_receipts.split_off(&below);
        let (_, further) = AckHistoryStore::of_entry(self.receipts.clone());
        let further = further.into_iter();
        self.further_receipts
            .extend(further.map(|(sequence, connection, receipts)| (sequence, (connection, receipts))));
        self.next_sequence = self.next_sequence.max(below);
    }

    fn found(&mut self, location: Location, stored: StoredRecord, last: Option<&Found>) -> Found {
        let StoredRecord { insert, token, record } = stored;
        let Record { stream, statement, received_at, rows, messages, block_bytes, .. } = record;
        let kind = RecordKind { stream, statement };
        let kind = self.kinds.iter().find(|known| ***known == kind).cloned().unwrap_or_else(|| {
            let kind = Arc::new(kind);
            self.kinds.push(kind.clone());
            kind
        });
        let token = match last {
            Some(last) if *last.token == *token => last.token.clone(),
            _ => token.into(),
        };
        let is_synced = false;
        Found {
            location,
            group: (0, 1),
            insert,
            is_synced,
            token,
            kind,
            received_at,
            rows,
            messages,
            block_bytes,
        }
    }

    /// A segment was read to its end: now it is known how much of it had been synced.
    fn finish(&mut self, segment: SegmentScan, bytes: u64, previous: Link, expected: Extent) -> FoundSegment {
        let extent = segment.extent(segment.synced.min(bytes));
        self.breaks.extend(segment.compare(bytes, expected));
        let SegmentScan { id, synced, inserts, records, done, unreadable, .. } = segment;
        for (insert, at) in done {
            let first = (id.number, at);
            let entry = self.done.entry(insert).or_insert(DoneEntry { is_synced: false, first });
            entry.is_synced |= at < synced;
        }
        for (sequence, found) in records {
            let found = Found { is_synced: found.location.at < synced, ..found };
            // Copies of a record are equal, but perhaps only one of them is known to be synced.
            match self.open.get_mut(&sequence) {
                Some(kept) if found.is_synced && !kept.is_synced => *kept = found,
                Some(_) => {}
                None => drop(self.open.insert(sequence, found)),
            }
        }
        for (at, len, sequence) in unreadable {
            if at < synced {
                self.damages.push(CorruptRange::new(id.to_string(), at, len, sequence));
            } else {
                self.torn.push(TruncatedTail { segment: id.to_string(), at, len });
            }
        }
        FoundSegment { id, bytes, extent, previous, inserts }
    }

    fn seen(&mut self, sequence: u64) {
        self.next_sequence = self.next_sequence.max(sequence + 1);
    }
}

/// The entries of one segment.
#[derive(Debug, Default)]
struct SegmentScan {
    id: SegmentId,
    /// Bytes known to have been synced.
    synced: u64,
    inserts: BTreeSet<u64>,
    records: Vec<(u64, Found)>,
    /// DONE entries: INSERT and offset.
    done: Vec<(u64, u64)>,
    /// All readable entries: offset, kind, checksum of the header.
    entries: Vec<(u64, EntryKind, [u8; 4])>,
    unreadable: Vec<(u64, usize, Option<u64>)>,
}

impl SegmentScan {
    /// The readable entries of the first `bytes` bytes.
    fn extent(&self, bytes: u64) -> Extent {
        let mut extent = Extent::default();
        for (_, kind, header_checksum) in self.entries.iter().take_while(|(at, ..)| *at < bytes) {
            extent.push(*kind, *header_checksum, 0);
        }
        Extent { bytes, ..extent }
    }

    /// Compares the segment, a file of `bytes` bytes, with what others say of it.
    fn compare(&self, bytes: u64, expected: Extent) -> Option<ChainBreak> {
        let segment = self.id.to_string();
        if bytes < expected.bytes {
            return Some(ChainBreak { segment, at: bytes, len: expected.bytes - bytes });
        }
        let is_readable = self.unreadable.iter().all(|(at, ..)| *at >= expected.bytes);
        let is_altered = is_readable && expected.bytes > 0 && self.extent(expected.bytes) != expected;
        is_altered.then_some(ChainBreak { segment, at: 0, len: 0 })
    }
}
