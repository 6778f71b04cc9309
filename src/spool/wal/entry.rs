//! One entry of a segment: a header of 40 bytes, then the body. The layout stands in the header of [`super::super`].

/// The meaning of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// The body is a record; `sequence` is the record's number.
    Record = 1,
    /// The INSERT whose first record was `sequence` is settled.
    Done = 2,
    /// The segment ends here, and all bytes before were synced.
    End = 3,
    /// The body is the acknowledgement history of all records below `sequence`.
    Receipts = 4,
    /// The first entry of a segment. The body describes the segment before it.
    Begin = 5,
}

const KINDS: [EntryKind; 5] =
    [EntryKind::Record, EntryKind::Done, EntryKind::End, EntryKind::Receipts, EntryKind::Begin];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub kind: EntryKind,
    pub sequence: u64,
    /// Bytes of the segment that were synced when this entry was written.
    pub synced: u64,
    pub body_len: u32,
    pub body_crc: u32,
}

pub const HEADER: usize = 40;

impl Header {
    pub fn new(kind: EntryKind, sequence: u64, body: &[u8]) -> Header {
        Header::of_body(kind, sequence, body.len(), crc32c::crc32c(body))
    }

    pub fn of_body(kind: EntryKind, sequence: u64, len: usize, crc: u32) -> Header {
        // A body is far smaller than 4 GiB: a packet has at most 256 MiB, a block at most `batch.maxBytes`.
        Header { kind, sequence, synced: 0, body_len: len as u32, body_crc: crc }
    }

    pub fn to_bytes(self, marker: u64) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..8].copy_from_slice(&marker.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.synced.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.body_len.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.body_crc.to_le_bytes());
        bytes[32] = self.kind as u8;
        let crc = crc32c::crc32c(&bytes[..36]);
        bytes[36..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header at the beginning of `bytes`, if it is valid and belongs to the segment with this marker.
    pub fn parse(bytes: &[u8], marker: u64) -> Option<Header> {
        let bytes: &[u8; HEADER] = bytes.first_chunk()?;
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        if u64_at(0) != marker || u32_at(36) != crc32c::crc32c(&bytes[..36]) {
            return None;
        }
        let kind = KINDS.into_iter().find(|kind| *kind as u8 == bytes[32])?;
        Some(Header {
            kind,
            sequence: u64_at(8),
            synced: u64_at(16),
            body_len: u32_at(24),
            body_crc: u32_at(28),
        })
    }

    /// Bytes of header and body.
    pub fn len(&self) -> usize {
        HEADER + self.body_len as usize
    }

    pub fn fits(&self, body: &[u8]) -> bool {
        body.len() == self.body_len as usize && crc32c::crc32c(body) == self.body_crc
    }
}

/// The checksum in the header at the beginning of `bytes`.
pub fn header_checksum(bytes: &[u8]) -> [u8; 4] {
    std::array::from_fn(|i| bytes[HEADER - 4 + i])
}

/// A part of a segment: an entry, or bytes that are not a valid entry.
#[derive(Debug)]
pub enum ScanItem<'a> {
    Entry {
        at: usize,
        header: Header,
        header_checksum: [u8; 4],
        body: &'a [u8],
    },
    /// `sequence` is known if the header of a record is valid.
    Unreadable {
        at: usize,
        len: usize,
        sequence: Option<u64>,
    },
}

/// Iterates over the entries of a segment. After unreadable bytes it goes on with the next valid header.
pub struct EntryIter<'a> {
    bytes: &'a [u8],
    marker: u64,
    at: usize,
}

impl<'a> EntryIter<'a> {
    pub fn new(bytes: &'a [u8], marker: u64) -> EntryIter<'a> {
        EntryIter { bytes, marker, at: 0 }
    }

    /// The offset of the next valid header.
    fn next_header(&self) -> usize {
        let marker = self.marker.to_le_bytes();
        let from = self.at + 1;
        let rest = &self.bytes[from..];
        let found = (0..rest.len())
            .find(|i| rest[*i..].starts_with(&marker) && Header::parse(&rest[*i..], self.marker).is_some());
        found.map_or(self.bytes.len(), |i| from + i)
    }
}

impl<'a> Iterator for EntryIter<'a> {
    type Item = ScanItem<'a>;

    fn next(&mut self) -> Option<ScanItem<'a>> {
        let at = self.at;
        let rest = &self.bytes[at..];
        if rest.is_empty() {
            return None;
        }
        let Some(header) = Header::parse(rest, self.marker) else {
            self.at = self.next_header();
            return Some(ScanItem::Unreadable { at, len: self.at - at, sequence: None });
        };
        let len = header.len().min(rest.len());
        let body = &rest[HEADER..len];
        self.at = at + len;
        if header.fits(body) {
            let header_checksum = header_checksum(rest);
            return Some(ScanItem::Entry { at, header, header_checksum, body });
        }
        let sequence = (header.kind == EntryKind::Record).then_some(header.sequence);
        Some(ScanItem::Unreadable { at, len, sequence })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKER: u64 = 0x1122_3344_5566_7788;

    fn put(out: &mut Vec<u8>, sequence: u64, body: &[u8]) {
        out.extend(Header::new(EntryKind::Record, sequence, body).to_bytes(MARKER));
        out.extend(body);
    }

    fn sequences(bytes: &[u8]) -> Vec<Option<u64>> {
        let known = |item| match item {
            ScanItem::Entry { header, .. } => Some(header.sequence),
            ScanItem::Unreadable { .. } => None,
        };
        EntryIter::new(bytes, MARKER).map(known).collect()
    }

    #[test]
    fn a_flipped_bit_hides_one_entry() {
        let mut bytes = Vec::new();
        put(&mut bytes, 1, b"one");
        let second = bytes.len();
        put(&mut bytes, 2, b"");
        put(&mut bytes, 3, b"three");
        assert_eq!(sequences(&bytes), [Some(1), Some(2), Some(3)]);
        for bit in 0..second * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(sequences(&damaged), [None, Some(2), Some(3)], "bit {bit}");
        }
    }

    #[test]
    fn an_entry_with_the_marker_of_another_segment_is_unreadable() {
        let mut forged = Vec::new();
        put(&mut forged, 9, b"forged");
        let mut bytes = vec![0; 7];
        bytes.extend(&forged);
        assert_eq!(EntryIter::new(&bytes, MARKER + 1).count(), 1);
    }
}
