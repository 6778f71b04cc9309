//! Reads all segments of a directory, and changes nothing.
//!
//! Every byte is read once and checked, 4 MiB at a time: a log may be far larger than memory. Of a record only its header data
//! stays in memory, not its bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::core::error::{Error, Result};
use crate::spool::ack_receipts::AckHistoryStore;
use crate::spool::wal::corruption::CorruptRange;
use crate::spool::wal::entry::{EntryIter, EntryKind, ScanItem};
use crate::spool::wal::record::{Record, StoredRecord, StreamKey};
use crate::spool::wal::segment::{Location, ParsedName, SegmentId};
use crate::spool::wal::storage::Disk;

#[derive(Debug, Default)]
pub struct Scan {
    /// Each segment with the length of its file and the INSERTs of all records in it.
    pub segments: Vec<(SegmentId, u64, BTreeSet<u64>)>,
    /// Records that are not done, by sequence.
    pub open: BTreeMap<u64, Found>,
    /// The records of INSERTs whose DONE entry may not have been synced, by INSERT.
    pub settled: BTreeMap<u64, Vec<Location>>,
    pub damages: Vec<CorruptRange>,
    pub torn: Vec<TruncatedTail>,
    /// A sequence above all that occur in the segments.
    pub next_sequence: u64,
    /// The body of the last RECEIPTS entry.
    pub receipts: Bytes,
    /// That entry covers the records below this sequence.
    receipts_below: u64,
    /// Connection and receipts of the records that it does not cover.
    pub further_receipts: BTreeMap<u64, (u32, Bytes)>,
    kinds: Vec<Arc<RecordKind>>,
}

/// A record without its bytes.
#[derive(Debug, Clone)]
pub struct Found {
    pub location: Location,
    pub insert: u64,
    /// Whether a later entry says that it had been synced.
    pub is_synced: bool,
    pub token: Arc<str>,
    pub kind: Arc<RecordKind>,
    pub received_at: SystemTime,
    pub rows: u32,
    pub messages: u32,
    pub block_bytes: u32,
}

/// What many records have in common, held once.
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

/// Bytes at the end of a segment that a crash left incomplete. They had not been synced, unless they belong to the last commit
/// before the crash and were damaged after it: version 1 of the layout cannot tell the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TruncatedTail {
    pub segment: String,
    pub at: u64,
    pub len: usize,
}

/// Bytes of a segment that are read at a time. A larger entry is read whole.
const PIECE: usize = 4 << 20;

impl Scan {
    pub fn of<D: Disk>(disk: &D) -> Result<Scan> {
        let io = |source| Error::spool_io(disk.path(), source);
        let mut scan = Scan::default();
        // The INSERTs that are done, each with whether its DONE entry was synced.
        let mut done = HashMap::new();
        for id in segments(disk)? {
            let bytes = disk.len(&id.to_string()).map_err(io)?;
            let mut segment = SegmentScan { id, ..SegmentScan::default() };
            let (mut at, mut len) = (0, PIECE);
            while at < bytes {
                let end = bytes.min(at + len as u64);
                let piece = disk.read_at(&id.to_string(), at, (end - at) as usize).map_err(io)?;
                let read = scan.take_in(&mut segment, at, &Bytes::from(piece), end == bytes);
                // An entry that the end of a piece cuts is read again with the bytes behind it.
                len = if read > 0 { PIECE } else { 2 * len };
                at += read as u64;
            }
            let inserts = scan.finish(segment, &mut done);
            scan.segments.push((id, bytes, inserts));
        }
        let Scan { open, settled, .. } = &mut scan;
        open.retain(|_, found| {
            let is_done_synced = done.get(&found.insert);
            if is_done_synced == Some(&false) {
                settled.entry(found.insert).or_default().push(found.location);
            }
            is_done_synced.is_none()
        });
        Ok(scan)
    }

    /// Takes in a piece of a segment. Returns how many bytes of it were used.
    fn take_in(&mut self, segment: &mut SegmentScan, base: u64, piece: &Bytes, is_last: bool) -> usize {
        for item in EntryIter::new(piece, segment.id.marker) {
            let (at, len, sequence) =
                match item {
                    ScanItem::Unreadable { at, len, .. } if at + len == piece.len() && !is_last => return at,
                    ScanItem::Unreadable { at, len, sequence } => (at, len, sequence),
                    ScanItem::Entry { at, header, body } => {
                        segment.synced = segment.synced.max(header.synced);
                        let location =
                            Location { segment: segment.id, at: base + at as u64, len: header.len() as u32 };
                        match header.kind {
                            EntryKind::End => continue,
                            EntryKind::Done => {
                                segment.done.push((header.sequence, location.at));
                                self.seen(header.sequence);
                                continue;
                            }
                            // Copied, because a slice would keep the whole piece in memory.
                            EntryKind::Receipts => {
                                (self.receipts, self.receipts_below) =
                                    (Bytes::copy_from_slice(body), header.sequence);
                                self.further_receipts = self.further_receipts.split_off(&header.sequence);
                                let (_, further) = AckHistoryStore::of_entry(self.receipts.clone());
                                let further = further.into_iter();
                                self.further_receipts.extend(further.map(
                                    |(sequence, connection, receipts)| (sequence, (connection, receipts)),
                                ));
                                self.next_sequence = self.next_sequence.max(header.sequence);
                                continue;
                            }
                            EntryKind::Record => {}
                        }
                        if let Some(assigned) = StoredRecord::decode(piece.slice_ref(body)) {
                            segment.inserts.insert(assigned.insert);
                            let Record { stream, receipts, .. } = &assigned.record;
                            if !receipts.is_empty() && header.sequence >= self.receipts_below {
                                let receipts = Bytes::copy_from_slice(receipts);
                                self.further_receipts.insert(header.sequence, (stream.connection, receipts));
                            }
                            let found =
                                self.found(location, assigned, segment.records.last().map(|(_, last)| last));
                            segment.records.push((header.sequence, found));
                            self.seen(header.sequence);
                            continue;
                        }
                        (at, header.len(), Some(header.sequence))
                    }
                };
            if let Some(sequence) = sequence {
                self.seen(sequence);
            }
            segment.unreadable.push((base + at as u64, len, sequence));
        }
        piece.len()
    }

    fn found(&mut self, location: Location, assigned: StoredRecord, last: Option<&Found>) -> Found {
        let StoredRecord { insert, token, record } = assigned;
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
        Found { location, insert, is_synced, token, kind, received_at, rows, messages, block_bytes }
    }

    /// A segment was read to its end: now it is known how much of it had been synced.
    fn finish(&mut self, segment: SegmentScan, done: &mut HashMap<u64, bool>) -> BTreeSet<u64> {
        let SegmentScan { id, synced, inserts, records, done: newly_done, unreadable } = segment;
        for (insert, at) in newly_done {
            *done.entry(insert).or_default() |= at < synced;
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
        inserts
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
    unreadable: Vec<(u64, usize, Option<u64>)>,
}

fn segments<D: Disk>(disk: &D) -> Result<Vec<SegmentId>> {
    let names = disk.names().map_err(|source| Error::spool_io(disk.path(), source))?;
    let mut segments = Vec::new();
    for file in names {
        match SegmentId::parse(&file) {
            ParsedName::Segment(id) => segments.push(id),
            ParsedName::OtherVersion => return Err(Error::spool_version(disk.path(), &file)),
            ParsedName::Other => {}
        }
    }
    segments.sort();
    Ok(segments)
}
