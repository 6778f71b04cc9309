//! What the segments of a directory hold. Changes nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;

use bytes::Bytes;

use super::damage::Damage;
use super::disk::Disk;
use super::entry::{HEADER, Kind, Stretch, Walk};
use super::log::Place;
use super::record::{Assigned, Record};
use super::segment::{Name, Said};
use crate::error::{Error, Result};

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
}

#[derive(Debug, Clone, Copy)]
pub struct Found {
    pub place: Place,
    insert: u64,
    /// Whether something written later says that it had been synced.
    pub is_synced: bool,
}

/// Bytes at the end of a segment that a crash left unfinished. They had not been synced, unless they belong to the last
/// commit before a crash and were damaged after it: the two look alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    pub segment: String,
    pub at: u64,
    pub len: usize,
}

impl Scan {
    pub fn of<D: Disk>(disk: &D) -> Result<Scan> {
        let io = |source| Error::spool_io(disk.path(), source);
        let mut scan = Scan::default();
        // And whether that was synced.
        let mut done = HashMap::new();
        for name in segments(disk)? {
            let bytes = Bytes::from(disk.read(&name.to_string()).map_err(io)?);
            let inserts = scan.take_in(name, &bytes, &mut done);
            scan.segments.push((name, bytes.len() as u64, inserts));
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

    fn take_in(&mut self, name: Name, bytes: &Bytes, done: &mut HashMap<u64, bool>) -> BTreeSet<u64> {
        let mut inserts = BTreeSet::new();
        let stretches: Vec<Stretch<'_>> = Walk::new(bytes, name.marker).collect();
        let synced = stretches.iter().filter_map(|stretch| match stretch {
            Stretch::Entry { header, .. } => Some(header.synced as usize),
            Stretch::Unreadable { .. } => None,
        });
        let synced = synced.max().unwrap_or_default();
        for stretch in stretches {
            let (at, len, sequence) = match stretch {
                Stretch::Unreadable { at, len, sequence } => (at, len, sequence),
                Stretch::Entry { at, header, body } => {
                    let is_synced = at < synced;
                    match header.kind {
                        Kind::End => continue,
                        Kind::Done => {
                            *done.entry(header.sequence).or_default() |= is_synced;
                            self.seen(header.sequence);
                            continue;
                        }
                        // Copied, since a slice would hold the whole segment in memory.
                        Kind::Receipts => {
                            (self.receipts, self.receipts_below) =
                                (Bytes::copy_from_slice(body), header.sequence);
                            self.further_receipts = self.further_receipts.split_off(&header.sequence);
                            self.next_sequence = self.next_sequence.max(header.sequence);
                            continue;
                        }
                        Kind::Record => {}
                    }
                    if let Some(assigned) = Assigned::decode(bytes.slice_ref(body)) {
                        inserts.insert(assigned.insert);
                        let Record { lane, receipts, .. } = &assigned.record;
                        if !receipts.is_empty() && header.sequence >= self.receipts_below {
                            let receipts = Bytes::copy_from_slice(receipts);
                            self.further_receipts.insert(header.sequence, (lane.connection, receipts));
                        }
                        let place = Place { segment: name, at: at as u64, len: header.len() as u32 };
                        let found = Found { place, insert: assigned.insert, is_synced };
                        // What was written again is the same, and it may be known of one copy only that it was synced.
                        let kept = self.open.entry(header.sequence).or_insert(found);
                        if is_synced && !kept.is_synced {
                            *kept = found;
                        }
                        self.seen(header.sequence);
                        continue;
                    }
                    (at, header.len(), Some(header.sequence))
                }
            };
            if let Some(sequence) = sequence {
                self.seen(sequence);
            }
            if at < synced {
                self.damages.push(Damage::new(name.to_string(), at as u64, len, sequence));
            } else {
                self.torn.push(Torn { segment: name.to_string(), at: at as u64, len });
            }
        }
        inserts
    }

    fn seen(&mut self, sequence: u64) {
        self.next_sequence = self.next_sequence.max(sequence + 1);
    }

    /// Goes through the open records in order, with the bytes of each.
    pub fn for_each<D: Disk>(&self, disk: &D, mut f: impl FnMut(u64, &Found, &[u8], Assigned)) -> Result<()> {
        let mut read = None::<(Name, Bytes)>;
        for (sequence, found) in &self.open {
            let Place { segment, at, len } = found.place;
            // Records lie in order, but for the ones that were written again: a segment is read once or twice.
            let bytes = match &read {
                Some((name, bytes)) if *name == segment => bytes,
                _ => {
                    let bytes = disk.read(&segment.to_string());
                    let bytes = bytes.map_err(|source| Error::spool_io(disk.path(), source))?;
                    &read.insert((segment, Bytes::from(bytes))).1
                }
            };
            let body = bytes.get(at as usize + HEADER..at as usize + len as usize);
            match body.and_then(|body| Some((body, Assigned::decode(bytes.slice_ref(body))?))) {
                Some((body, assigned)) => f(*sequence, found, body, assigned),
                None => {
                    let source = io::Error::other(format!("{segment} was changed while it was read"));
                    return Err(Error::spool_io(disk.path(), source));
                }
            }
        }
        Ok(())
    }
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
