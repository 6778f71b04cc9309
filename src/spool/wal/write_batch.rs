//! Entries that are written and synced together.

use crate::spool::wal::entry::{EntryKind, HEADER, Header, header_checksum};
use crate::spool::wal::segment::Extent;

#[derive(Debug, Default)]
pub struct WriteBatch {
    /// The entries as they will lie in the file. [`WriteBatch::seal`] fills in the headers.
    bytes: Vec<u8>,
    headers: Vec<(usize, Header)>,
}

impl WriteBatch {
    pub fn push(&mut self, kind: EntryKind, sequence: u64, write_body: impl FnOnce(&mut Vec<u8>)) {
        let at = self.bytes.len();
        self.bytes.resize(at + HEADER, 0);
        write_body(&mut self.bytes);
        self.headers.push((at, Header::new(kind, sequence, &self.bytes[at + HEADER..])));
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
            .map(|(_, header)| header.sequence)
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

    /// Empties the batch. Returns its entries with their offsets in the batch.
    pub fn drain(&mut self) -> impl Iterator<Item = (usize, Header)> + '_ {
        self.bytes.clear();
        self.headers.drain(..)
    }
}
