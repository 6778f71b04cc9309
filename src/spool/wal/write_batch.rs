//! Entries that are written and synced together.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::spool::wal::entry::{EntryKind, HEADER, Header, header_checksum};
use crate::spool::wal::segment::Extent;

#[derive(Debug, Default)]
pub struct WriteBatch {
    /// The entries as they will lie in the file, but for what is in `shared`. [`WriteBatch::seal`] fills in the headers.
    bytes: Vec<u8>,
    /// How many records an entry has, where it has several, by the sequence of the first.
    groups: BTreeMap<u64, u64>,
    /// Large parts of entries, which are not copied, each with its position in `bytes`.
    shared: Vec<(usize, Bytes)>,
    entries: Vec<WrittenEntry>,
    /// Bytes of all entries.
    len: usize,
    /// Bytes of `shared` that the records in memory have too.
    kept: usize,
}

#[derive(Debug)]
struct WrittenEntry {
    /// In the batch, and in its `bytes`.
    at: usize,
    header_at: usize,
    header: Header,
}

/// The buffer that the body of an entry is written to.
pub trait BodySink {
    fn put(&mut self, bytes: &[u8]);

    /// The same, and may keep them instead of a copy.
    fn put_shared(&mut self, bytes: &Bytes) {
        self.put(bytes);
    }
}

impl BodySink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// The body of the last entry of a batch.
pub struct Body<'a> {
    batch: &'a mut WriteBatch,
    len: usize,
    crc: u32,
    shared: usize,
}

/// Smaller parts are copied: a write of its own costs more.
const MIN_SHARED: usize = 64 << 10;
/// Memory that is kept for the next batch.
const MAX_KEPT: usize = 1 << 20;

impl BodySink for Body<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.add(bytes);
        self.batch.bytes.extend_from_slice(bytes);
    }

    fn put_shared(&mut self, bytes: &Bytes) {
        if bytes.len() < MIN_SHARED {
            return self.put(bytes);
        }
        self.add(bytes);
        self.shared += bytes.len();
        self.batch.shared.push((self.batch.bytes.len(), bytes.clone()));
    }
}

impl Body<'_> {
    /// Bytes that were not copied.
    pub fn shared_bytes(&self) -> usize {
        self.shared
    }

    fn add(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        self.crc = crc32c::crc32c_append(self.crc, bytes);
    }
}

impl WriteBatch {
    /// Appends an entry; returns the bytes of it that are not copied.
    pub fn push(&mut self, kind: EntryKind, sequence: u64, write_body: impl FnOnce(&mut Body<'_>)) -> usize {
        let (at, header_at) = (self.len, self.bytes.len());
        self.bytes.resize(header_at + HEADER, 0);
        let mut body = Body { batch: self, len: 0, crc: 0, shared: 0 };
        write_body(&mut body);
        let Body { len, crc, shared, .. } = body;
        let header = Header::of_body(kind, sequence, len, crc);
        self.entries.push(WrittenEntry { at, header_at, header });
        self.len += header.len();
        shared
    }

    /// Adds an entry of several records, which have the sequences from `first` on.
    pub fn push_records(&mut self, first: u64, count: u64, write_body: impl FnOnce(&mut Body<'_>)) {
        if count > 1 {
            self.groups.insert(first, count);
        }
        self.push(EntryKind::Record, first, write_body);
    }

    /// Notes that `bytes` of those that are not copied count as memory elsewhere.
    pub fn is_kept(&mut self, bytes: usize) {
        self.kept += bytes;
    }

    /// Bytes on disk.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes in memory that are not counted elsewhere.
    pub fn memory_bytes(&self) -> usize {
        // A small buffer is kept for the next batch.
        let copied = if self.is_empty() { 0 } else { self.bytes.capacity() };
        let shared: usize = self.shared.iter().map(|(_, bytes)| bytes.len()).sum();
        copied + shared - self.kept
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The sequences of its records.
    pub fn records(&self) -> impl Iterator<Item = u64> + '_ {
        let records = self.entries.iter().filter(|entry| entry.header.kind == EntryKind::Record);
        let first = |entry: &WrittenEntry| entry.header.sequence;
        records.flat_map(move |entry| first(entry)..first(entry) + self.count(first(entry)))
    }

    fn count(&self, first: u64) -> u64 {
        self.groups.get(&first).copied().unwrap_or(1)
    }

    /// The INSERTs that are done.
    pub fn done(&self) -> impl Iterator<Item = u64> + '_ {
        let headers = self.entries.iter().map(|entry| entry.header);
        headers.filter(|header| header.kind == EntryKind::Done).map(|header| header.sequence)
    }

    /// The bytes to append to a segment whose first `synced` bytes are synced, in parts. Each attempt
    /// may go to another segment.
    pub fn seal(&mut self, marker: u64, synced: u64) -> impl Iterator<Item = &[u8]> + '_ {
        for WrittenEntry { header_at, header, .. } in &self.entries {
            let header = Header { synced, ..*header };
            self.bytes[*header_at..][..HEADER].copy_from_slice(&header.to_bytes(marker));
        }
        let begins = [0].into_iter().chain(self.shared.iter().map(|(at, _)| *at));
        let ends = self.shared.iter().map(|(at, _)| *at).chain([self.bytes.len()]);
        let copied = begins.zip(ends).map(|(begin, end)| &self.bytes[begin..end]);
        let shared = self.shared.iter().map(|(_, bytes)| &bytes[..]).chain([&[][..]]);
        copied.zip(shared).flat_map(|(copied, shared)| [copied, shared]).filter(|piece| !piece.is_empty())
    }

    /// Adds the entries, as they were sealed, to the extent of their segment.
    pub fn extend(&self, extent: &mut Extent) {
        for WrittenEntry { header_at, header, .. } in &self.entries {
            extent.push(header.kind, header_checksum(&self.bytes[*header_at..]), header.len());
        }
    }

    /// Empties the batch. Returns its entries with their offsets in the batch, and how many records each has.
    pub fn drain(&mut self) -> impl Iterator<Item = (usize, Header, u64)> + '_ {
        self.bytes.clear();
        let groups = std::mem::take(&mut self.groups);
        self.bytes.shrink_to(MAX_KEPT);
        self.shared.clear();
        (self.len, self.kept) = (0, 0);
        self.entries.drain(..).map(move |WrittenEntry { at, header, .. }| {
            (at, header, groups.get(&header.sequence).copied().unwrap_or(1))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::wal::entry::{EntryIter, ScanItem};

    #[test]
    fn entries_with_large_parts_are_written_as_they_are_and_not_copied() {
        let mut batch = WriteBatch::default();
        let large = Bytes::from((0..300_000u32).map(|i| (i % 251) as u8).collect::<Vec<_>>());
        let small = Bytes::from_static(b"small");
        batch.push(EntryKind::Done, 1, |_| ());
        let shared = batch.push(EntryKind::Record, 2, |body| {
            body.put(b"head");
            body.put_shared(&large);
            body.put_shared(&small);
            body.put_shared(&large);
        });
        batch.push(EntryKind::Record, 3, |body| body.put_shared(&large));
        assert_eq!(shared, 600_000);
        assert!((900_000..901_000).contains(&batch.memory_bytes()), "{}", batch.memory_bytes());
        batch.is_kept(shared);
        assert!((300_000..301_000).contains(&batch.memory_bytes()), "{}", batch.memory_bytes());
        let written: Vec<u8> = batch.seal(7, 0).flatten().copied().collect();
        assert_eq!(written.len(), batch.len());
        let bodies: Vec<_> = EntryIter::new(&written, 7)
            .map(|item| match item {
                ScanItem::Entry { header, body, .. } => (header.sequence, body.to_vec()),
                ScanItem::Unreadable { at, .. } => panic!("unreadable at {at}"),
            })
            .collect();
        let second = [&b"head"[..], &large, &small, &large].concat();
        assert_eq!(bodies, [(1, Vec::new()), (2, second), (3, large.to_vec())]);
        let places: Vec<_> = batch.drain().map(|(at, header, _)| (at, header.sequence)).collect();
        assert_eq!(places, [(0, 1), (HEADER, 2), (written.len() - HEADER - large.len(), 3)]);
        assert!(batch.is_empty() && large.is_unique() && batch.memory_bytes() == 0);
    }
}
