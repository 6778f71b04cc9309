//! Entries that wait to be written and synced together.

use crate::spool::wal::entry::{HEADER, Header, Kind};

#[derive(Debug, Default)]
pub struct Group {
    /// The entries as the file will have them. What their headers say of the segment is filled in by [`Group::seal`].
    bytes: Vec<u8>,
    headers: Vec<(usize, Header)>,
}

impl Group {
    pub fn push(&mut self, kind: Kind, sequence: u64, write_body: impl FnOnce(&mut Vec<u8>)) {
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
            .filter(|(_, header)| header.kind == Kind::Record)
            .map(|(_, header)| header.sequence)
    }

    /// The bytes to append to a segment of which so many bytes are synced. Each attempt may go to another segment.
    pub fn seal(&mut self, marker: u64, synced: u64) -> &[u8] {
        for (at, header) in &self.headers {
            let header = Header { synced, ..*header };
            self.bytes[*at..][..HEADER].copy_from_slice(&header.to_bytes(marker));
        }
        &self.bytes
    }

    /// The entries and where in the group they begin; it is empty afterwards.
    pub fn drain(&mut self) -> impl Iterator<Item = (usize, Header)> + '_ {
        self.bytes.clear();
        self.headers.drain(..)
    }
}
