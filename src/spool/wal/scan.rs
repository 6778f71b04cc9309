//! What the segments of a directory hold. Changes nothing.
//!
//! Every byte is read once and checked, a few MiB at a time: a log may be far larger than memory. What is kept of a record is
//! what can be said of it without its bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::core::error::{Error, Result};
use crate::spool::ack_receipts::Remembered;
use crate::spool::wal::corruption::Damage;
use crate::spool::wal::entry::{Kind, Stretch, Walk};
use crate::spool::wal::log::Place;
use crate::spool::wal::record::{Assigned, Lane, Record};
use crate::spool::wal::segment::{Name, Said};
use crate::spool::wal::storage::Disk;

#[derive(Debug, Default)]
pub struct Scan {
    /// Each with the bytes of its file and the INSERTs of all records in it.
    pub segments: Vec<(Name, u64, BTreeSet<u64>)>,
    /// The records that are not done.
    pub open: BTreeMap<u64, Found>,
    /// The records of INSERTs that are done, where that may not have been synced.
    pub settled: BTreeMap<u64, Vec<Place>>,
    pub damages: Vec<Damage>,
    pub torn: Vec<Torn>,
    /// Above all that were ever given to what is there.
    pub next_sequence: u64,
    /// The body of the last entry of receipts.
    pub receipts: Bytes,
    /// They are those of the records below this sequence.
    receipts_below: u64,
    /// Connection and receipts of the records that are not in it.
    pub further_receipts: BTreeMap<u64, (u32, Bytes)>,
    kinds: Vec<Arc<RecordKind>>,
}

/// A record without its bytes.
#[derive(Debug, Clone)]
pub struct Found {
    pub place: Place,
    pub insert: u64,
    /// Whether something written later says that it had been synced.
    pub is_synced: bool,
    pub token: Arc<str>,
    pub kind: Arc<RecordKind>,
    pub received_at: SystemTime,
    pub rows: u32,
    pub messages: u32,
    pub block_bytes: u32,
}

/// What very many records have in common.
#[derive(Debug, PartialEq, Eq)]
pub struct RecordKind {
    pub lane: Lane,
    pub statement: String,
}

impl Found {
    /// As it was appended, but for its bytes.
    pub fn record(&self) -> Record {
        Record {
            lane: self.kind.lane.clone(),
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

/// Bytes at the end of a segment that a crash left unfinished. They had not been synced, unless they belong to the last
/// commit before a crash and were damaged after it: the two look alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    pub segment: String,
    pub at: u64,
    pub len: usize,
}

/// So many bytes of a segment are read at a time, or as many as an entry has.
const PIECE: usize = 4 << 20;

impl Scan {
    pub fn of<D: Disk>(disk: &D) -> Result<Scan> {
        let io = |source| Error::spool_io(disk.path(), source);
        let mut scan = Scan::default();
        // And whether that was synced.
        let mut done = HashMap::new();
        for name in segments(disk)? {
            let bytes = disk.len(&name.to_string()).map_err(io)?;
            let mut segment = SegmentScan { name, ..SegmentScan::default() };
            let (mut at, mut len) = (0, PIECE);
            while at < bytes {
                let end = bytes.min(at + len as u64);
                let piece = disk.read_at(&name.to_string(), at, (end - at) as usize).map_err(io)?;
                let read = scan.take_in(&mut segment, at, &Bytes::from(piece), end == bytes);
                // What is cut off by the end of a piece is read again with what follows.
                len = if read > 0 { PIECE } else { 2 * len };
                at += read as u64;
            }
            let inserts = scan.finish(segment, &mut done);
            scan.segments.push((name, bytes, inserts));
        }
        let Scan { open, settled, .. } = &mut scan;
        open.retain(|_, found| {
            let is_done_synced = done.get(&found.insert);
            if is_done_synced == Some(&false) {
                settled.entry(found.insert).or_default().push(found.place);
            }
            is_done_synced.is_none()
        });
        Ok(scan)
    }

    /// Takes in a piece of a segment; how many bytes of it are finished.
    fn take_in(&mut self, segment: &mut SegmentScan, base: u64, piece: &Bytes, is_last: bool) -> usize {
        for stretch in Walk::new(piece, segment.name.marker) {
            let (at, len, sequence) = match stretch {
                Stretch::Unreadable { at, len, .. } if at + len == piece.len() && !is_last => return at,
                Stretch::Unreadable { at, len, sequence } => (at, len, sequence),
                Stretch::Entry { at, header, body } => {
                    segment.synced = segment.synced.max(header.synced);
                    let place =
                        Place { segment: segment.name, at: base + at as u64, len: header.len() as u32 };
                    match header.kind {
                        Kind::End => continue,
                        Kind::Done => {
                            segment.done.push((header.sequence, place.at));
                            self.seen(header.sequence);
                            continue;
                        }
                        // Copied, since a slice would hold the whole piece in memory.
                        Kind::Receipts => {
                            (self.receipts, self.receipts_below) =
                                (Bytes::copy_from_slice(body), header.sequence);
                            self.further_receipts = self.further_receipts.split_off(&header.sequence);
                            let (_, further) = Remembered::of_entry(self.receipts.clone());
                            let further = further.into_iter();
                            self.further_receipts.extend(
                                further.map(|(sequence, connection, receipts)| {
                                    (sequence, (connection, receipts))
                                }),
                            );
                            self.next_sequence = self.next_sequence.max(header.sequence);
                            continue;
                        }
                        Kind::Record => {}
                    }
                    if let Some(assigned) = Assigned::decode(piece.slice_ref(body)) {
                        segment.inserts.insert(assigned.insert);
                        let Record { lane, receipts, .. } = &assigned.record;
                        if !receipts.is_empty() && header.sequence >= self.receipts_below {
                            let receipts = Bytes::copy_from_slice(receipts);
                            self.further_receipts.insert(header.sequence, (lane.connection, receipts));
                        }
                        let found = self.found(place, assigned, segment.records.last().map(|(_, last)| last));
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

    fn found(&mut self, place: Place, assigned: Assigned, last: Option<&Found>) -> Found {
        let Assigned { insert, token, record } = assigned;
        let Record { lane, statement, received_at, rows, messages, block_bytes, .. } = record;
        let kind = RecordKind { lane, statement };
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
        Found { place, insert, is_synced, token, kind, received_at, rows, messages, block_bytes }
    }

    /// All of a segment was read: now it is known what of it had been synced.
    fn finish(&mut self, segment: SegmentScan, done: &mut HashMap<u64, bool>) -> BTreeSet<u64> {
        let SegmentScan { name, synced, inserts, records, done: newly_done, unreadable } = segment;
        for (insert, at) in newly_done {
            *done.entry(insert).or_default() |= at < synced;
        }
        for (sequence, found) in records {
            let found = Found { is_synced: found.place.at < synced, ..found };
            // What was written again is the same, and it may be known of one copy only that it was synced.
            match self.open.get_mut(&sequence) {
                Some(kept) if found.is_synced && !kept.is_synced => *kept = found,
                Some(_) => {}
                None => drop(self.open.insert(sequence, found)),
            }
        }
        for (at, len, sequence) in unreadable {
            if at < synced {
                self.damages.push(Damage::new(name.to_string(), at, len, sequence));
            } else {
                self.torn.push(Torn { segment: name.to_string(), at, len });
            }
        }
        inserts
    }

    fn seen(&mut self, sequence: u64) {
        self.next_sequence = self.next_sequence.max(sequence + 1);
    }
}

/// What was found in a segment.
#[derive(Debug, Default)]
struct SegmentScan {
    name: Name,
    /// How many of its bytes had been synced.
    synced: u64,
    inserts: BTreeSet<u64>,
    records: Vec<(u64, Found)>,
    /// INSERTs, and where it is said of each.
    done: Vec<(u64, u64)>,
    unreadable: Vec<(u64, usize, Option<u64>)>,
}

fn segments<D: Disk>(disk: &D) -> Result<Vec<Name>> {
    let names = disk.names().map_err(|source| Error::spool_io(disk.path(), source))?;
    let mut segments = Vec::new();
    for file in names {
        match Name::parse(&file) {
            Said::Segment(name) => segments.push(name),
            Said::OtherVersion => return Err(Error::spool_version(disk.path(), &file)),
            Said::Other => {}
        }
    }
    segments.sort();
    Ok(segments)
}
