//! A segment is one file of the log. Its number, marker and layout version stand in its name.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;

use bytes::Buf;

use crate::spool::wal::entry::EntryKind;

/// The name of a segment. It holds what a reader must know before the first byte.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentId {
    /// Segments are numbered in the order in which they were begun.
    pub number: u64,
    /// Every entry of the segment begins with this random number, so that no payload can look like an entry.
    pub marker: u64,
    /// The version of its layout.
    pub version: u32,
}

/// The version of the layout in which segments are written.
const VERSION: u32 = 2;
/// The oldest version that is read. Its segments have no BEGIN entry.
const OLDEST: u32 = 1;
const PREFIX: &str = "segment-";

impl SegmentId {
    /// The id of a new segment. Its marker is the SplitMix64 of both numbers, another one for each segment of each opening.
    pub fn new(open_id: u64, number: u64) -> SegmentId {
        let mut z = open_id.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        SegmentId { number, marker: z ^ (z >> 31), version: VERSION }
    }
}

impl SegmentId {
    /// The beginning of the name of a segment of which only the number is known.
    pub fn file_prefix(number: u64) -> String {
        format!("{PREFIX}{number:010}")
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{:010}-{:016x}.v{}", self.number, self.marker, self.version)
    }
}

/// The meaning of the name of a file in the directory.
#[derive(Debug, PartialEq, Eq)]
pub enum ParsedName {
    Segment(SegmentId),
    /// A segment whose version this code does not know.
    OtherVersion,
    /// No segment: the lock, quarantined bytes, or a foreign file.
    Other,
}

impl SegmentId {
    pub fn parse(file: &str) -> ParsedName {
        let Some((stem, version)) = file.strip_prefix(PREFIX).and_then(|rest| rest.rsplit_once(".v")) else {
            return ParsedName::Other;
        };
        if !version.bytes().all(|byte| byte.is_ascii_digit()) {
            return ParsedName::Other;
        }
        let id = stem.split_once('-').and_then(|(number, marker)| {
            let (number, marker) = (number.parse().ok()?, u64::from_str_radix(marker, 16).ok()?);
            Some(SegmentId { number, marker, version: version.parse().ok()? })
        });
        match id {
            Some(id) if id.to_string() == file && (OLDEST..=VERSION).contains(&id.version) => {
                ParsedName::Segment(id)
            }
            _ => ParsedName::OtherVersion,
        }
    }
}

/// Where an entry lies.
#[derive(Debug, Clone, Copy)]
pub struct Location {
    pub segment: SegmentId,
    pub at: u64,
    pub len: u32,
}

/// The synced part of a segment.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub bytes: u64,
    pub records: u32,
    /// CRC32C of the header checksums of its entries.
    pub checksum: u32,
}

impl Extent {
    /// Adds the next entry.
    pub fn push(&mut self, kind: EntryKind, header_checksum: [u8; 4], len: usize) {
        self.bytes += len as u64;
        self.records += u32::from(kind == EntryKind::Record);
        self.checksum = crc32c::crc32c_append(self.checksum, &header_checksum);
    }
}

/// A statement of one segment about another.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The number of the segment. 0: there is none.
    pub number: u64,
    pub extent: Extent,
}

impl Link {
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.number.to_le_bytes());
        out.extend(self.extent.bytes.to_le_bytes());
        out.extend(self.extent.records.to_le_bytes());
        out.extend(self.extent.checksum.to_le_bytes());
    }

    pub fn decode(bytes: &mut &[u8]) -> Option<Link> {
        let number = bytes.try_get_u64_le().ok()?;
        let (len, records) = (bytes.try_get_u64_le().ok()?, bytes.try_get_u32_le().ok()?);
        let checksum = bytes.try_get_u32_le().ok()?;
        Some(Link { number, extent: Extent { bytes: len, records, checksum } })
    }
}

/// A segment as the log knows it.
#[derive(Debug)]
pub struct Segment {
    pub id: SegmentId,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes of it that are synced and can be read.
    pub extent: Extent,
    /// Its statement about the segment before it.
    pub previous: Link,
    /// Records in it that are not done, as far as that is synced.
    pub open: usize,
    /// The INSERTs of all records that it may hold, including records that were written again to a later segment.
    pub inserts: BTreeSet<u64>,
    /// Number of the commit after which its DONE entries have been rewritten, so that the file may be deleted.
    pub rewritten_at: Option<u64>,
}

impl Segment {
    pub fn new(id: SegmentId, bytes: u64) -> Segment {
        Segment {
            id,
            bytes,
            extent: Extent::default(),
            previous: Link::default(),
            open: 0,
            inserts: BTreeSet::new(),
            rewritten_at: None,
        }
    }
}

/// The segments of a log in the order in which they were begun, and the file of the last one.
#[derive(Debug)]
pub struct Segments<F> {
    pub all: VecDeque<Segment>,
    /// The file of the last segment. `None`: the next commit begins a segment.
    pub file: Option<F>,
    pub next_number: u64,
}

impl<F> Segments<F> {
    pub fn new() -> Segments<F> {
        Segments { all: VecDeque::new(), file: None, next_number: 1 }
    }

    /// Adds a segment that lies on the disk and gets no more entries.
    pub fn restore(&mut self, segment: Segment) {
        self.next_number = self.next_number.max(segment.id.number + 1);
        self.all.push_back(segment);
    }

    pub fn begin(&mut self, id: SegmentId, file: F) {
        self.file = Some(file);
        let last = self.all.iter().rev().find(|segment| segment.extent.bytes > 0);
        let previous = last.map(|last| Link { number: last.id.number, extent: last.extent });
        self.all.push_back(Segment { previous: previous.unwrap_or_default(), ..Segment::new(id, 0) });
    }

    /// The segments that differ from what others say of them, once the segment at `deleted` is deleted too. `last` is the
    /// number of the segment of the last commit.
    pub fn differences(&self, deleted: Option<usize>, last: u64) -> Vec<Link> {
        let extent_of = |number: u64| {
            let at = self.all.binary_search_by_key(&number, |segment| segment.id.number).ok()?;
            (deleted != Some(at)).then(|| self.all[at].extent)
        };
        // The statement of the deleted one about the segment before it counts as well: deleting it may fail.
        let mut differences: Vec<Link> = self
            .all
            .iter()
            .map(|segment| segment.previous)
            .filter(|previous| previous.number > 0)
            .map(|previous| (previous, extent_of(previous.number).unwrap_or_default()))
            .filter(|(previous, extent)| previous.extent != *extent)
            .map(|(previous, extent)| Link { number: previous.number, extent })
            .collect();
        if last > 0 && extent_of(last).is_none() {
            differences.push(Link { number: last, extent: Extent::default() });
        }
        differences
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.all.iter().map(|segment| segment.bytes).sum()
    }

    /// A linear search: segments are few, and the one sought is mostly the first or the last.
    pub fn find(&mut self, location: Location) -> Option<&mut Segment> {
        self.all.iter_mut().find(|segment| segment.id == location.segment)
    }

    pub fn open_record(&mut self, location: Location) {
        if let Some(segment) = self.find(location) {
            segment.open += 1;
        }
    }

    pub fn close_record(&mut self, location: Location) {
        if let Some(segment) = self.find(location) {
            segment.open -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let name = SegmentId { number: 7, marker: 0xfeed, version: 1 };
        assert_eq!(name.to_string(), "segment-0000000007-000000000000feed.v1");
        assert_eq!(SegmentId::parse(&name.to_string()), ParsedName::Segment(name));
        assert_eq!(SegmentId::parse("segment-0000000007-000000000000feed.v3"), ParsedName::OtherVersion);
        assert_eq!(SegmentId::parse("segment-7.v12"), ParsedName::OtherVersion);
        for other in ["lock", "segment-0000000007-000000000000feed.v1-40.damaged", "notes.v1"] {
            assert_eq!(SegmentId::parse(other), ParsedName::Other, "{other}");
        }
    }
}
