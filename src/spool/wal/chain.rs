//! Compares what segments and the state file say about each other, so that a segment that is gone or cut off is noticed.
//!
//! The BEGIN entry of a segment says what the one before it holds, the state file says it of the last one. The state file also
//! lists the segments that were deleted since, or were found damaged before.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;

use crate::spool::wal::corruption::{ChainBreak, STATE};
use crate::spool::wal::entry::{EntryKind, HEADER, Header};
use crate::spool::wal::scan::{DoneEntry, Found, FoundSegment};
use crate::spool::wal::segment::{Extent, Link, SegmentId};
use crate::spool::wal::state::{self, FoundState, Snapshot};
use crate::spool::wal::storage::Disk;

/// Bytes of the body of a BEGIN entry.
const BODY: usize = 24;

#[derive(Debug, Default)]
pub struct Chain {
    /// The statements of segments about those before them, by their own numbers.
    previous: HashMap<u64, Link>,
    /// The contents that every segment should have, by its number.
    expected: BTreeMap<u64, Extent>,
    pub state: Option<FoundState>,
    /// There are segments that only exist with a state file, and no valid one.
    is_state_missing: bool,
}

/// Records that were synced and not done, and are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    pub records: u64,
    pub messages: u64,
}

impl Missing {
    /// Compares the records that were found with the number that the state file gives.
    pub fn since(
        snapshot: &Snapshot,
        found: &BTreeMap<u64, Found>,
        done: &HashMap<u64, DoneEntry>,
    ) -> Missing {
        // Records and DONE entries that were committed after the snapshot do not count.
        let position = (snapshot.last.number, snapshot.extent.bytes);
        let noted: HashSet<u64> = snapshot.done.iter().copied().collect();
        let was_done = |insert: u64| {
            noted.contains(&insert) || done.get(&insert).is_some_and(|entry| entry.first < position)
        };
        let open = found.range(..snapshot.next_sequence).filter(|(_, found)| !was_done(found.insert));
        let (records, messages) = open.fold((0, 0), |(records, messages), (_, found)| {
            (records + 1, messages + u64::from(found.messages))
        });
        Missing {
            records: snapshot.open.records.saturating_sub(records),
            messages: snapshot.open.messages.saturating_sub(messages),
        }
    }
}

impl Chain {
    /// Reads the state file and the BEGIN entries.
    pub fn read<D: Disk>(disk: &D, segments: &[SegmentId], state_files: &[u64]) -> io::Result<Chain> {
        let mut chain = Chain { state: state::find(disk, state_files)?, ..Chain::default() };
        for id in segments {
            if let Some(previous) = read_begin(disk, *id)? {
                chain.previous.insert(id.number, previous);
                chain.expect(previous);
            }
        }
        chain.is_state_missing = chain.state.is_none() && segments.iter().any(|id| id.version > 1);
        if let Some(FoundState { snapshot, .. }) = &chain.state {
            let last = Link { number: snapshot.last.number, extent: snapshot.extent };
            let known = snapshot.known.clone();
            chain.expect(last);
            chain.correct(&known);
        }
        Ok(chain)
    }

    /// Reads the state file again. Only what both say counts as missing.
    pub fn reread<D: Disk>(mut self, disk: &D, state_files: &[u64]) -> io::Result<Chain> {
        if let Some(FoundState { snapshot, .. }) = state::find(disk, state_files)? {
            self.correct(&snapshot.known);
        }
        Ok(self)
    }

    fn expect(&mut self, link: Link) {
        if link.number > 0 && link.extent.bytes > 0 {
            let expected = self.expected.entry(link.number).or_default();
            if expected.bytes < link.extent.bytes {
                *expected = link.extent;
            }
        }
    }

    fn correct(&mut self, known: &[Link]) {
        for Link { number, extent } in known {
            self.expected.insert(*number, *extent);
        }
    }

    /// The statements of others about a segment; empty if there are none.
    pub fn expected(&self, number: u64) -> Extent {
        self.expected.get(&number).copied().unwrap_or_default()
    }

    /// The statement of a segment about the one before it.
    pub fn previous(&self, number: u64) -> Link {
        self.previous.get(&number).copied().unwrap_or_default()
    }

    /// A number above those of all segments that a file or the state names.
    pub fn next_number(&self) -> u64 {
        let last = self.state.as_ref().map_or(0, |state| state.snapshot.last.number);
        self.expected.last_key_value().map_or(0, |(number, _)| *number).max(last) + 1
    }

    /// The segments that should be there and are not. Without a state file the deleted segments are
    /// unknown: then only its absence is reported.
    pub fn removed(&self, found: &[FoundSegment]) -> Vec<ChainBreak> {
        let gone = |segment: String, len| ChainBreak { segment, at: 0, len };
        if self.is_state_missing {
            return vec![gone(STATE.into(), 0)];
        }
        let is_there = |number: u64| found.binary_search_by_key(&number, |segment| segment.id.number).is_ok();
        let expected =
            self.expected.iter().filter(|(number, extent)| extent.bytes > 0 && !is_there(**number));
        expected.map(|(number, extent)| gone(SegmentId::file_prefix(*number), extent.bytes)).collect()
    }
}

/// The statement of a segment about the one before it, if its BEGIN entry can be read.
fn read_begin<D: Disk>(disk: &D, id: SegmentId) -> io::Result<Option<Link>> {
    let file = id.to_string();
    if disk.len(&file)? < (HEADER + BODY) as u64 {
        return Ok(None);
    }
    let bytes = disk.read_at(&file, 0, HEADER + BODY)?;
    let header = Header::parse(&bytes, id.marker);
    let is_begin =
        header.is_some_and(|header| header.kind == EntryKind::Begin && header.fits(&bytes[HEADER..]));
    Ok(is_begin.then(|| Link::decode(&mut &bytes[HEADER..])).flatten())
}
