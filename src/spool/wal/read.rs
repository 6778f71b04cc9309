//! INSERTs out of the log: their records from memory, or from disk.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::spool::wal::corruption::{self, CorruptRange};
use crate::spool::wal::entry::{HEADER, Header};
use crate::spool::wal::log::Log;
use crate::spool::wal::record::{Record, StoredRecord};
use crate::spool::wal::segment::{Location, Segment, SegmentId};
use crate::spool::wal::storage::Disk;

/// The records of one INSERT. Their blocks, one after the other, are its body.
#[derive(Debug, Clone)]
pub struct Insert {
    pub id: u64,
    pub token: String,
    pub records: Vec<Arc<Record>>,
    /// An earlier process may have attempted it.
    pub may_be_attempted: bool,
}

/// Bytes that are read beyond an entry: to open a file costs more than to read a small record.
const READ_AHEAD: usize = 256 * 1024;

#[derive(Debug, Default)]
pub struct Reader {
    /// The last read: the segment, the offset in it, the bytes.
    readahead: Option<(SegmentId, u64, Vec<u8>)>,
    /// Records that were quarantined since the last call.
    pub corrupt: Vec<CorruptRange>,
}

impl<D: Disk> Log<D> {
    /// The next INSERT that is due; with `all` the next one whatever its age. It belongs to the caller until [`Log::done`],
    /// also if none of its records can be read any more. The caller must attempt it only with these blocks in this order
    /// under this token.
    pub fn take(&mut self, now: Instant, all: bool) -> io::Result<Option<Insert>> {
        let Some(id) = self.queue.next(now, all) else { return Ok(None) };
        let Some(pending) = self.queue.get(id) else { return Ok(None) };
        let may_be_attempted = pending.may_be_attempted;
        let (token, sequences) = (pending.token.clone(), pending.records.clone());
        let mut records = Vec::with_capacity(sequences.len());
        for sequence in &sequences {
            records.extend(self.record(*sequence)?);
        }
        self.queue.take(id);
        sequences.iter().for_each(|sequence| self.records.release(*sequence));
        if self.records.stored_bytes() == 0 {
            self.reader.forget();
        }
        Ok(Some(Insert { id, token, records, may_be_attempted }))
    }

    /// Bytes that [`Log::take`] would bring into memory, or that are there already.
    pub fn next_bytes(&mut self, now: Instant, all: bool) -> Option<usize> {
        let next = self.queue.next(now, all)?;
        let pending = self.queue.get(next)?;
        Some(pending.records.iter().map(|sequence| self.records.bytes_of(*sequence)).sum())
    }

    /// A record. `None`: its bytes on disk can no longer be read; they are quarantined.
    fn record(&mut self, sequence: u64) -> io::Result<Option<Arc<Record>>> {
        if let Some(record) = self.records.kept(sequence) {
            return Ok(Some(record));
        }
        let Some(location) = self.records.location(sequence) else { return Ok(None) };
        let bytes = match self.reader.read(&self.disk, &self.segments.all, location) {
            Ok(bytes) => bytes,
            Err(error) => {
                // If the directory itself is gone, it may come back.
                let is_lost = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof);
                if !is_lost || self.disk.check().is_err() {
                    return Err(error);
                }
                let Location { segment, at, len } = location;
                let gone = CorruptRange::gone(segment.to_string(), at, len as usize, sequence);
                if !self.reader.corrupt.contains(&gone) {
                    self.reader.corrupt.push(gone);
                }
                return Ok(None);
            }
        };
        let header = Header::parse(&bytes, location.segment.marker)
            .filter(|header| header.sequence <= sequence && header.fits(&bytes[HEADER..]));
        if let Some(header) = header
            && let Some(mut records) = StoredRecord::decode(bytes.slice(HEADER..))
            && let Some(place) = usize::try_from(sequence - header.sequence).ok()
            && place < records.len()
        {
            let is_alone = records.len() == 1;
            let record = records.swap_remove(place).record;
            return Ok(Some(Arc::new(if is_alone { record } else { record.detached() })));
        }
        let mut corrupt =
            CorruptRange::new(location.segment.to_string(), location.at, bytes.len(), Some(sequence));
        if corruption::quarantine(&self.disk, &mut corrupt, &bytes)? {
            self.reader.corrupt.push(corrupt);
        }
        Ok(None)
    }
}

impl Reader {
    pub fn memory_bytes(&self) -> usize {
        self.readahead.as_ref().map_or(0, |(_, _, bytes)| bytes.capacity())
    }

    /// Frees what was read ahead.
    pub fn forget(&mut self) {
        self.readahead = None;
    }

    /// The bytes of an entry. Reads some of the bytes behind it as well: the next records mostly lie there.
    fn read<D: Disk>(
        &mut self,
        disk: &D,
        segments: &VecDeque<Segment>,
        location: Location,
    ) -> io::Result<Bytes> {
        let Location { segment, at, len } = location;
        let len = len as usize;
        if let Some((known, from, bytes)) = &self.readahead
            && *known == segment
            && let Some(from) = at.checked_sub(*from)
            && let Some(found) = bytes.get(from as usize..from as usize + len)
        {
            return Ok(Bytes::copy_from_slice(found));
        }
        let file = segment.to_string();
        let end = segments.iter().find(|known| known.id == segment).map_or(0, |known| known.bytes);
        let ahead = (end.saturating_sub(at) as usize).min(READ_AHEAD);
        if ahead > len
            && let Ok(bytes) = disk.read_at(&file, at, ahead)
        {
            let found = Bytes::copy_from_slice(&bytes[..len]);
            self.readahead = Some((segment, at, bytes));
            return Ok(found);
        }
        disk.read_at(&file, at, len).map(Bytes::from)
    }
}
