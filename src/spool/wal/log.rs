//! The log: records in, INSERTs out. See the header of [`super::super`].
//!
//! Records are appended and committed here, `read` gives them out, `retention` deletes segments.

use std::io;
use std::time::{Instant, SystemTime};

use crate::spool::ack_receipts::{AckHistoryStore, SessionHistory};
use crate::spool::insert_queue::{InsertLimits, InsertQueue};
use crate::spool::wal::corruption::CorruptRange;
use crate::spool::wal::entry::{EntryKind, HEADER, Header, header_checksum};
use crate::spool::wal::read::Reader;
use crate::spool::wal::record::{Record, StreamKey};
use crate::spool::wal::record_index::RecordIndex;
use crate::spool::wal::retention::is_storage_full;
use crate::spool::wal::segment::{Location, SegmentId, Segments};
use crate::spool::wal::state::{Snapshot, StateFile};
use crate::spool::wal::storage::{Disk, DiskFile};
use crate::spool::wal::write_batch::{BodySink, WriteBatch};

#[derive(Debug, Clone)]
pub struct Options {
    /// The pipeline's name, a part of tokens.
    pub name: String,
    /// A random number, another one each time a log is opened. Tokens and markers are made of it.
    pub open_id: u64,
    /// Bytes of all segments. A soft limit: records that are appended together may pass it.
    pub max_bytes: u64,
    /// A segment of this size or more takes no more entries. A soft limit in the same way.
    pub segment_bytes: u64,
    /// Bytes of records that are also kept in memory, so that they need not be read back.
    pub keep_bytes: usize,
    pub insert: InsertLimits,
}

/// Bytes. A disk with less free space is nearly full, and a small disk makes no segment smaller than
/// this.
const LOW_ROOM: u64 = 64 << 10;

pub struct Log<D: Disk> {
    pub(super) disk: D,
    pub(super) options: Options,
    pub(super) segments: Segments<D::File>,
    /// The last segment takes no more entries from this size on: `segment_bytes`, or less on a small disk.
    pub(super) segment_bytes: u64,
    pub(super) state: StateFile<D::File>,
    /// The state after the last commit.
    pub(super) snapshot: Snapshot,
    /// The sequence of the next record.
    pub(super) next_sequence: u64,
    pub(super) records: RecordIndex,
    pub(super) queue: InsertQueue,
    /// Entries that the next commit writes.
    pub(super) batch: WriteBatch,
    /// How many commits have succeeded.
    pub(super) commits: u64,
    /// The last commit failed: nothing more is appended until one succeeds.
    pub(super) is_failing: bool,
    /// It failed because the disk is full.
    pub(super) is_disk_full: bool,
    /// The directory was removed or replaced.
    pub(super) is_gone: bool,
    pub(super) ack_history: AckHistoryStore,
    /// The segment that holds all of `ack_history`, in its first entry and the records behind it.
    /// `None`: only the segments that were found, together, hold it.
    pub(super) ack_history_in: Option<SegmentId>,
    pub(super) reader: Reader,
}

impl<D: Disk> Log<D> {
    /// Takes a record; it is durable once [`Log::commit`] has succeeded. Returns the id of its INSERT. Must only be called
    /// while [`Log::is_full`] is `false`.
    pub fn append(&mut self, record: Record, now: Instant) -> u64 {
        self.append_together(vec![record], now)[0]
    }

    /// Takes records of which all are durable or none. Returns the INSERT of each.
    pub fn append_together(&mut self, records: Vec<Record>, now: Instant) -> Vec<u64> {
        let first = self.next_sequence;
        self.next_sequence += records.len() as u64;
        let Options { name, open_id, keep_bytes, .. } = &self.options;
        let assign = |(sequence, record)| {
            self.queue.assign(sequence, record, now, || format!("{name}-{open_id:016x}-{sequence}"))
        };
        let inserts: Vec<u64> = (first..).zip(&records).map(assign).collect();
        let mut shared = Vec::new();
        self.batch.push_records(first, records.len() as u64, |body| {
            for (insert, record) in inserts.iter().zip(&records) {
                let token = self.queue.get(*insert).map_or("", |pending| &pending.token);
                let before = body.shared_bytes();
                record.encode(*insert, token, body);
                shared.push(body.shared_bytes() - before);
            }
        });
        for (((sequence, insert), record), shared) in (first..).zip(&inserts).zip(records).zip(shared) {
            self.ack_history.append(sequence, record.stream.connection, &record.receipts);
            if self.records.append(sequence, *insert, record, *keep_bytes) {
                self.batch.is_kept(shared);
            }
        }
        inserts
    }

    /// Writes and syncs what was appended and settled since the last success. Only when this has succeeded may any of it be
    /// acknowledged. After an error the entries remain: the next call writes them to a new segment, since a file whose sync
    /// has failed may lose its bytes and yet report success for the next sync.
    pub fn commit(&mut self) -> io::Result<()> {
        // Never write into a directory that another program put there.
        self.check()?;
        if self.batch.is_empty() {
            (self.is_failing, self.is_disk_full) = (false, false);
            return Ok(());
        }
        let written = self.write_batch();
        self.is_failing = written.is_err();
        self.is_disk_full = written.as_ref().is_err_and(is_storage_full);
        if written.is_err() {
            self.abandon_segment();
        }
        written
    }

    /// Whether the directory and the segment in it are still there. An error means that nothing more may be acknowledged.
    pub fn check(&mut self) -> io::Result<()> {
        let file = self.segments.file.as_ref();
        let checked = self.disk.check().and_then(|()| file.map_or(Ok(()), |file| file.check()));
        self.is_gone = checked.is_err();
        if self.is_gone {
            self.abandon_segment();
        }
        checked
    }

    fn write_batch(&mut self) -> io::Result<()> {
        if self.segments.all.back().is_some_and(|segment| segment.bytes >= self.segment_bytes) {
            // The next segment and the state file say what is synced in it, so nothing is lost without its END entry.
            let _ = self.end_segment();
            // An INSERT reaches over two segments at most. On a full disk it may wait for a record that does not fit, and must
            // not keep the other segments from being deleted.
            self.queue.close();
        }
        if self.segments.file.is_none() {
            self.begin_segment()?;
        }
        let Segments { all, file: Some(file), .. } = &mut self.segments else { return Ok(()) };
        let Some(segment) = all.back_mut() else { return Ok(()) };
        segment.inserts.extend(self.batch.records().filter_map(|sequence| self.records.insert_of(sequence)));
        let mut extent = segment.extent;
        if segment.bytes == 0 {
            let mut body = Vec::new();
            segment.previous.encode(&mut body);
            let mut begin = WriteBatch::default();
            begin.push(EntryKind::Begin, 0, |out| out.put(&body));
            let max_bytes = self.segment_bytes as usize / 8;
            let history = self.ack_history.entry(segment.id.marker, self.next_sequence, max_bytes);
            begin.seal(segment.id.marker, 0).try_for_each(|piece| file.write(piece))?;
            file.write(&history)?;
            begin.extend(&mut extent);
            if !history.is_empty() {
                extent.push(EntryKind::Receipts, header_checksum(&history), history.len());
            }
        }
        let begin = extent.bytes;
        self.batch.seal(segment.id.marker, segment.bytes).try_for_each(|piece| file.write(piece))?;
        file.sync()?;
        self.batch.extend(&mut extent);
        segment.extent = extent;
        segment.bytes = extent.bytes;
        let id = segment.id;
        self.check()?;
        self.committed(id, begin);
        Ok(())
    }

    /// The batch is synced: it begins at offset `begin` of segment `id`.
    fn committed(&mut self, id: SegmentId, begin: u64) {
        self.commits += 1;
        self.ack_history.synced();
        self.ack_history_in = Some(id);
        let bytes = self.batch.len() as u64;
        let Log { segments, records, queue, batch, snapshot, .. } = self;
        for (at, header, count) in batch.drain() {
            match header.kind {
                EntryKind::Done => {
                    let settled = records.done_is_synced(header.sequence);
                    snapshot.open.remove(&settled);
                    settled.locations.into_iter().for_each(|location| segments.close_record(location));
                }
                _ => {
                    let location = Location { segment: id, at: begin + at as u64, len: header.len() as u32 };
                    for sequence in header.sequence..header.sequence + count {
                        let Some(synced) = records.synced(sequence, location) else { continue };
                        let (insert, messages, before) = synced;
                        match before {
                            Some(before) => segments.close_record(before),
                            None => snapshot.open.add(messages),
                        }
                        segments.open_record(location);
                        queue.synced(insert);
                    }
                }
            }
        }
        snapshot.done.clear();
        snapshot.next_sequence = self.next_sequence;
        self.write_state();
        // On a disk that is nearly full the next batch may not fit. An INSERT that waits for it would keep what is here.
        if self.disk.free().is_some_and(|free| free < 4 * bytes + LOW_ROOM) {
            self.queue.close();
        }
    }

    /// Writes the state after the last commit, without a sync.
    fn write_state(&mut self) {
        if let Some(last) = self.segments.all.back() {
            (self.snapshot.last, self.snapshot.extent) = (last.id, last.extent);
        }
        self.state.write(&mut self.snapshot);
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        // Before the first segment, so that the state file is only missing if a user removed it.
        if !self.state.exists() {
            self.state.write_durably(&self.disk, &mut self.snapshot)?;
        }
        self.segment_bytes = self.options.segment_bytes;
        if let Some(free) = self.disk.free() {
            // Space comes back one segment at a time.
            self.segment_bytes = self.segment_bytes.min(((free + self.bytes()) / 8).max(LOW_ROOM));
        }
        let id = SegmentId::new(self.options.open_id, self.segments.next_number);
        self.segments.next_number += 1;
        let file = self.disk.create(&id.to_string())?;
        self.segments.begin(id, file);
        // A synced file can still be lost if its name is not synced.
        self.disk.sync_names()
    }

    /// Writes in the last segment that all of it was synced, and closes it.
    fn end_segment(&mut self) -> io::Result<()> {
        let Segments { all, file, .. } = &mut self.segments;
        let (Some(mut file), Some(segment)) = (file.take(), all.back_mut()) else { return Ok(()) };
        let end = Header { synced: segment.bytes, ..Header::new(EntryKind::End, 0, &[]) };
        let end = end.to_bytes(segment.id.marker);
        file.write(&end)?;
        file.sync()?;
        segment.extent.push(EntryKind::End, header_checksum(&end), HEADER);
        segment.bytes = segment.extent.bytes;
        self.write_state();
        Ok(())
    }

    /// Closes the last segment as it is. Bytes that were synced in it stay valid.
    fn abandon_segment(&mut self) {
        let (Some(mut file), Some(segment)) = (self.segments.file.take(), self.segments.all.back()) else {
            return;
        };
        // Bytes that were not synced may take up the last space.
        if segment.extent.bytes > 0 {
            let _ = file.truncate(segment.extent.bytes);
        } else if self.disk.remove(&segment.id.to_string()).is_ok() {
            self.segments.all.pop_back();
        }
    }

    /// All rows of an INSERT are in ClickHouse or kept as dead letters.
    pub fn done(&mut self, id: u64) {
        let Some(settled) = self.queue.settle(id) else { return };
        self.records.done(id, &settled.records);
        self.batch.push(EntryKind::Done, id, |_| ());
    }

    /// Commits, and ends the log so that a truncated one can be distinguished from it. The next start
    /// finds the records that are not settled.
    pub fn close(mut self) -> io::Result<()> {
        if let Err(error) = self.commit() {
            self.settle_without_room();
            return Err(error);
        }
        self.end_segment()
    }

    /// Ends the log without what was appended since the last commit. INSERTs that are done are noted.
    pub fn close_without_batch(mut self) -> io::Result<()> {
        self.check()?;
        self.settle_without_room();
        Ok(())
    }

    /// Whether nothing more may be appended: `maxBytes` is reached, or the disk does not take what was appended before.
    pub fn is_full(&self) -> bool {
        self.is_failing || self.is_gone || self.is_out_of_room()
    }

    pub(super) fn is_out_of_room(&self) -> bool {
        self.bytes() + self.batch.len() as u64 >= self.options.max_bytes
    }

    /// Whether [`Log::commit`] has anything to do.
    pub fn has_uncommitted(&self) -> bool {
        !self.batch.is_empty()
    }

    /// The broker's session of a connection as it is known, as far as it is synced.
    pub fn session(&self, connection: u32) -> Option<&SessionHistory> {
        self.ack_history.session(connection)
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.segments.bytes()
    }

    pub fn segments(&self) -> usize {
        self.segments.all.len()
    }

    /// The receive time of the oldest message that is not settled.
    pub fn oldest(&self) -> Option<SystemTime> {
        self.queue.oldest()
    }

    /// The streams of records that are not done.
    pub fn open_streams(&self) -> impl Iterator<Item = &StreamKey> {
        self.queue.open_streams()
    }

    /// Records that are not done.
    pub fn open_records(&self) -> usize {
        self.records.len()
    }

    /// Bytes in memory: kept records, entries that are not written yet, what is known of records and INSERTs, and what was read
    /// ahead.
    pub fn memory_bytes(&self) -> usize {
        let known = self.records.memory_bytes() + self.queue.memory_bytes();
        known + self.batch.memory_bytes() + self.reader.memory_bytes()
    }

    /// Bytes of records that are to be read back.
    pub fn stored_bytes(&self) -> usize {
        self.records.stored_bytes()
    }

    /// When [`Log::take`] may return an INSERT that it does not return now, if nothing else happens.
    pub fn due_at(&self, now: Instant) -> Option<Instant> {
        self.queue.due_at(now)
    }

    /// Records that were quarantined since the last call.
    pub fn take_damages(&mut self) -> Vec<CorruptRange> {
        std::mem::take(&mut self.reader.corrupt)
    }
}
