//! Entries that are written and synced together.

use std::collections::BTreeMap;

use crate::spool::wal::entry::{EntryKind, HEADER, Header, header_checksum};
use crate::spool::wal::segment::Extent;

#[derive(Debug, Default)]
pub struct WriteBatch {
    /// The entries as they will lie in the file. [`WriteBatch::seal`] fills in the headers.
    bytes: Vec<u8>,
    headers: Vec<(usize, Header)>,
    /// How many records an entry has, where it has several, by the sequence of the first.
    groups: BTreeMap<u64, u64>,
}

impl WriteBatch {
    pub fn push(&mut self, kind: EntryKind, sequence: u64, write_body: impl FnOnce(&mut Vec<u8>)) {
        let at = self.bytes.len();
        self.bytes.resize(at + HEADER, 0);
        write_body(&mut self.bytes);
        self.headers.push((at, Header::new(kind, sequence, &self.bytes[at + HEADER..])));
    }

    /// Adds an entry of several records, which have the sequences from `first` on.
    pub fn push_records(&mut self, first: u64, count: u64, write_body: impl FnOnce(&mut Vec<u8>)) {
        if count > 1 {
            self.groups.insert(first, count);
        }
        self.push(EntryKind::Record, first, write_body);
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The sequences of its records.
    pub fn records(&self) -> impl Iterator<Item = u64> + '_ {
        self.headers
            .iter()
            .filter(|(_, header)| header.kind == EntryKind::Record)
            .flat_map(|(_, header)| header.sequence..header.sequence + self.count(header.sequence))
    }

    fn count(&self, first: u64) -> u64 {
        self.groups.get(&first).copied().unwrap_or(1)
    }

    /// The bytes to append to a segment whose first `synced` bytes are synced. Each attempt may go to another segment.
    pub fn seal(&mut self, marker: u64, synced: u64) -> &[u8] {
        for (at, header) in &self.headers {
            let header = Header { synced, ..*header };
            self.bytes[*at..][..HEADER].copy_from_slice(&header.to_bytes(marker));
        }
        &self.bytes
    }

    /// Adds the entries, as they were sealed, to the extent of their segment.
    pub fn extend(&self, extent: &mut Extent) {
        for (at, header) in &self.headers {
            extent.push(header.kind, header_checksum(&self.bytes[*at..]), header.len());
        }
    }

    /// The INSERTs that are done.
    pub fn done(&self) -> impl Iterator<Item = u64> + '_ {
        self.headers
            .iter()
            .filter(|(_, header)| header.kind == EntryKind::Done)
            .map(|(_, header)| header.sequence)
    }

    /// Empties the batch. Returns its entries with their offsets in the batch, and how many records each has.
    pub fn drain(&mut self) -> impl Iterator<Item = (usize, Header, u64)> + '_ {
        self.bytes.clear();
        let groups = std::mem::take(&mut self.groups);
        self.headers
            .drain(..)
            .map(move |(at, header)| (at, header, groups.get(&header.sequence).copied().unwrap_or(1)))
    }
}
