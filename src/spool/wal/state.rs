//! The state file notes the last sync in a file that never grows.
//!
//! A segment cannot say of itself how much of it is synced: the next commit or the next segment says it. The state file says
//! it at once. After each commit it is written in place, without a sync, so it costs no time; it is exact after the death of a
//! process, and may be some commits old after that of the machine. It is synced before something depends on it: before a
//! segment is deleted, and on a full disk for INSERTs that are done.
//!
//! The file has two slots. The one that was synced last is not written to until the other one is synced.

use std::io;

use bytes::Buf;

use crate::spool::wal::record_index::Settled;
use crate::spool::wal::retention::is_storage_full;
use crate::spool::wal::segment::{Extent, Link, SegmentId};
use crate::spool::wal::storage::{Disk, DiskFile};

/// Bytes of a slot.
const SLOT: usize = 32 << 10;
const PREFIX: &str = "state-";
const SUFFIX: &str = ".v2";
/// Bytes of a snapshot before its lists.
const FIXED: usize = 80;
const LINK: usize = 24;

/// Records that are not done, and their messages.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    pub records: u64,
    pub messages: u64,
}

impl Open {
    pub fn add(&mut self, messages: u32) {
        self.records += 1;
        self.messages += u64::from(messages);
    }

    pub fn remove(&mut self, settled: &Settled) {
        self.records = self.records.saturating_sub(settled.locations.len() as u64);
        self.messages = self.messages.saturating_sub(settled.messages);
    }
}

/// The state of a log after a commit: the content of a slot. The layout stands in the header of [`crate::spool`].
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The valid slot with the higher number counts.
    pub number: u64,
    /// The segment of the last commit.
    pub last: SegmentId,
    /// Bytes of it that are synced.
    pub extent: Extent,
    pub next_sequence: u64,
    pub open: Open,
    /// Segments that hold something else than the next segment says of them. An empty extent: it was deleted.
    pub known: Vec<Link>,
    /// INSERTs that are done since the last commit.
    pub done: Vec<u64>,
}

impl Snapshot {
    /// Whether a slot has room for all of it.
    pub fn is_complete(&self) -> bool {
        FIXED + LINK * self.known.len() + 8 * self.done.len() <= SLOT
    }

    /// `None`: the list of segments does not fit. INSERTs that do not fit are left out.
    fn encode(&self) -> Option<Vec<u8>> {
        let room = SLOT.checked_sub(FIXED + LINK * self.known.len())?;
        let done = &self.done[..self.done.len().min(room / 8)];
        let mut out = vec![0; 8];
        for number in [
            self.number,
            self.last.number,
            self.last.marker,
            self.extent.bytes,
            u64::from(self.extent.records) | u64::from(self.extent.checksum) << 32,
            self.next_sequence,
            self.open.records,
            self.open.messages,
            self.known.len() as u64 | (done.len() as u64) << 32,
        ] {
            out.extend(number.to_le_bytes());
        }
        self.known.iter().for_each(|link| link.encode(&mut out));
        done.iter().for_each(|insert| out.extend(insert.to_le_bytes()));
        let len = (out.len() as u32).to_le_bytes();
        out[4..8].copy_from_slice(&len);
        let crc = crc32c::crc32c(&out[4..]).to_le_bytes();
        out[..4].copy_from_slice(&crc);
        Some(out)
    }

    fn decode(slot: &[u8]) -> Option<Snapshot> {
        let mut head = slot.get(..8)?;
        let (crc, len) = (head.get_u32_le(), head.get_u32_le() as usize);
        let mut rest = slot.get(8..len)?;
        if len < FIXED || crc32c::crc32c(&slot[4..len]) != crc {
            return None;
        }
        let mut next = || rest.try_get_u64_le().ok();
        let number = next()?;
        let (segment, marker) = (next()?, next()?);
        let (bytes, packed) = (next()?, next()?);
        let (next_sequence, records, messages, lists) = (next()?, next()?, next()?, next()?);
        let mut snapshot = Snapshot {
            number,
            last: SegmentId { number: segment, marker, ..SegmentId::default() },
            extent: Extent { bytes, records: packed as u32, checksum: (packed >> 32) as u32 },
            next_sequence,
            open: Open { records, messages },
            ..Snapshot::default()
        };
        for _ in 0..lists as u32 {
            snapshot.known.push(Link::decode(&mut rest)?);
        }
        for _ in 0..lists >> 32 {
            snapshot.done.push(rest.try_get_u64_le().ok()?);
        }
        rest.is_empty().then_some(snapshot)
    }
}

/// A state file that was found.
#[derive(Debug)]
pub struct FoundState {
    file: u64,
    slot: usize,
    pub snapshot: Snapshot,
}

/// The number of a state file, if `name` is the name of one.
pub fn number_of(name: &str) -> Option<u64> {
    let number = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

fn file_name(number: u64) -> String {
    format!("{PREFIX}{number:010}{SUFFIX}")
}

/// The newest valid snapshot of the state files with these numbers.
pub fn find<D: Disk>(disk: &D, files: &[u64]) -> io::Result<Option<FoundState>> {
    let mut newest: Option<FoundState> = None;
    for file in files {
        let bytes = disk.read(&file_name(*file))?;
        for (slot, bytes) in bytes.chunks(SLOT).enumerate().take(2) {
            let Some(snapshot) = Snapshot::decode(bytes) else { continue };
            if newest.as_ref().is_none_or(|newest| newest.snapshot.number < snapshot.number) {
                newest = Some(FoundState { file: *file, slot, snapshot });
            }
        }
    }
    Ok(newest)
}

/// The state file of an open log.
#[derive(Debug)]
pub struct StateFile<F> {
    file: Option<F>,
    /// The slot that is not synced.
    slot: usize,
    /// Number of the last snapshot.
    number: u64,
    /// Number of the file.
    current: u64,
    /// Number of the next file.
    next: u64,
    /// The file before, and its slot that is not synced.
    previous: Option<(u64, usize)>,
    /// State files to be removed once there is another one.
    stale: Vec<u64>,
}

impl<F: DiskFile> StateFile<F> {
    /// Makes a new file with this snapshot. `files` are the numbers of all state files that were found: after a failed sync of
    /// the process before, none of them can be trusted to keep what is written to it, so they are replaced. On a full disk the
    /// valid one is used again, or if there is none, the file is made later.
    pub fn open<D: Disk<File = F>>(
        disk: &D,
        snapshot: &mut Snapshot,
        found: Option<&FoundState>,
        files: &[u64],
    ) -> io::Result<StateFile<F>> {
        let mut state = StateFile {
            file: None,
            slot: 0,
            number: found.map_or(0, |found| found.snapshot.number),
            current: 0,
            next: files.iter().max().map_or(1, |newest| newest + 1),
            previous: None,
            stale: files.to_vec(),
        };
        if let Some(FoundState { file, slot, .. }) = found
            && disk.len(&file_name(*file))? == 2 * SLOT as u64
        {
            state.previous = Some((*file, 1 - slot));
        }
        match state.write_durably(disk, snapshot) {
            Err(error) if !is_storage_full(&error) => Err(error),
            _ => Ok(state),
        }
    }

    pub fn exists(&self) -> bool {
        self.file.is_some()
    }

    /// Writes a snapshot without a sync. An error costs nothing: the synced slot is still there.
    pub fn write(&mut self, snapshot: &mut Snapshot) {
        if let Some(file) = &mut self.file {
            self.number += 1;
            snapshot.number = self.number;
            let Some(bytes) = snapshot.encode() else { return };
            let _ = file.write_at((self.slot * SLOT) as u64, &bytes);
        }
    }

    /// Writes a snapshot and syncs it. Creates the file if there is none. `false`: the list of segments is too long for it.
    pub fn write_durably<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        snapshot: &mut Snapshot,
    ) -> io::Result<bool> {
        self.number += 1;
        snapshot.number = self.number;
        let Some(bytes) = snapshot.encode() else { return Ok(false) };
        let is_new = self.file.is_none() && self.create(disk)?;
        let Some(file) = &mut self.file else { return Ok(false) };
        let written = file.write_at((self.slot * SLOT) as u64, &bytes).and_then(|()| file.sync());
        let written = written.and_then(|()| if is_new { disk.sync_names() } else { Ok(()) });
        if let Err(error) = written {
            // After a failed sync nothing is known of the file. The next attempt makes another one, and this one stays until
            // that is synced.
            self.file = None;
            self.stale.push(self.current);
            if !is_new {
                self.previous = Some((self.current, self.slot));
            }
            return Err(error);
        }
        self.slot = 1 - self.slot;
        // Into the other slot as well, so that it can be read from either.
        let _ = file.write_at((self.slot * SLOT) as u64, &bytes);
        if is_new {
            self.previous = None;
            self.stale.retain(|number| {
                disk.remove(&file_name(*number)).is_err_and(|error| error.kind() != io::ErrorKind::NotFound)
            });
        }
        Ok(true)
    }

    /// Creates a file. `false`: there is no space for one, and the one before is used again.
    fn create<D: Disk<File = F>>(&mut self, disk: &D) -> io::Result<bool> {
        let number = self.next;
        self.next += 1;
        let error = match disk.preallocate(&file_name(number), 2 * SLOT) {
            Ok(file) => {
                (self.file, self.current, self.slot) = (Some(file), number, 0);
                return Ok(true);
            }
            Err(error) => error,
        };
        // A part of it may have been written.
        if disk.remove(&file_name(number)).is_err() {
            self.stale.push(number);
        }
        let Some((number, slot)) = self.previous.filter(|_| is_storage_full(&error)) else {
            return Err(error);
        };
        let mut file = disk.open_in_place(&file_name(number))?;
        // Perhaps the slot that was read is not synced, and the other one will be overwritten.
        file.sync()?;
        (self.file, self.current, self.slot) = (Some(file), number, slot);
        self.stale.retain(|stale| *stale != number);
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_comes_back_unless_a_bit_of_it_is_flipped() {
        let extent = |bytes| Extent { bytes, records: 7, checksum: 0xfeed_0001 };
        let snapshot = Snapshot {
            number: 5,
            last: SegmentId { number: 9, marker: 0xabcd, ..SegmentId::default() },
            extent: extent(4096),
            next_sequence: 77,
            open: Open { records: 3, messages: 30 },
            known: vec![Link { number: 3, extent: extent(0) }, Link { number: 5, extent: extent(12) }],
            done: vec![70, 71],
        };
        let mut bytes = snapshot.encode().unwrap();
        assert_eq!(Snapshot::decode(&bytes), Some(snapshot));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Snapshot::decode(&bytes), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(Snapshot::decode(&vec![0; SLOT]), None);
    }

    #[test]
    fn a_list_of_inserts_is_cut_and_one_of_segments_is_not() {
        let mut snapshot = Snapshot { done: (0..10_000).collect(), ..Snapshot::default() };
        let bytes = snapshot.encode().unwrap();
        assert_eq!(bytes.len(), SLOT);
        assert_eq!(Snapshot::decode(&bytes).unwrap().done, snapshot.done[..(SLOT - FIXED) / 8]);
        snapshot.known = vec![Link::default(); SLOT / LINK];
        assert_eq!(snapshot.encode(), None);
    }

    #[test]
    fn names_of_state_files() {
        assert_eq!(number_of(&file_name(12)), Some(12));
        for other in ["state-12.v2", "state-0000000012.v3", "state", "segment-0000000012-0.v2"] {
            assert_eq!(number_of(other), None, "{other}");
        }
    }
}
